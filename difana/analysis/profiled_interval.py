"""The interval of the parameter of interest from a likelihood scanned in one nuisance."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int

from difana._options import whole_number
from difana.analysis.nuisance_scan import NuisanceScan
from difana.infer import AbstractResult, Status, fit
from difana.likelihood import Model


class ScanInterval(AbstractResult):
    """A profile-likelihood interval of the parameter of interest.

    Attributes:
        value: Best fit.
        lower: Lower end; the lower bound of the parameter where the ratio is not reached.
        upper: Upper end, likewise.
        nuisance: Best fit of the scanned nuisance, in standard deviations.
        status: Bit flags of the fits; ``AT_BOUND`` where an end is a bound or the scanned
            nuisance ends at the edge of its grid.
    """

    value: Float[Array, "..."]
    lower: Float[Array, "..."]
    upper: Float[Array, "..."]
    nuisance: Float[Array, "..."]
    status: Int[Array, "..."]

    @property
    def sigma(self) -> Float[Array, "..."]:
        """Half the length of the interval."""
        return 0.5 * (self.upper - self.lower)


def profiled_interval(
    scan: NuisanceScan, *, level: float = 0.6827, steps: int = 40
) -> ScanInterval:
    r"""Return the interval of the parameter of interest with all nuisances profiled.

    .. math:: q(\mu) = 2\min_\nu\Big[L(\mu, \hat{\hat\theta}; \nu) + \tfrac12(\nu - c)^2\Big]
              - 2\min_{\mu,\nu}[\ldots]

    The scanned nuisance is minimised over its grid, with a parabola through the lowest three
    points; the others are fitted at each of them. The ends are found by bisection, so that a
    likelihood with several minima is followed from the best one. For plain evaluation: no
    gradient is defined.

    Args:
        scan: The likelihood.
        level: Confidence level.
        steps: Bisections, each of which halves the error.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([100.0], (NormFactor("mu"),), name="s"),),
        ...                              name="SR")])
        >>> stack = lambda x: jnp.stack([x] * 3)
        >>> scan = NuisanceScan(jax.tree.map(stack, model), stack(model.data([100.0])),
        ...                     jnp.array([-1.0, 0.0, 1.0]), jnp.asarray(0.0))
        >>> print(f"{profiled_interval(scan).sigma:.4f}")
        0.1000
    """
    steps = whole_number("steps", steps)
    return _interval(scan, jnp.asarray(norm.isf((1 - level) / 2)) ** 2, steps)


@eqx.filter_jit
def _interval(scan: NuisanceScan, target: Array, steps: int) -> ScanInterval:
    poi = str(scan.models.structure.poi)
    index = scan.models.structure.parameters.index(poi)
    low, high = scan.models.lower[0, index], scan.models.upper[0, index]
    penalty = 0.5 * (scan.values - scan.center) ** 2

    def lowest(heights: Array, others: Array) -> tuple[Array, Array, Array]:
        """Return minimum, its place, and ``others`` there, from a parabola."""
        middle = jnp.clip(jnp.argmin(heights), 1, heights.size - 2)
        near = jax.lax.dynamic_slice(heights, (middle - 1,), (3,))
        slope, bend = 0.5 * (near[2] - near[0]), near[0] - 2 * near[1] + near[2]
        shift = jnp.clip(-slope / jnp.where(bend > 0, bend, jnp.inf), -1.0, 1.0)
        # a minimum at an end of the grid has no parabola around it
        end = jnp.where(near[0] < near[1], -1.0, jnp.where(near[2] < near[1], 1.0, shift))
        inside = (jnp.argmin(heights) > 0) & (jnp.argmin(heights) < heights.size - 1)
        shift = jnp.where(inside, shift, end)
        height = jnp.where(
            inside, near[1] + 0.5 * slope * shift, near[1 + jnp.round(end).astype(int)]
        )
        place = jnp.interp(middle + shift, jnp.arange(heights.size), scan.values)
        return height, place, jnp.interp(place, scan.values, others)

    alone = len(scan.models.structure.parameters) == 1  # nothing else to fit

    def free(model: Model, data: Array) -> tuple[Array, Array, Array]:
        found = fit(model, data)
        return found.half_deviance, found.params[index], found.status

    heights, best, status = jax.vmap(free)(scan.models, scan.data)
    floor, nuisance, value = lowest(heights + penalty, best)
    at_edge = (nuisance <= scan.values[0]) | (nuisance >= scan.values[-1])

    def height(mu: Array) -> Array:
        def one(model: Model, data: Array) -> Array:
            if alone:
                return model.half_deviance(mu[None], data)
            return fit(model, data, fixed={poi: mu}).half_deviance

        found = jax.vmap(one)(scan.models, scan.data) + penalty
        return 2 * (lowest(found, scan.values)[0] - floor) - target

    def search(bound: Array) -> tuple[Array, Array]:
        def body(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            inner, outer = ends
            middle = 0.5 * (inner + outer)
            below = height(middle) < 0
            return jnp.where(below, middle, inner), jnp.where(below, outer, middle)

        inner, outer = jax.lax.fori_loop(0, steps, body, (value, bound))
        return 0.5 * (inner + outer), jnp.abs(outer - bound) <= 1e-9 * (1 + jnp.abs(bound))

    (lower, upper), at_bound = jax.lax.map(search, jnp.stack([low, high]))
    flags = jnp.bitwise_or(
        jax.lax.reduce_or(status & ~int(Status.AT_BOUND), axes=(0,)),
        jnp.where(at_edge | at_bound.any(), int(Status.AT_BOUND), 0),
    )
    return ScanInterval(value, lower, upper, nuisance, flags)
