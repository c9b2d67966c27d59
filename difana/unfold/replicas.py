"""Replicas: the same unfolding with other weights and other initial networks, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError, nearest
from difana._typing import PyTree
from difana.nn import trainable
from difana.unfold.problem import UnfoldingProblem

_LEVELS = ("gen", "reco", "background")


class Replicas(NamedTuple):
    """Factors on the weights of each replica; None means 1 for all.

    Attributes:
        data: On the data, ``[replicas, data]``.
        gen: On the truth-level weights of the simulation, ``[replicas, events]``.
        reco: On its detector-level weights.
        background: On the background, ``[replicas, background]``.
    """

    data: Float[Array, "replicas data"] | None = None
    gen: Float[Array, "replicas events"] | None = None
    reco: Float[Array, "replicas events"] | None = None
    background: Float[Array, "replicas background"] | None = None


class Plan(NamedTuple):
    """Which replicas a run has: seeds, then bootstraps, then each variation with each seed.

    Attributes:
        seeds: Number of initialisations on the data as they are.
        bootstraps: Number of replicas with Poisson factors, each with its own initialisation.
        variations: Name and factors by level of each systematic variation.
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
        return Replicas(data, levels["gen"], levels["reco"], levels["background"])


def checked_variations(
    variations: Mapping[str, Any] | None, problem: UnfoldingProblem
) -> tuple[tuple[str, dict[str, Array]], ...]:
    """Return the variations of weights, or raise ``InputError`` for factors that do not fit.

    Args:
        variations: By name, factors on the weights by level (``gen``, ``reco``, ``background``).
        problem: The inputs.
    """
    others = 0 if problem.background is None else len(problem.background)
    sizes = {"gen": len(problem.gen), "reco": len(problem.gen), "background": others}
    found = []
    for name, levels in (variations or {}).items():
        for level, values in levels.items():
            if level not in sizes:
                raise InputError(
                    f"variation '{name}' has factors on '{level}'; give those of"
                    f" {', '.join(_LEVELS)}.{nearest(level, _LEVELS)}"
                )
            if np.shape(values) != (sizes[level],) or not np.isfinite(np.asarray(values)).all():
                raise InputError(
                    f"variation '{name}': the factors on '{level}' have shape {np.shape(values)};"
                    f" give one finite number for each of the {sizes[level]} events"
                )
        found.append((name, {level: jnp.asarray(v, float) for level, v in levels.items()}))
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
    nets = [make(jax.random.fold_in(key, int(index))) for index in every]
    parts = [eqx.partition(net, trainable(net)) for net in nets]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(part for part, _ in parts))
    return eqx.combine(stacked, parts[0][1])
