"""pyhf as the independent reference, and small workspaces with every modifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyhf
import pytest

from difana.likelihood import Model

SETTINGS = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}


class Reference:
    """A workspace read by pyhf, and the translation of parameters and data to its order."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.workspace = pyhf.Workspace(spec)
        self.model = self.workspace.model(modifier_settings=SETTINGS)
        self.observed = np.asarray(self.workspace.data(self.model))

    def params(self, model: Model, values: np.ndarray) -> np.ndarray:
        out = np.full(self.model.config.npars, np.nan)
        for name, start, size, _ in model.structure.sets:
            out[self.model.config.par_slice(name)] = values[start : start + size]
        return out

    def data(self, model: Model, values: np.ndarray) -> np.ndarray:
        """Reorder the auxiliary part: pyhf has its own order of constraints."""
        place = {int(p): model.bins + i for i, p in enumerate(model.structure.constrained)}
        starts = {name: (start, size) for name, start, size, _ in model.structure.sets}
        order = list(range(model.bins))
        for name in self.model.config.auxdata_order:
            start, size = starts[name]
            order += [place[start + i] for i in range(size)]
        return np.asarray(values)[order]

    def logpdf(self, model: Model, params: np.ndarray, data: np.ndarray) -> float:
        return float(self.model.logpdf(self.params(model, params), self.data(model, data))[0])

    def expected(self, model: Model, params: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.expected_data(self.params(model, params)))


