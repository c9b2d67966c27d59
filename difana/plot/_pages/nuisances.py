"""What the fit made of the nuisance parameters: pulls, ranking, correlations."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from difana._rounding import decimals_of, shown
from difana.plot._pages.look import Look
from difana.plot.correlation import correlation
from difana.plot.impacts import impacts
from difana.plot.pulls import pulls
from difana.plot.report import Section

if TYPE_CHECKING:
    from difana.analysis import Reading

_R = TypeVar("_R")
_SHOWN = 25
_ROWS = 15
_BINS = 6  # factors of single bins


def nuisances_section(found: Reading, look: Look) -> Section | None:
    """Return pulls, ranking and correlations of the fit that `difana.analysis.reading` chose."""
    if not found.impacts.names:
        return None
    figures = []
    named = _named(found.pulls, look)
    if any("[" not in name for name in named.names):
        picture = pulls(named, most=_SHOWN, title=look.title(found.label), label=look.label)
        caption = (
            "Pulls: best fit against the centre of its constraint, in units of its width. A bar "
            "shorter than one is a constraint: the fit knows more than the prior."
        )
        figures.append(look.picture("pulls", picture, caption))
    ranked = dataclasses.replace(_named(found.impacts, look), poi=look.mu)
    drawn = impacts(ranked, most=20, bins=_BINS, title=look.title(found.label), label=look.label)
    caption = (
        f"Ranking by the change of {look.said(look.poi)} when the parameter is held one standard "
        "deviation from its best fit: filled after the fit, hollow before it. Points: pulls."
        f" Of the statistical factors of single bins the largest {_BINS} are drawn."
    )
    figures.append(look.picture("impacts", drawn, caption))
    fit = _named(found.fit, look)
    if (threshold := _threshold(np.asarray(fit.correlation), fit.names)) is not None:
        drawn = correlation(
            fit, threshold=threshold, bins=False, title=look.title(found.label), label=look.label
        )
        caption = (
            f"Correlations of the fit; parameters with none above {threshold:.2g} are left out."
        )
        figures.append(look.picture("correlation", drawn, caption))
    parts, poi = found.impacts, look.said(look.poi)
    sizes = [float(x) for x in (parts.uncertainty, parts.statistical, parts.systematic)]
    value, *errors = (shown(x, decimals_of(sizes)) for x in (float(parts.value), *sizes))
    text = "{} {} = {} ± {}, of which ± {} statistical and ± {} systematic.".format(
        found.words, poi, value, *errors
    )
    if parts.group_names:
        error = shown(float(parts.groups_auxiliary[0]), decimals_of(sizes))
        text = f"{text[:-1]}, the {parts.group_names[0]} (± {error}) included."
    if not parts.ok:
        text += f" Status: {parts.message}."
    return Section(
        "Nuisance parameters",
        text,
        columns=["parameter", "pull", "constraint", f"impact on {poi}: down", "up"],
        rows=_rows(found, look),
        figures=figures,
    )


def _rows(found: Reading, look: Look) -> list[list[Any]]:
    """Return the largest impacts."""
    ranked, rows = found.impacts, []
    decimals = max(decimals_of([float(ranked.uncertainty)]) + 1, 0)
    pulled = dict(zip(found.pulls.names, range(len(found.pulls.names)), strict=True))
    single = 0
    for i in ranked.ranking:
        name = ranked.names[i]
        single += "[" in name
        if len(rows) == _ROWS or ("[" in name and single > _BINS):
            continue
        pull, ratio = "", ""
        if name in pulled:
            place = pulled[name]
            pull, ratio = (
                f"{float(x[place]):.2f}" for x in (found.pulls.pulls, found.pulls.ratios)
            )
        down, up = (float(x[i]) for x in (ranked.postfit_down, ranked.postfit_up))
        changes = (f"{x:+.{decimals}f}" for x in (down, up))
        rows.append([look.said(name), pull, ratio, *changes])
    return rows


def _named(result: _R, look: Look) -> _R:
    """Return a result with the names that pictures show."""
    names = tuple(look.called(name) for name in getattr(result, "names"))  # noqa: B009
    return dataclasses.replace(result, names=names)  # pyright: ignore[reportArgumentType]


def _threshold(matrix: np.ndarray, names: tuple[str, ...]) -> float | None:
    """Return a threshold that leaves some parameters, and not too many; None if all are alone."""
    own = np.array(["[" not in name for name in names])
    sizes = np.abs(np.where(np.eye(len(names), dtype=bool), 0.0, matrix))[np.ix_(own, own)]
    if sizes.shape[0] < 2 or sizes.max() < 0.005:
        return None
    largest = np.sort(sizes.max(axis=1))[::-1]
    few = largest[_SHOWN - 1] if largest.size > _SHOWN else 0.0
    return float(max(min(0.2, largest[1]), few))
