"""Draws from a posterior: summaries, intervals, limits."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import ConfigError, ModelError
from difana._result import AbstractResult

LARGEST_R_HAT = 1.05
FEWEST_EFFECTIVE = 50.0


class PosteriorSummary(eqx.Module):
    """One number a parameter, ``[params]`` each.

    Attributes:
        mean: Mean of the draws.
        std: Standard deviation.
        median: Median.
        low: Lower end of the central interval.
        high: Upper end.
        r_hat: Split Gelman-Rubin ratio; NaN for held parameters.
        effective: Effective sample size; NaN for held parameters.
        names: Parameter names (static).
        level: Credible level of the interval (static).
    """

    mean: Float[Array, " params"]
    std: Float[Array, " params"]
    median: Float[Array, " params"]
    low: Float[Array, " params"]
    high: Float[Array, " params"]
    r_hat: Float[Array, " params"]
    effective: Float[Array, " params"]
    names: tuple[str, ...] = eqx.field(static=True)
    level: float = eqx.field(static=True)


class PosteriorResult(AbstractResult):
    """Draws from the posterior of a model, and whether they can be trusted.

    Attributes:
        draws: All parameters of all draws, held ones included, ``[chains, draws, params]``.
        r_hat: Split Gelman-Rubin ratio of each parameter, near 1 when the chains agree; NaN for
            held parameters, ``[params]``.
        effective: Effective sample size of each parameter; NaN for held ones, ``[params]``.
        divergences: Number of divergent transitions after the warm-up.
        status: Bit flags of :class:`Status`: NOT_CONVERGED for a split R-hat above 1.05, fewer
            than 50 effective draws, or divergences in more than 1 % of the draws.
        names: Parameter names (static).
        poi: Name of the parameter of interest (static).
    """

    draws: Float[Array, "chains draws params"]
    r_hat: Float[Array, " params"]
    effective: Float[Array, " params"]
    divergences: Int[Array, ""]
    status: Int[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    poi: str | None = eqx.field(static=True)

    def __getitem__(self, name: str) -> Float[Array, "chains draws"]:
        """Return the draws of one parameter by name."""
        if name not in self.names:
            raise ModelError(f"no parameter '{name}'; there are {list(self.names)}")
        return self.draws[:, :, self.names.index(name)]

    def _drawn(self, level: float, name: str | None) -> Float[Array, " draws"]:
        if not 0 < level < 1:
            raise ConfigError(f"the credible level must lie between 0 and 1, not {level}")
        if name is None and self.poi is None:
            raise ModelError("the model has no parameter of interest; give `poi` when building it")
        return jnp.ravel(self[name or str(self.poi)])

    def credible_upper_limit(
        self, level: float = 0.95, *, name: str | None = None
    ) -> Float[Array, ""]:
        """Return the value below which ``level`` of the draws lie.

        Args:
            level: Credible level.
            name: A parameter; the parameter of interest by default.

        Raises:
            ModelError: If the model has no such parameter.
            ConfigError: If the level does not lie between 0 and 1.
        """
        return jnp.quantile(self._drawn(level, name), level)

    def credible_interval(
        self, level: float = 0.6827, *, name: str | None = None, kind: str = "central"
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return an interval that holds ``level`` of the draws.

        Args:
            level: Credible level.
            name: A parameter; the parameter of interest by default.
            kind: ``central``: as many draws below as above; ``hpd``: the shortest interval, which
                is that of highest density where the density has one peak.

        Raises:
            ModelError: If the model has no such parameter.
            ConfigError: If the level does not lie between 0 and 1, or there is no such kind.
        """
        draws = self._drawn(level, name)
        if kind == "central":
            low, high = jnp.quantile(draws, jnp.array([0.5 - level / 2, 0.5 + level / 2]))
            return low, high
        if kind != "hpd":
            raise ConfigError(f"no kind of interval '{kind}'; there are ['central', 'hpd']")
        ordered = jnp.sort(draws)
        inside = min(max(int(np.ceil(level * ordered.size)), 1), ordered.size - 1)
        start = jnp.argmin(ordered[inside:] - ordered[:-inside])
        return ordered[start], ordered[start + inside]

    def summary(self, level: float = 0.6827) -> PosteriorSummary:
        """Return mean, width, interval, R-hat and effective sample size of every parameter.

        Args:
            level: Credible level of the central interval.

        Raises:
            ConfigError: If the level does not lie between 0 and 1.
        """
        if not 0 < level < 1:
            raise ConfigError(f"the credible level must lie between 0 and 1, not {level}")
        flat = self.draws.reshape(-1, self.draws.shape[-1])
        borders = jnp.array([0.5 - level / 2, 0.5, 0.5 + level / 2])
        low, median, high = jnp.quantile(flat, borders, axis=0)
        return PosteriorSummary(
            flat.mean(0), flat.std(0), median, low, high,
            self.r_hat, self.effective, self.names, level,
        )  # fmt: skip
