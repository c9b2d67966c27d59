"""Observed and five expected results, and notes on their validity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from difana.cli._options import option_of, same_source
from difana.cli._output import note
from difana.cli._workspace import BAND

if TYPE_CHECKING:
    from difana.infer import Inference


def chosen(observed: Any, expected: Any) -> dict[str, Any]:
    """Return what ``--observed`` or ``--expected`` leave, for JSON."""
    found = {} if option_of("expected") else {"observed": observed}
    return found if option_of("observed") else {**found, "expected": expected}


def band_rows(observed: Any, expected: Any) -> list[list[Any]]:
    """Return the rows of a table that ``--observed`` or ``--expected`` leave."""
    rows: list[list[Any]] = [] if observed is None else [["observed", observed]]
    if not option_of("observed"):
        rows += [[f"expected {n} sigma", x] for n, x in zip(BAND, expected, strict=True)]
    return rows


def note_validity(
    inference: Inference,
    workspace: str,
    measurement: str | None,
    options: str,
    *,
    statistic: str,
    mu: float = 1.0,
    sigmas: float = 2.0,
) -> None:
    """Say where the asymptotic formulae are beyond their range, and which command to run instead.

    Args:
        inference: Model and data.
        workspace: The workspace as given.
        measurement: Its measurement as given.
        options: What asks ``difana toys`` the same question.
        statistic: The statistic.
        mu: Tested value.
        sigmas: How far in the tail the formulae were used, in standard deviations.
    """
    if not math.isfinite(mu):  # no limit was found
        return
    from difana.infer import notes

    command = [same_source(workspace, measurement), *([options] if options else [])]
    command += [f"--test-stat {statistic}"] * (statistic != "qtilde")
    found = notes(
        inference.model,
        inference.data,
        mu=mu,
        statistic=statistic,
        sigmas=sigmas,
        instead=f"difana toys {' '.join(command)}",
    )
    if not found.ok:
        note(found.message)
