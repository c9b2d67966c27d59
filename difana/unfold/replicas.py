"""Replicas: the same unfolding with other weights and other initial networks, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from difana._errors import InputError, nearest
from difana._options import whole_number
from difana.unfold._precision import shifted as centred_at
from difana.unfold.problem import UnfoldingProblem, shifted_level

_LEVELS = ("gen", "reco", "background")
_SHIFTED = ("observables", "pass_reco")


class Factors(NamedTuple):
    """Factors on the weights of each replica; None means 1 for all.

    Attributes:
        data: On the data, ``[replicas, data]``.
        gen: On the truth-level weights of the simulation, ``[replicas, events]``.
        reco: On its detector-level weights.
        background: On the background, ``[replicas, background]``.
        level: Which of the ``Shifts`` a replica looks at; None without any.
    """

    data: Float[Array, "replicas data"] | None = None
    gen: Float[Array, "replicas events"] | None = None
    reco: Float[Array, "replicas events"] | None = None
    background: Float[Array, "replicas background"] | None = None
    level: Int[Array, " replicas"] | None = None


class Shifts(NamedTuple):
    """The simulation at detector level: as it is, then as each variation shifts it.

    Attributes:
        reco: Observables, ``[levels, events, *detector]``.
        pass_reco: Which events are reconstructed, ``[levels, events]``.
    """

    reco: Float[Array, "levels events *detector"]
    pass_reco: Bool[Array, "levels events"]


@dataclasses.dataclass(frozen=True, eq=False)
class Replicas:
    """Which replicas an unfolding has: seeds, bootstraps, then each variation with each seed.

    A variation starts from the networks of the nominal seed, so that their difference holds no
    change of seed. Replica ``r`` depends on the random key and ``r`` only.

    Attributes:
        seeds: Number of initialisations on the data as they are; the nominal weight is their mean.
        bootstraps: Number of replicas with Poisson factors on data, simulation and background, each
            with its own initialisation.
        variations: By name, the simulation after a shift of one standard deviation: factors on its
            weights, ``{"scale": {"gen": [events], "reco": [events]}}``, or ``"background"``; or
            other numbers at detector level, ``{"jes": {"observables": [events, reco],
            "pass_reco": [events]}}``.

    Example:
        >>> Replicas(seeds=2, bootstraps=1, variations={"jes": {}}).number
        5
    """

    seeds: int = 1
    bootstraps: int = 0
    variations: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def check(self) -> Replicas:
        """Return the replicas, or raise ``ConfigError`` for numbers without a meaning."""
        whole_number("seeds", self.seeds)
        whole_number("bootstraps", self.bootstraps, least=0)
        return self

    @property
    def number(self) -> int:
        """Number of replicas."""
        return self.seeds * (1 + len(self.variations)) + self.bootstraps

    def start(self, replica: int) -> int:
        """Return the initialisation of a replica: variations start as the nominal seeds do.

        Example:
            >>> [Replicas(2, 1, {"jes": {}}).start(r) for r in range(5)]
            [0, 1, 2, 0, 1]
        """
        own = self.seeds + self.bootstraps
        return replica if replica < own else (replica - own) % self.seeds

    def factors(
        self, chosen: np.ndarray, problem: UnfoldingProblem, keys: Float[PRNGKeyArray, " three"]
    ) -> Factors:
        """Return the factors of chosen replicas.

        Args:
            chosen: Numbers of replicas.
            problem: The inputs.
            keys: Keys of the Poisson factors on data, simulation and background.
        """
        sizes = (len(problem.data), len(problem.gen))
        first, own = self.seeds, self.seeds + self.bootstraps
        draws = jnp.asarray(chosen) - first
        shaken = jnp.asarray((chosen >= first) & (chosen < own))[:, None]

        def poisson(key: Array, size: int) -> Array:
            return jnp.where(shaken, _poisson_rows(key, draws, size), 1.0)

        data = events = background = None
        if self.bootstraps:
            data, events = (poisson(k, n) for k, n in zip(keys[:2], sizes, strict=True))
            if problem.background is not None:
                background = poisson(keys[2], len(problem.background))
        levels = {"gen": events, "reco": events, "background": background}
        for name in _LEVELS:
            rows = [values.get(name) for values in self.variations.values()]
            if any(row is not None for row in rows):
                size = next(len(row) for row in rows if row is not None)
                one = jnp.ones(size) if levels[name] is None else None
                index = (chosen - own) // self.seeds
                found = [
                    rows[i] if c >= own and rows[i] is not None
                    else (one if one is not None else levels[name][position])  # pyright: ignore
                    for position, (c, i) in enumerate(zip(chosen, index, strict=True))
                ]  # fmt: skip
                levels[name] = jnp.stack(found)
        level = None
        if self._shifting:
            index = np.maximum((chosen - own) // self.seeds, 0)
            level = jnp.asarray([
                self._shifting.index(i) + 1 if c >= own and i in self._shifting else 0
                for c, i in zip(chosen, index, strict=True)
            ])  # fmt: skip
        return Factors(data, levels["gen"], levels["reco"], levels["background"], level)

    @property
    def _shifting(self) -> list[int]:
        every = enumerate(self.variations.values())
        return [i for i, values in every if any(name in values for name in _SHIFTED)]

    def shifts(self, problem: UnfoldingProblem) -> Shifts | None:
        """Return the simulation at detector level in all versions; None if there is only one."""
        if not self._shifting:
            return None
        found = [list(self.variations.values())[i] for i in self._shifting]
        nominal = {"observables": problem.reco, "pass_reco": problem.pass_reco}
        return Shifts(*(
            jnp.stack([nominal[name], *(levels.get(name, nominal[name]) for levels in found)])
            for name in _SHIFTED
        ))  # fmt: skip


def checked_variations(
    variations: Mapping[str, Mapping[str, Any]],
    problem: UnfoldingProblem,
    *,
    origin: np.ndarray | None = None,
) -> dict[str, dict[str, Array]]:
    """Return the systematic variations, or raise ``InputError`` for what does not fit.

    Args:
        variations: By name, factors on the weights by level (``gen``, ``reco``, ``background``),
            shifted ``observables`` and ``pass_reco`` of the simulation at detector level.
        problem: The inputs.
        origin: What to subtract from shifted observables; see ``difana.unfold._precision``.
    """
    others = 0 if problem.background is None else len(problem.background)
    sizes = {"gen": len(problem.gen), "reco": len(problem.gen), "background": others}
    found = {}
    for name, levels in variations.items():
        shifted = {level: values for level, values in levels.items() if level in _SHIFTED}
        if shifted:
            shifted = shifted_level(problem, name=f"variation '{name}'", **shifted)
            if origin is not None and origin.any():
                less = centred_at(shifted["observables"], origin, shifted["pass_reco"])
                shifted["observables"] = less
        levels = {level: values for level, values in levels.items() if level not in _SHIFTED}
        for level, values in levels.items():
            if level not in sizes:
                known = (*_LEVELS, *_SHIFTED)
                raise InputError(
                    f"variation '{name}' has factors on '{level}'; give those of"
                    f" {', '.join(_LEVELS)}, or {' and '.join(_SHIFTED)}.{nearest(level, known)}"
                )
            if np.shape(values) != (sizes[level],) or not np.isfinite(np.asarray(values)).all():
                raise InputError(
                    f"variation '{name}': the factors on '{level}' have shape {np.shape(values)};"
                    f" give one finite number for each of the {sizes[level]} events"
                )
        factors = {level: jnp.asarray(v, float) for level, v in levels.items()}
        found[name] = factors | shifted
    return found


def poisson_factors(key: Array, replicas: int, events: int) -> Float[Array, "replicas events"]:
    """Return bootstrap factors; row ``r`` depends on ``key`` and ``r`` only.

    Example:
        >>> import jax
        >>> a, b = (poisson_factors(jax.random.key(0), n, 5) for n in (2, 3))
        >>> bool((a == b[:2]).all())
        True
    """
    return _poisson_rows(key, jnp.arange(replicas), events)


def _poisson_rows(key: Array, rows: Array, events: int) -> Array:
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(rows)
    return jax.vmap(lambda k: jax.random.poisson(k, 1.0, (events,)))(keys).astype(float)
