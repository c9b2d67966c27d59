"""The content of ``result.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from difana.analysis.config import AnalysisConfig
from difana.analysis.cuts import values_of
from difana.analysis.evaluate import Evaluated
from difana.analysis.folds import CrossFitted
from difana.analysis.load import Loaded
from difana.analysis.observable_of import described
from difana.analysis.observables import Expectation
from difana.analysis.optimised import Optimised
from difana.analysis.options import CutOptions
from difana.analysis.own_code import code_of
from difana.analysis.region_events import RegionEvents
from difana.analysis.statistics import Final
from difana.analysis.trained import digest_of
from difana.config import git_hash, versions
from difana.data import Sample
from difana.infer import notes


def summary_of(
    config: AnalysisConfig,
    loaded: Loaded,
    optimised: Optimised | CrossFitted,
    found: Evaluated,
) -> dict[str, Any]:
    """Return the content of ``result.json``: no times, no absolute paths."""
    comparison, final, conditions = found.comparison, found.statistics, found.conditions
    best = comparison[-1]
    if isinstance(optimised, CrossFitted):
        training = _cross_fitted(optimised)
        splits = [
            {f"fold {f}": own.regions[r].test for f, own in enumerate(loaded.folds, 1)}
            for r in range(len(loaded.regions))
        ]
    else:
        training = _trained(optimised)
        splits = [
            {"train": own.train, "validation": own.validation, "test": own.test}
            for own in loaded.regions
        ]
    uncertainties = np.asarray(final.fit.uncertainties)
    observed = None
    if final.observed is not None:
        own = final.observed
        observed = {
            "limit": own.limits.observed,
            "expected_limits": own.limits.expected,
            "cls": own.cls.observed,
            "significance": own.significance.observed,
            "status": own.significance.verdict,
        }
    instead = f"difana toys workspace.json --mu {best.median:.4g}"
    checked = notes(found.model, mu=best.median, fit=final.fit, instead=instead)
    return {
        "status": _status(best, optimised, final),
        "measurement": config.general.measurement,
        "regions": [own.name for own in loaded.regions],
        "poi": config.general.poi,
        "pois": config.general.pois,
        "intervals": {
            own.name: [
                float(x) for x in (own.interval.value, own.interval.lower, own.interval.upper)
            ]
            for own in final.interests
        },
        "plane": None if final.plane is None else final.plane.as_dict(),
        "limits": {
            "expected": best.limits,
            "cls": best.cls,
            "significance": best.significance,
            "status": best.status,
            "observed": observed,
            "others": _others(final, best),
            "control_fit": None if final.control is None else dataclasses.asdict(final.control),
        },
        "blinded": config.blinded,
        "edges": best.edges,
        "cuts": [
            {
                "variable": cut.variable,
                "side": cut.side,
                "start": cut.start,
                "value": {
                    region: values if config.folds else values[0]
                    for region, values in by_region.items()
                },
            }
            for cut, by_region in _cuts(config, optimised)
        ],
        "comparison": [
            {
                "name": entry.name,
                "bins": entry.bins,
                "observable": entry.observable,
                "limit": entry.median,
                "error": entry.error,
                "retained": entry.retained,
                "limits": entry.limits,
                "cls": entry.cls,
                "significance": entry.significance,
                "edges": entry.edges,
                "status": entry.status,
                "others": {name: dataclasses.asdict(own) for name, own in entry.others.items()},
                "notes": entry.notes,
            }
            for entry in comparison
        ],
        "training": training,
        "constraints": {
            condition.name: {
                "wanted": condition.wanted,
                "found": condition.found,
                "where": condition.where,
                "met": condition.met,
            }
            for condition in conditions
        },
        "fit": {
            "status": final.fit.message,
            "parameters": {
                name: [value, error]
                for name, value, error in zip(
                    final.fit.names, np.asarray(final.fit.params), uncertainties, strict=True
                )
            },
        },
        "samples": {
            own.name: _samples(own, parts)
            for own, parts in zip(loaded.regions, splits, strict=True)
        },
        "notes": [
            *loaded.notes,
            *(
                f"{key} is code: {own['name']} (sha256 {own['sha256'][:12]})"
                for key, own in code_of(config).items()
            ),
            *_blinding(config, final),
            *best.notes,
            *_cut_notes(config, optimised),
            *_better(comparison),
            *(f"{c}, on the test split" for c in conditions if not c.met),
            *([] if checked.ok else [checked.message]),
        ],
        "seed": config.general.seed,
        "config": config.echo,
        "code": code_of(config),
        "options": {
            "network": dataclasses.asdict(config.network),
            "training": dataclasses.asdict(config.training),
        },
        "versions": versions(),
        "git": git_hash(config.path.resolve().parent),
    }


def _others(final: Final, best: Expectation) -> dict[str, Any]:
    """Return the limits on the parameters of interest that are not the leading one."""
    found = {}
    for own in final.interests[1:]:
        observed = None
        if final.observed is not None:
            observed = {
                "limit": own.limits.observed,
                "expected_limits": own.limits.expected,
                "cls": own.cls.observed,
                "significance": own.significance.observed,
                "status": own.limits.verdict,
            }
        expected = best.others[own.name]
        found[own.name] = {
            "expected": expected.limits,
            "cls": expected.cls,
            "significance": expected.significance,
            "status": expected.status,
            "observed": observed,
            "control_fit": None if final.control is None else {"limits": own.limits.expected},
        }
    return found


def _samples(
    own: RegionEvents, splits: Mapping[str, Sequence[Sample]]
) -> dict[str, dict[str, Any]]:
    """Return yields and numbers of events of the samples in a trained region."""
    found: dict[str, dict[str, Any]] = {
        sample.name: {
            "yield": np.sum(np.asarray(sample.nominal.weights, np.float64)),
            "events": {name: len(part[i].nominal) for name, part in splits.items()},
        }
        for i, sample in enumerate(own.test)
    }
    nothing = {"yield": 0.0, "events": dict.fromkeys(splits, 0)}
    return found | {sample.name: nothing for sample in own.empty}


def _trained(optimised: Optimised) -> dict[str, Any]:
    """Return how one training ended, and what it found, by trained region."""
    names = [own.region for own in optimised.observables]
    return {
        "status": optimised.message,
        "bits": optimised.status,
        "diagnosis": optimised.diagnosis,
        "bandwidths": dict(zip(names, optimised.bandwidths, strict=True)),
        "edges": {own.region: np.asarray(own.edges, float) for own in optimised.observables},
        "digest": digest_of(optimised),
        "chosen": optimised.chosen,
        "baselines": dict(zip(names, map(described, optimised.baselines), strict=True)),
        "candidates": [
            {
                "name": own.name,
                "held_out": own.metric,
                "held_out_error": own.error,
                "weights": own.file,
                "regions": {
                    one.region: {
                        "edges": one.edges,
                        "network": described(one.net),
                        "cuts": values_of(one.net),
                    }
                    for one in own.observables
                },
            }
            for own in optimised.candidates
        ],
        "bins": _curves(optimised),
        "trees": {
            name: {
                "rounds": trees.rounds,
                "held_out": trees.held_out,
                "edges": trees.edges,
                "status": trees.status,
            }
            for name, trees in zip(names, optimised.trees, strict=False)
        },
    }


def _cross_fitted(found: CrossFitted) -> dict[str, Any]:
    """Return the same of all folds."""
    return {
        "status": found.message,
        "bits": found.status,
        "diagnosis": found.diagnosis,
        "chosen": found.chosen,
        "bins": _curves(found.folds[0]),
        "folds": [_trained(own) for own in found.folds],
    }


def _cuts(
    config: AnalysisConfig, optimised: Optimised | CrossFitted
) -> list[tuple[CutOptions, dict[str, list[float]]]]:
    """Return the cuts with the values of the reported observables by region, one a fold."""
    folds = optimised.folds if isinstance(optimised, CrossFitted) else (optimised,)
    rows = [{own.region: values_of(own.net) for own in fold.observables} for fold in folds]
    return [
        (cut, {name: [row[name][i] for row in rows] for name in rows[0]})
        for i, cut in enumerate(config.cuts)
    ]


def _cut_notes(config: AnalysisConfig, optimised: Optimised | CrossFitted) -> list[str]:
    """Return the values of the trained cuts in words."""
    found = []
    for cut, by_region in _cuts(config, optimised):
        for region, values in by_region.items():
            shown = " and ".join(f"{value:.5g}" for value in values)
            where = f" in region '{region}'" if len(by_region) > 1 else ""
            where += " in the folds" if config.folds else ""
            found.append(f"cut {cut} {shown}{where}, {cut.start:g} at the start")
    return found


def _curves(optimised: Optimised) -> dict[str, Any]:
    """Return the curves of limit against number of bins, by trained region and candidate."""
    rows = zip(optimised.observables, optimised.curves, strict=False)
    return {
        own.region: {name: dataclasses.asdict(curve) for name, curve in curves.items()}
        for own, curves in rows
        if curves
    }


def _better(comparison: Sequence[Expectation]) -> list[str]:
    """Return what did better than the reported observable on the test split."""
    own = comparison[-1]
    found = []
    for entry in comparison[:-1]:
        if entry.median < own.median:
            near = own.median - entry.median < np.hypot(entry.error, own.error)
            found.append(
                f"'{entry.name}' has the lower expected limit on the test split "
                f"({entry.median:.4g} for {own.median:.4g}; errors from the simulation "
                f"{entry.error:.2g} and {own.error:.2g}); '{own.observable}' was chosen on "
                f"held-out events{', and the two agree within errors' if near else ''}"
            )
    return found


def _blinding(config: AnalysisConfig, final: Final) -> list[str]:
    """Return what was not looked at, and what is expected after a fit to the rest."""
    if config.observed is None or not config.blinded:
        return []
    hidden = ", ".join(f"'{name}'" for name in config.blinded)
    text = f"blinded, no observed event of it was read: {hidden}"
    if final.control is None:
        return [f"{text}; expected limits with nuisances as before any fit"]
    own = final.control.limits
    fitted = ", ".join(f"'{r.name}'" for r in config.regions if r.name not in config.blinded)
    what = f"expected limit on {config.general.poi}, nuisances fitted without signal in {fitted}"
    return [f"{text}; {what}: {own[2]:.4g} ({own[1]:.4g} to {own[3]:.4g})"]


def _status(best: Expectation, optimised: Optimised | CrossFitted, final: Final) -> str:
    """Return ``ok``, or why the numbers of the trained observable cannot be trusted."""
    found = []
    if not optimised.ok:
        found.append(optimised.message)
    statuses = {"expected limit": best.status, "fit": final.fit.verdict}
    if (own := final.observed) is not None:
        statuses |= {"observed limit": own.limits.verdict, "observed CLs": own.cls.verdict,
                     "observed significance": own.significance.verdict}  # fmt: skip
    for name, other in best.others.items():
        statuses[f"expected limit on {name}"] = other.status
    for one in final.interests:
        statuses[f"interval of {one.name}"] = "ok" if one.interval.ok else one.interval.message
    if final.control is not None:
        statuses["expected limit after the control fit"] = final.control.status
    found += [f"{name}: {text}" for name, text in statuses.items() if text != "ok"]
    return "; ".join(found) or "ok"
