"""Replicas: the same unfolding with other weights and other initial networks, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from difana._errors import InputError, nearest
from difana._typing import PyTree
from difana.nn import trainable
from difana.unfold._precision import shifted as centred_at
from difana.unfold.problem import UnfoldingProblem, shifted_level

_LEVELS = ("gen", "reco", "background")
_SHIFTED = ("observables", "pass_reco")


class Replicas(NamedTuple):
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


class Plan(NamedTuple):
    """Which replicas a run has: seeds, then bootstraps, then each variation with each seed.

    Attributes:
        seeds: Number of initialisations on the data as they are.
        bootstraps: Number of replicas with Poisson factors, each with its own initialisation.
        variations: Name of each systematic variation, and its factors by level, shifted
            ``observables`` and ``pass_reco``.
    """

    seeds: int
    bootstraps: int
    variations: tuple[tuple[str, dict[str, Array]], ...] = ()

    @property
    def number(self) -> int:
        """Number of replicas."""
        return self.seeds * (1 + len(self.variations)) + self.bootstraps

    def start(self, replica: int) -> int:
        """Return the initialisation of a replica: variations start as the nominal seeds do.

        Example:
            >>> [Plan(2, 1, (("jes", {}),)).start(r) for r in range(5)]
            [0, 1, 2, 0, 1]
        """
        own = self.seeds + self.bootstraps
        return replica if replica < own else (replica - own) % self.seeds

    def factors(
        self, chosen: np.ndarray, problem: UnfoldingProblem, keys: Float[PRNGKeyArray, " three"]
    ) -> Replicas:
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
            rows = [values.get(name) for _, values in self.variations]
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
        return Replicas(data, levels["gen"], levels["reco"], levels["background"], level)

    @property
    def _shifting(self) -> list[int]:
        return [i for i, (_, v) in enumerate(self.variations) if any(k in v for k in _SHIFTED)]

    def shifts(self, problem: UnfoldingProblem) -> Shifts | None:
        """Return the simulation at detector level in all versions; None if there is only one."""
        if not self._shifting:
            return None
        found = [self.variations[i][1] for i in self._shifting]
        nominal = {"observables": problem.reco, "pass_reco": problem.pass_reco}
        return Shifts(*(
            jnp.stack([nominal[name], *(levels.get(name, nominal[name]) for levels in found)])
            for name in _SHIFTED
        ))  # fmt: skip


def checked_variations(
    variations: Mapping[str, Any] | None,
    problem: UnfoldingProblem,
    *,
    origin: np.ndarray | None = None,
) -> tuple[tuple[str, dict[str, Array]], ...]:
    """Return the systematic variations, or raise ``InputError`` for what does not fit.

    Args:
        variations: By name, factors on the weights by level (``gen``, ``reco``, ``background``),
            shifted ``observables`` and ``pass_reco`` of the simulation at detector level.
        problem: The inputs.
        origin: What to subtract from shifted observables; see ``difana.unfold._precision``.
    """
    others = 0 if problem.background is None else len(problem.background)
    sizes = {"gen": len(problem.gen), "reco": len(problem.gen), "background": others}
    found = []
    for name, levels in (variations or {}).items():
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
        found.append((name, factors | shifted))
    return tuple(found)


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


def stacked_nets(
    make: Callable[[Array], PyTree], key: Array, replicas: int | np.ndarray, *, ensemble: int = 1
) -> PyTree:
    """Return ``make(key)`` for each replica, the trained leaves stacked; each row has its own key.

    Args:
        make: Function ``key -> net``.
        key: Random key.
        replicas: Number of replicas, or their numbers.
        ensemble: Networks a replica, one after the other on the leading axis.

    Example:
        >>> import jax
        >>> from difana.nn import MLP
        >>> nets = stacked_nets(lambda k: MLP(1, [], key=k), jax.random.key(0), 3)
        >>> nets.layers[0].kernel[...].shape
        (3, 1, 1)
    """
    numbers = np.arange(replicas) if isinstance(replicas, int) else np.asarray(replicas)
    every = (ensemble * numbers[:, None] + np.arange(ensemble)).ravel()
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.asarray(every))

    def leaves(own: Array) -> PyTree:
        net = make(own)
        return eqx.filter(net, trainable(net))

    one = make(keys[0])
    if len(keys) == 1:
        stacked = jax.tree.map(lambda leaf: leaf[None], eqx.filter(one, trainable(one)))
    else:
        try:
            stacked = jax.vmap(leaves)(keys)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            rows = [leaves(own) for own in keys]  # make looks at the numbers of its key
            stacked = jax.tree.map(lambda *row: jnp.stack(row), *rows)
    return eqx.combine(stacked, eqx.filter(one, trainable(one), inverse=True))
