"""Profile a nuisance exactly: templates, and if need be the data, made anew at each value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, ArrayLike, Float, Int
from scipy.interpolate import CubicSpline

from difana._errors import InputError
from difana._options import whole_number
from difana._typing import Network
from difana.data import Events, Sample
from difana.hist import hard_histogram, soft_histogram
from difana.infer import AbstractResult, Status, fit
from difana.likelihood import Model
from difana.losses import model_of, nuisance_names


class NuisanceScan(eqx.Module):
    """The likelihood at each value of one nuisance parameter.

    Attributes:
        models: Models with the nuisance held, leaves ``[points, ...]``.
        data: Their data vectors, ``[points, data]``.
        values: The nuisance in standard deviations, evenly spaced, ``[points]``.
        center: Centre of its constraint in standard deviations.
    """

    models: Model
    data: Float[Array, "points data"]
    values: Float[Array, " points"]
    center: Float[Array, ""]


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


def samples_at(
    samples: Sequence[Sample], nuisance: str, value: Float[ArrayLike, ""], *, keep: bool = False
) -> tuple[Sample, ...]:
    """Return the samples with one transformation applied at a value.

    Args:
        samples: Samples with their variations.
        nuisance: Name of the transformation; samples without it stay as they are.
        value: Where, in standard deviations.
        keep: Keep the variation, which then acts on top; otherwise it is gone.

    Raises:
        InputError: If no sample has it, or it is no transformation.

    Example:
        >>> from difana.data import Transformation
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2))
        >>> shift = Transformation(function=lambda x, alpha: x + alpha, name="shift")
        >>> (moved,) = samples_at([Sample(events, (shift,), name="b")], "shift", 0.5)
        >>> moved.nominal.features.tolist(), moved.variations
        ([[1.5], [1.5]], ())
    """
    if nuisance not in nuisance_names(samples):
        raise InputError(f"no variation is called '{nuisance}': {list(nuisance_names(samples))}")
    found = []
    for sample in samples:
        nominal, others = sample.nominal, []
        for variation in sample.variations:
            if variation.name != nuisance:
                others.append(variation)
                continue
            if not variation.moves:
                raise InputError(
                    f"sample '{sample.name}': '{nuisance}' is no Transformation, so its events do "
                    "not exist at any value"
                )
            nominal = nominal.with_inputs(variation.move(nominal.inputs, jnp.asarray(value)))
            if keep:
                others.append(variation)
        found.append(
            eqx.tree_at(lambda s: (s.nominal, s.variations), sample, (nominal, tuple(others)))
        )
    return tuple(found)


def nuisance_scan(
    net: Network | Callable[[Float[Array, ""]], Network],
    samples: Sequence[Sample],
    *,
    nuisance: str,
    values: Float[ArrayLike, " points"],
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, ""] | float | None = None,
    per_value: bool = False,
    truth: Float[ArrayLike, ""] = 0.0,
    mu: Float[ArrayLike, ""] = 1.0,
    center: Float[ArrayLike, ""] = 0.0,
    observed: Events | None = None,
    **options: Any,
) -> NuisanceScan:
    """Return the likelihood with the templates of one nuisance made exactly, value by value.

    Nothing is interpolated between +1 and -1, and the network may depend on the value: for an
    uncertainty-aware network f(x, nu) templates and data both are those of ``f(., nu)`` at the
    value under test. The data then differ from value to value; what is compared is how well each
    value describes its own histogram (the deviance), so check the coverage by toys.

    Args:
        net: The network; with ``per_value`` a function from the value to the network, e.g.
            ``lambda value: Parametrised(aware_net, value[None])``.
        samples: Samples with their variations; one of these, a ``Transformation``, is scanned.
        nuisance: Its name.
        values: Values in standard deviations, evenly spaced.
        edges: Bin edges in units of the first observable.
        bandwidth: Kernel width of soft bins; None for hard ones.
        per_value: Whether ``net`` is a function from the value to the network.
        truth: Value of the nuisance at which the Asimov data are made.
        mu: Signal strength in the Asimov data.
        center: Centre of the Gaussian constraint of the nuisance (its width is 1).
        observed: Events to analyse instead of Asimov data.
        **options: As in :func:`difana.losses.expected_limit`: ``poi``, ``staterror``, ...

    Raises:
        InputError: If there are fewer than three values, or they are not evenly spaced.

    References:
        A. Ghosh, B. Nachman, D. Whiteson, arXiv:2105.08742, section 3.
    """
    grid = np.asarray(values, float)
    steps = np.diff(grid)
    if grid.ndim != 1 or len(grid) < 3 or not np.allclose(steps, steps[0]) or not steps[0] > 0:
        raise InputError("the values of the nuisance must be three or more, evenly rising")
    true = samples_at(samples, nuisance, truth)
    at: Any = net if per_value else lambda value: net
    filled = {"edges": edges, "bandwidth": bandwidth, **options}

    def counts(own: Network) -> Array:
        """Return the data that a network makes of the events."""
        if observed is None:
            made = model_of(own, true, **filled)
            return made.expected_main(made.init.at[made.poi_index].set(mu))
        x = own(observed.inputs)[:, 0]
        weights, cuts = observed.weights.astype(x.dtype), jnp.asarray(edges, x.dtype)
        if bandwidth is None:
            return hard_histogram(x, weights, cuts).contents
        return soft_histogram(x, weights, cuts, bandwidth=bandwidth).contents

    # a fixed network sees the same data at every value
    same = None if per_value else counts(at(None))

    def one(value: Array) -> tuple[Model, Array]:
        own = at(value)
        model = model_of(own, samples_at(samples, nuisance, value), **filled)
        seen = counts(own) if same is None else same
        return model, model.data(seen.astype(model.nominal.dtype))

    points = jnp.asarray(grid)
    models, data = jax.lax.map(one, points)
    return NuisanceScan(models, data, points, jnp.asarray(center, points.dtype))


def refined_scan(scan: NuisanceScan, *, factor: int) -> NuisanceScan:
    """Return the scan with more values, all numbers interpolated by cubic splines.

    Where the data measure the nuisance well, the likelihood changes faster from value to value
    than the templates do: interpolate the templates, then profile.

    Args:
        scan: The likelihood at a few values.
        factor: New steps in each old one.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([1.0], (NormFactor("mu"),), name="s"),),
        ...                              name="SR")])
        >>> values = jnp.arange(-2.0, 3.0)
        >>> stack = jax.tree.map(lambda x: jnp.stack([x] * 5), model)
        >>> stack = eqx.tree_at(lambda m: m.nominal, stack, 9 + values[:, None] ** 3)
        >>> scan = NuisanceScan(stack, stack.nominal, values, jnp.asarray(0.0))
        >>> refined_scan(scan, factor=2).models.nominal[:3, 0].round(3).tolist()  # 9 + x^3
        [1.0, 5.625, 8.0]
    """
    factor = whole_number("factor", factor)
    old = np.asarray(scan.values)
    new = np.linspace(old[0], old[-1], factor * (len(old) - 1) + 1)
    matrix = jnp.asarray(CubicSpline(old, np.eye(len(old)))(new))

    def finer(leaf: Array) -> Array:
        return jnp.tensordot(matrix.astype(leaf.dtype), leaf, axes=1)

    models, data = jax.tree.map(finer, (scan.models, scan.data))
    return NuisanceScan(models, data, jnp.asarray(new), scan.center)


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
