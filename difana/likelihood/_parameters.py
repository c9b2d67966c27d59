"""Starting values, bounds and constraints of the parameters of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import ModelError, nearest
from difana.likelihood.modifiers import Correlation, Parameter

DEFAULTS = {  # init, lower, upper: those of pyhf
    "free": (1.0, 0.0, 10.0),
    "normal": (0.0, -5.0, 5.0),
    "gamma": (1.0, 1e-10, 10.0),
    "poisson": (1.0, 1e-10, 10.0),
    "lumi": (1.0, 0.0, 10.0),
}
_USUAL = {  # constraint of each kind of parameter
    "free": "none",
    "normal": "gaussian",
    "gamma": "gaussian",
    "poisson": "poisson",
    "lumi": "gaussian",
}


@dataclasses.dataclass
class Settings:
    """What the parameters are given, in lists of parts; entries of ``constraints`` are names."""

    names: list[str] = dataclasses.field(default_factory=list)
    fixed: list[bool] = dataclasses.field(default_factory=list)
    init: list[Any] = dataclasses.field(default_factory=list)
    lower: list[Any] = dataclasses.field(default_factory=list)
    upper: list[Any] = dataclasses.field(default_factory=list)
    constrained: list[int] = dataclasses.field(default_factory=list)
    constraints: list[str] = dataclasses.field(default_factory=list)
    centers: list[Any] = dataclasses.field(default_factory=list)
    widths: list[Any] = dataclasses.field(default_factory=list)


def settings_of(
    sets: Mapping[str, tuple[int, int, str]],
    vectors: Collection[str],
    parameters: Sequence[Parameter],
) -> Settings:
    """Return the settings of all parameters: the defaults, replaced by the given ones.

    Args:
        sets: First parameter, size and kind of each set.
        vectors: Names of the sets with one parameter a bin.
        parameters: The given settings.

    Raises:
        ModelError: Names the parameter at fault.
    """
    given: dict[str, Parameter] = {}
    for setting in parameters:
        if setting.name in given:
            raise ModelError(f"parameter '{setting.name}' is configured twice")
        given[setting.name] = setting
    unknown = given.keys() - sets.keys()
    if unknown:
        name = sorted(unknown)[0]
        raise ModelError(f"no modifier is called '{name}'.{nearest(name, sets)}")
    found = Settings()
    for name, (start, size, kind) in sets.items():
        setting = given.get(name, Parameter(name))
        default, low, high = DEFAULTS[kind]
        bounds: Any = np.array([[low, high]]) if setting.bounds is None else setting.bounds
        bounds = np.broadcast_to(np.reshape(np.asarray(bounds, float), (-1, 2)), (size, 2))
        if (bounds[:, 0] >= bounds[:, 1]).any():
            raise ModelError(f"parameter '{name}': lower bound is not below upper bound")
        if kind == "lumi" and (setting.auxdata is None or setting.sigma is None):
            raise ModelError(
                f"lumi '{name}' needs its value and width: Parameter('{name}', auxdata=..., "
                "sigma=...)"
            )
        if kind == "lumi" and setting.init is None:
            setting = dataclasses.replace(setting, init=setting.auxdata)
        found.names += [f"{name}[{i}]" for i in range(size)] if name in vectors else [name]
        found.fixed += [setting.fixed] * size
        found.init.append(_spread(setting.init, default, name, size))
        found.lower.append(bounds[:, 0])
        found.upper.append(bounds[:, 1])
        constraint = _constraint(setting, kind)
        if constraint != "none":
            found.centers.append(_spread(setting.auxdata, default, name, size))
            found.widths.append(_spread(setting.sigma, 1.0, name, size))
            found.constrained += range(start, start + size)
            found.constraints += [constraint] * size
    return found


def _spread(value: Any, default: float, name: str, size: int) -> Any:
    """Return one value for each parameter of a set."""
    value = default if value is None else value
    shape = np.shape(np.squeeze(value) if size == 1 else value)
    if shape not in ((), (size,)):
        raise ModelError(f"parameter '{name}': {shape} values given for {size}")
    full = jnp.broadcast_to if isinstance(value, jax.Array) else np.broadcast_to
    return full(value, (size,))


def _constraint(setting: Parameter, kind: str) -> str:
    """Return the kind of constraint of one parameter set."""
    found = _USUAL[kind] if setting.constraint is None else setting.constraint
    if found not in ("gaussian", "poisson", "lognormal", "none"):
        raise ModelError(
            f"parameter '{setting.name}': no constraint '{found}'; there are gaussian, poisson, "
            "lognormal, none"
        )
    if found in ("poisson", "lognormal") and kind == "normal":
        raise ModelError(
            f"parameter '{setting.name}' steers a normsys or histosys and may be negative: its "
            f"constraint cannot be {found}"
        )
    if found != "none" and kind == "free" and setting.sigma is None:
        raise ModelError(f"parameter '{setting.name}': a constraint needs `sigma`, its width")
    return found


def precision_of(
    correlations: Sequence[Correlation],
    names: list[str],
    constrained: list[int],
    constraints: list[str],
) -> tuple[np.ndarray, Float[Array, "correlated correlated"]]:
    """Return the constraints that are correlated, and the inverse of their correlation matrix."""
    place = {names[parameter]: i for i, parameter in enumerate(constrained)}
    found: list[int] = []
    blocks = []
    for correlation in correlations:
        for name in correlation.names:
            if name not in place or constraints[place[name]] != "gaussian":
                raise ModelError(
                    f"a correlation names '{name}', which has no Gaussian constraint."
                    f"{nearest(name, place)}"
                )
            if place[name] in found:
                raise ModelError(f"parameter '{name}' stands in two correlations: join them")
            found.append(place[name])
        size = len(correlation.names)
        matrix = correlation.matrix
        if np.shape(matrix) != (size, size):
            raise ModelError(
                f"the correlation matrix of {list(correlation.names)} has shape {np.shape(matrix)}"
            )
        if not isinstance(matrix, Tracer):
            plain = np.asarray(matrix, float)
            if (
                not np.allclose(plain, plain.T)
                or not np.allclose(np.diagonal(plain), 1.0)
                or np.linalg.eigvalsh(plain)[0] <= 0
            ):
                raise ModelError(
                    f"the correlation matrix of {list(correlation.names)} must be symmetric and "
                    "positive definite, with ones on its diagonal"
                )
        blocks.append(jnp.linalg.inv(jnp.asarray(matrix, float)))
    precision = jax.scipy.linalg.block_diag(*blocks) if blocks else jax.device_put(np.zeros((0, 0)))
    return np.asarray(found, np.int32), precision
