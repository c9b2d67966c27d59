"""Observed and five expected results, and notes on their validity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from difana.cli._options import option_of, same_source
from difana.cli._output import note
from difana.cli._workspace import BAND

if TYPE_CHECKING:
    from difana.likelihood import Model

_FEW = 5.0  # expected events of a bin below which asymptotic formulae are approximations


def chosen(observed: Any, expected: Any) -> dict[str, Any]:
    """Return what ``--observed`` or ``--expected`` leave, for JSON."""
    found = {} if option_of("expected") else {"observed": observed}
    return found if option_of("observed") else {**found, "expected": expected}


def band_rows(observed: float | None, expected: Sequence[float]) -> list[list[Any]]:
    """Return the rows of a table that ``--observed`` or ``--expected`` leave."""
    rows: list[list[Any]] = [] if observed is None else [["observed", observed]]
    if not option_of("observed"):
        rows += [[f"expected {n} sigma", x] for n, x in zip(BAND, expected, strict=True)]
    return rows


def note_few_events(
    model: Model, workspace: str, measurement: str | None, options: str, statistic: str
) -> None:
    """Say that a bin with signal expects few events, and which command to run instead."""
    import numpy as np

    s = model.structure  # in NumPy: eagerly, JAX would compile each step
    values = np.append(np.asarray(model.init), 1.0)
    values[model.poi_index] = 0.0
    rows = np.asarray(model.nominal) * np.prod(values[s.factors], axis=1)
    background = np.bincount(s.row_bin, rows, minlength=model.bins)
    steered = (s.factors == model.poi_index).any(axis=1) & (np.asarray(model.nominal) != 0)
    signal = np.bincount(s.row_bin, steered, minlength=model.bins) > 0
    few = np.flatnonzero(signal & (background < _FEW))
    if not few.size:
        return
    least = few[np.argmin(background[few])]
    channel = next(c for c in model.structure.channels if least < c.start + c.bins)
    more = f" ({few.size} bins expect less than {_FEW:g})" if few.size > 1 else ""
    command = [same_source(workspace, measurement), *([options] if options else [])]
    command += [f"--test-stat {statistic}"] * (statistic != "qtilde")
    place = f"channel '{channel.name}', bin {least - channel.start + 1}"
    note(
        f"{place} expects {background[least]:.3g} "
        f"background events{more}: the asymptotic formulae are approximations there. Check with: "
        f"difana toys {' '.join(command)}"
    )
