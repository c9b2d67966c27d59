"""What of a result is published: yields, limits and scan as HEPData tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from difana.analysis.hepdata import Table, Uncertainty, Variable, yields_title

if TYPE_CHECKING:
    from difana.analysis.regions import RegionYields
    from difana.analysis.result import AnalysisResult
    from difana.analysis.statistics import Scan


def hepdata_tables(result: AnalysisResult) -> tuple[Table, ...]:
    """Return the tables of an analysis: yields before and after the fit, limits, CLs scan.

    Args:
        result: What `run` returned.
    """
    poi = result.summary["poi"]
    found = [_yields(region, when) for region in result.regions for when in ("prefit", "postfit")]
    found += [_limits(result, poi), _scan(result.statistics.scan, poi, "CLs scan")]
    others = result.statistics.interests[1:]
    return (*found, *(_scan(own.scan, own.name, f"CLs scan of {own.name}") for own in others))


def _yields(region: RegionYields, when: str) -> Table:
    rows = getattr(region, when)
    total = np.sum(list(rows.values()), axis=0)
    errors = getattr(region, f"{when}_errors")
    columns = [
        Variable(name, values, qualifiers=(("Sample", name),))
        for name, values in rows.items()
        if when == "postfit" or name not in region.signal
    ]
    columns += [
        Variable(f"{name} at unit strength", values, qualifiers=(("Sample", name),))
        for name, values in region.signal.items()
    ]
    columns.append(Variable("total", total, uncertainties=(Uncertainty("total", errors),)))
    columns.append(
        Variable("data" if region.observed else "Asimov data, background only", region.data)
    )
    word = {"prefit": "before", "postfit": "after"}[when]
    return Table(
        yields_title(region.name, when),
        f"Expected events in region {region.name} {word} the fit. The uncertainty of the total "
        "holds all nuisance parameters with their correlations"
        + ("; the signal is left out of it." if when == "prefit" else "."),
        (Variable(region.xlabel, region.edges),),
        tuple(columns),
        keywords={"observables": ["N"]},
    )


def _bands(median: Any, limits: np.ndarray) -> tuple[Uncertainty, ...]:
    return tuple(
        Uncertainty(f"{n} sigma", limits[:, 2 + n] - median, limits[:, 2 - n] - median)
        for n in (1, 2)
    )


def _limits(result: AnalysisResult, poi: str) -> Table:
    shown = [entry for entry in result.comparison if entry.limits]
    limits = np.array([entry.limits for entry in shown])
    level = (("Confidence level", "95 %"), ("Method", "CLs, asymptotic"))
    columns = [
        Variable(
            f"expected upper limit on {poi}",
            limits[:, 2],
            uncertainties=_bands(limits[:, 2], limits),
            qualifiers=level,
        )
    ]
    for name in shown[0].others if shown else ():
        own = np.array([entry.others[name].limits for entry in shown])
        columns.append(
            Variable(
                f"expected upper limit on {name}",
                own[:, 2],
                uncertainties=_bands(own[:, 2], own),
                qualifiers=level,
            )
        )
    observed = result.summary["limits"]["observed"]
    if observed is not None:
        values = [observed["limit"] if e is result.trained else float("nan") for e in shown]
        columns.append(Variable(f"observed upper limit on {poi}", values, qualifiers=level))
    columns.append(Variable("expected significance", [entry.significance for entry in shown]))
    return Table(
        "Limits",
        f"Upper limits on {poi} for each observable, in hard bins of events that were not used in "
        "the training. Errors: bands of the background-only hypothesis.",
        (Variable("observable", [entry.name for entry in shown]),),
        tuple(columns),
        keywords={"observables": ["CLS"]},
    )


def _scan(scan: Scan, poi: str, title: str) -> Table:
    expected = np.asarray(scan.expected)

    def columns() -> Iterator[Variable]:
        median = expected[:, 2]
        yield Variable("expected CLs", median, uncertainties=_bands(median, expected))
        if scan.observed is not None:
            yield Variable("observed CLs", scan.observed)

    return Table(
        title,
        f"CLs against {poi}; values below 0.05 are excluded at 95 % confidence level.",
        (Variable(poi, scan.mu),),
        tuple(columns()),
        keywords={"observables": ["CLS"]},
    )
