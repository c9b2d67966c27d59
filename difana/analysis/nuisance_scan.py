"""Profile a nuisance exactly: templates, and if need be the data, made anew at each value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy.interpolate import CubicSpline

from difana._errors import InputError
from difana._options import whole_number
from difana._typing import Network
from difana.data import Events, Sample
from difana.hist import hard_histogram, soft_histogram
from difana.likelihood import Model
from difana.losses import ModelOptions, model_of, nuisance_names


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
    **options: Unpack[ModelOptions],
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
        **options: As in :func:`difana.losses.model_of`: ``poi``, ``staterror``, ...

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
    filled: dict[str, Any] = {"edges": edges, "bandwidth": bandwidth, **options}

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
