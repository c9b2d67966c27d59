"""From the files that a configuration names to unfolding problems: nominal, varied, binned."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from difana._errors import InputError, blame
from difana._numerics import safe_divide
from difana.config import paths_of
from difana.data import read_identifiers
from difana.unfold.config import (
    MeasuredSection,
    SimulationSection,
    SystematicEntry,
    UnfoldingConfig,
)
from difana.unfold.problem import UnfoldingProblem, shifted_level, unfolding_problem
from difana.unfold.response import Response, response


def load_problem(config: UnfoldingConfig) -> UnfoldingProblem:
    """Return the inputs that a configuration describes.

    Args:
        config: What ``read_unfolding`` returned.

    Returns:
        The checked problem.

    Raises:
        InputError: If a file, branch or number is bad; names section and culprit.
    """
    observables, sim = config.observables, config.simulation
    columns = {
        "PassGen": sim.pass_gen,
        "PassReco": sim.pass_reco,
        "GenWeight": sim.gen_weight,
        "RecoWeight": sim.reco_weight or sim.gen_weight,
    }
    columns |= {f"Gen {entry.name}": entry.gen for entry in observables}
    columns |= {f"Reco {entry.name}": entry.reco for entry in observables}
    table = _read(config, "Simulation", sim, columns)
    seen = {f"Reco {entry.name}": entry.data or entry.reco for entry in observables}

    def measured(name: str, section: MeasuredSection) -> tuple[np.ndarray, np.ndarray]:
        found = _read(config, name, section, {"Weight": section.weight, **seen})
        return np.stack([found[name] for name in seen], axis=1), found["Weight"]

    data, data_weights = measured("Data", config.data)
    background, background_weights = None, None
    if config.background is not None:
        background, background_weights = measured("Background", config.background)
    with blame(f"{config.path}, Simulation"):
        return unfolding_problem(
            np.stack([table[f"Gen {entry.name}"] for entry in observables], axis=1),
            np.stack([table[f"Reco {entry.name}"] for entry in observables], axis=1),
            data,
            pass_gen=table["PassGen"].astype(bool),
            pass_reco=table["PassReco"].astype(bool),
            gen_weights=table["GenWeight"],
            reco_weights=table["RecoWeight"],
            data_weights=data_weights,
            background=background,
            background_weights=background_weights,
            names=tuple(entry.name for entry in observables),
            units=tuple(entry.unit for entry in observables),
        )


def varied(
    config: UnfoldingConfig, problem: UnfoldingProblem, entry: SystematicEntry
) -> UnfoldingProblem:
    """Return the problem with the weights and the detector level of a systematic."""
    sim = config.simulation
    columns = {
        "GenWeight": entry.gen_weight or sim.gen_weight,
        "RecoWeight": entry.reco_weight or entry.gen_weight or sim.reco_weight or sim.gen_weight,
        "PassReco": entry.pass_reco or "1 > 0",
    }
    if entry.moves:
        seen = {other.name: other.reco for other in config.observables} | dict(entry.reco)
        columns |= {f"Reco {name}": text for name, text in seen.items()}
    table = _read(config, "Simulation", sim, columns)
    where = f"systematic '{entry.name}'"
    for name in ("GenWeight", "RecoWeight"):
        if not np.isfinite(table[name]).all():
            raise InputError(f"{where}: {name} is not finite")
    weights = (jnp.asarray(table["GenWeight"]), jnp.asarray(table["RecoWeight"]))
    problem = eqx.tree_at(lambda p: (p.gen_weights, p.reco_weights), problem, weights)
    if not entry.moves:
        return problem
    values = np.stack([table[f"Reco {other.name}"] for other in config.observables], axis=1)
    passed = table["PassReco"].astype(bool) if entry.pass_reco is not None else None
    with blame(entry.where):
        level = shifted_level(problem, name=where, observables=values, pass_reco=passed)
    return eqx.tree_at(
        lambda p: (p.reco, p.pass_reco), problem, (level["observables"], level["pass_reco"])
    )


def reweighted(
    shifted: UnfoldingProblem, signed: UnfoldingProblem, positive: UnfoldingProblem
) -> UnfoldingProblem:
    """Return a variation of signed weights as the same variation of positive ones."""
    weights = lambda p: (p.gen_weights, p.reco_weights)  # noqa: E731
    new = tuple(
        p * safe_divide(v, s, 1.0)
        for v, s, p in zip(*(weights(q) for q in (shifted, signed, positive)), strict=True)
    )
    return eqx.tree_at(weights, shifted, new)


def responses(config: UnfoldingConfig, problem: UnfoldingProblem) -> dict[str, Response]:
    """Return the binned problems by name of the observable, or one of all of them (``joint``)."""
    gen = [np.asarray(entry.edges) for entry in config.observables]
    reco = [np.asarray(entry.reco_edges or entry.edges) for entry in config.observables]
    if config.general.joint:
        return {"joint": response(problem, gen_edges=gen, reco_edges=reco)}
    found = {}
    columns = lambda p: (p.gen, p.reco, p.data, p.background)  # noqa: E731
    for i, entry in enumerate(config.observables):
        own = [None if x is None else x[:, i : i + 1] for x in columns(problem)]
        one = eqx.tree_at(columns, problem, own, is_leaf=lambda x: x is None)
        one = dataclasses.replace(one, names=(entry.name,), units=(entry.unit,))
        with blame(f"{entry.where}, Observables, '{entry.name}'"):
            found[entry.name] = response(one, gen_edges=gen[i], reco_edges=reco[i])
    return found


def _read(
    config: UnfoldingConfig,
    name: str,
    section: SimulationSection | MeasuredSection,
    columns: dict[str, str],
) -> dict[str, np.ndarray]:
    """Return columns as float64, numbers that are not finite included."""
    with blame(f"{config.path}, {name}"):
        found = read_identifiers(
            paths_of(section.files, beside=config.path, folder=config.general.input_path),
            columns=columns,
            tree=section.tree or config.general.tree,
            selection=section.filter if isinstance(section, MeasuredSection) else None,
        )
    return {name: np.asarray(values, np.float64) for name, values in found.items()}
