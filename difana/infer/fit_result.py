"""What a fit returns."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import ModelError
from difana._result import AbstractResult


class FitResult(AbstractResult):
    """The best fit of a model to data.

    Attributes:
        params: Best-fit parameters, ``[params]``.
        nll: Negative log-likelihood there (not twice it).
        half_deviance: ``nll`` above that of a perfect description of the data: half the
            goodness-of-fit statistic.
        gradient: Gradient of the nll there: zero among the free parameters.
        covariance: Inverse Hessian of the nll among the free parameters; zero for held ones and
            for those pressed against a bound, ``[params, params]``.
        status: Bit flags of :class:`Status`.
        steps: Number of steps.
        distance: Estimated distance of ``nll`` to its minimum.
        names: Parameter names (static).
        one_sided: For parameters pressed against a bound, how far from it the nll, the others
            profiled, rises by one half (by its slope and curvature there); zero for the others.
    """

    params: Float[Array, " params"]
    nll: Float[Array, ""]
    half_deviance: Float[Array, ""]
    gradient: Float[Array, " params"]
    covariance: Float[Array, "params params"]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    distance: Float[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    one_sided: Float[Array, " params"] | None = None

    @property
    def uncertainties(self) -> Float[Array, " params"]:
        """Square roots of the diagonal of the covariance; of one at a bound, the open side."""
        width = jnp.sqrt(jnp.maximum(jnp.diagonal(self.covariance), 0.0))
        return width if self.one_sided is None else jnp.where(width > 0, width, self.one_sided)

    @property
    def at_bound(self) -> tuple[str, ...]:
        """Names of the parameters that are pressed against a bound."""
        if self.one_sided is None:
            return ()
        rows = np.reshape(self.one_sided, (-1, len(self.names)))
        return tuple(self.names[i] for i in np.flatnonzero(np.any(rows > 0, axis=0)))

    @property
    def correlation(self) -> Float[Array, "params params"]:
        """Correlation matrix (zero rows for parameters without uncertainty)."""
        width = jnp.sqrt(jnp.maximum(jnp.diagonal(self.covariance), 0.0))
        product = width[:, None] * width[None, :]
        return jnp.where(product > 0, self.covariance / jnp.where(product > 0, product, 1.0), 0.0)

    @property
    def message(self) -> str:
        """The status in words, with the names of parameters at a bound."""
        text, names = super().message, self.at_bound
        few = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        return text.replace("lies at its bound", f"lies at its bound ({few})") if names else text

    def __getitem__(self, name: str) -> Float[Array, ""]:
        """Return one best-fit parameter by name."""
        if name not in self.names:
            raise ModelError(f"no parameter '{name}'; there are {list(self.names)}")
        return self.params[self.names.index(name)]