def random_points(
    model: Model, data: jnp.ndarray, seed: int, number: int, spread: float = 1.5
) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Return random parameters on both sides of the interpolation border, and random data."""
    rng = np.random.default_rng(seed)
    params, sets = [], []
    auxiliary = np.asarray(data[model.bins :])
    for _ in range(number):
        point = np.empty(len(model.parameters))
        for _, start, size, kind in model.structure.sets:
            entries = slice(start, start + size)
            point[entries] = {
                "free": rng.uniform(0.1, 3.0, size),
                "normal": rng.normal(0.0, spread, size),
                "gamma": rng.uniform(0.6, 1.4, size),
                "poisson": rng.uniform(0.6, 1.4, size),
                "lumi": rng.uniform(0.9, 1.1, size),
            }[kind]
        params.append(point)
        main = rng.poisson(60.0, model.bins)
        sets.append(np.concatenate([main, auxiliary * rng.uniform(0.8, 1.2, auxiliary.size)]))
    return jnp.asarray(np.array(params)), jnp.asarray(np.array(sets))


def modifier(kind: str, name: str, data: Any = None) -> dict[str, Any]:
    return {"name": name, "type": kind, "data": data}


def sample(name: str, data: Sequence[float], *modifiers: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "data": list(data), "modifiers": list(modifiers)}


def workspace(
    channels: dict[str, Sequence[dict[str, Any]]],
    observed: dict[str, Sequence[float]],
    parameters: Sequence[dict[str, Any]] = (),
    poi: str = "mu",
) -> dict[str, Any]:
    return {
        "channels": [{"name": name, "samples": list(s)} for name, s in channels.items()],
        "observations": [{"name": name, "data": list(d)} for name, d in observed.items()],
        "measurements": [{"name": "meas", "config": {"poi": poi, "parameters": list(parameters)}}],
        "version": "1.0.0",
    }


LUMI = {
    "name": "lumi",
    "auxdata": [1.0],
    "bounds": [[0.5, 1.5]],
    "inits": [1.0],
    "sigmas": [0.03],
}
MU = modifier("normfactor", "mu")


def everything() -> dict[str, Any]:
    """Two channels, five samples, all seven modifiers, nuisances shared across both."""
    norm = modifier("normsys", "norm", {"hi": 1.2, "lo": 0.85})
    shape = modifier(
        "histosys", "shape", {"hi_data": [55.0, 41.0, 33.0], "lo_data": [46.0, 38, 28]}
    )
    both = modifier("normsys", "both", {"hi": 0.9, "lo": 1.15})
    return workspace(
        {
            # not in alphabetical order, as files often are
            "SR": [
                sample(
                    "signal",
                    [12.0, 11.0, 4.0],
                    MU,
                    modifier("lumi", "lumi"),
                    modifier("normsys", "norm", {"hi": 1.1, "lo": 0.92}),
                ),
                sample(
                    "ttbar",
                    [50.0, 40.0, 30.0],
                    norm,
                    shape,
                    modifier("staterror", "stat_SR", [3.0, 2.0, 0.0]),
                ),
                sample(
                    "fakes",
                    [9.0, 0.0, 5.0],
                    modifier("shapesys", "fakerate", [3.0, 1.0, 0.0]),
                    modifier("staterror", "stat_SR", [1.0, 0.0, 0.0]),
                    # one name, two kinds of modifier: one nuisance parameter
                    modifier("histosys", "both", {"hi_data": [10.0, 1, 5], "lo_data": [7.0, 0, 6]}),
                ),
            ],
            "CR": [
                sample("ttbar", [80.0, 70.0, 60.0], norm, both, modifier("shapefactor", "free")),
                sample(
                    "fakes", [5.0, 6.0, 7.0], modifier("lumi", "lumi"), modifier("normfactor", "k")
                ),
            ],
        },
        {"SR": [70.0, 49.0, 40.0], "CR": [90.0, 71.0, 72.0]},
        [LUMI, {"name": "k", "inits": [1.3], "bounds": [[0.0, 5.0]], "fixed": True}],
    )


@pytest.fixture(scope="session")
def reference() -> type[Reference]:
    return Reference


@pytest.fixture(scope="session")
def points() -> Callable[..., tuple[jnp.ndarray, jnp.ndarray]]:
    return random_points


@pytest.fixture(scope="session")
def specs() -> dict[str, dict[str, Any]]:
    """Small workspaces, one a feature, and one with everything."""
    signal = sample("signal", [12.0, 11.0], MU)

    def one(*modifiers: dict[str, Any], parameters: Sequence[dict[str, Any]] = ()) -> dict:
        channels = {"SR": [signal, sample("background", [50.0, 52.0], *modifiers)]}
        return workspace(channels, {"SR": [51.0, 48.0]}, parameters)

    return {
        "normfactor": one(modifier("normfactor", "k")),
        "normsys": one(modifier("normsys", "norm", {"hi": 1.3, "lo": 0.8})),
        "histosys": one(
            modifier("histosys", "shape", {"hi_data": [45.0, 60.0], "lo_data": [60.0, 50.0]})
        ),
        "staterror": one(modifier("staterror", "stat", [5.0, 0.0])),
        "lumi": one(modifier("lumi", "lumi"), parameters=[LUMI | {"auxdata": [1.02]}]),
        "shapesys": one(modifier("shapesys", "unc", [3.0, 7.0])),
        "shapesys_zero": one(modifier("shapesys", "unc", [10.0, 0.0])),
        "shapefactor": one(modifier("shapefactor", "free")),
        "settings": one(
            modifier("normsys", "norm", {"hi": 1.3, "lo": 0.8}),
            modifier("shapefactor", "free"),
            parameters=[
                {"name": "norm", "auxdata": [0.5], "inits": [0.1]},
                {"name": "free", "inits": [1.0, 2.0], "bounds": [[0.1, 4.0], [0.2, 5.0]]},
                {"name": "mu", "bounds": [[-3.0, 20.0]]},
            ],
        ),
        "shared_across_types": workspace(
            {
                "SR": [
                    sample(
                        "signal",
                        [12.0, 11.0],
                        MU,
                        modifier("normsys", "syst", {"hi": 1.1, "lo": 0.9}),
                    ),
                    sample(
                        "background",
                        [50.0, 52.0],
                        modifier(
                            "histosys", "syst", {"hi_data": [51.0, 57], "lo_data": [44.0, 50]}
                        ),
                        modifier("normsys", "syst", {"hi": 1.05, "lo": 0.97}),
                    ),
                ],
                "CR": [
                    sample(
                        "background", [90.0], modifier("normsys", "syst", {"hi": 0.9, "lo": 1.2})
                    )
                ],
            },
            {"SR": [51.0, 48.0], "CR": [95.0]},
        ),
        "staterror_shared_by_samples": workspace(
            {
                "SR": [
                    sample("a", [12.0, 0.0], MU, modifier("staterror", "stat", [2.0, 0.0])),
                    sample("b", [30.0, 8.0], modifier("staterror", "stat", [3.0, 2.5])),
                    sample("c", [7.0, 1.0]),
                ]
            },
            {"SR": [51.0, 12.0]},
        ),
        "everything": everything(),
    }
