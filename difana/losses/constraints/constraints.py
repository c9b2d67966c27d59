"""Ready constraints: filled bins, nuisances that stay free, closure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from difana._errors import ModelError, nearest
from difana._numerics import safe_divide, safe_sqrt
from difana.infer import prefit_uncertainties
from difana.likelihood import Model
from difana.losses.constraints.mdmm import Constraint
from difana.losses.objectives.generalised_variance import asimov_covariance


def _itself(subject: Any) -> Any:
    return subject


def background_events(
    model: Model, *, effective: bool = False, channel: str | None = None
) -> Float[Array, " bins"]:
    r"""Return the expected background of every bin, or the number of simulated events behind it.

    Args:
        model: The model; what its parameter of interest multiplies is signal.
        effective: Return :math:`n = (\sum w)^2 / \sum w^2` from the staterror uncertainties
            instead of the yield; infinite in bins without any.
        channel: Return the bins of this channel only.

    Raises:
        ModelError: If there is no such channel.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, StatError, Template, build_model
        >>> signal = Template([2.0, 8.0], (NormFactor("mu"),), name="s")
        >>> b = Template([100.0, 4.0], (StatError([10.0, 2.0], "stat"),), name="b")
        >>> model = build_model([Channel((signal, b), name="SR")])
        >>> background_events(model).tolist(), background_events(model, effective=True).tolist()
        ([100.0, 4.0], [100.0, 4.0])
    """
    s, own = model.structure, _bins_of(model, channel)
    background = ~(s.factors == model.poi_index).any(axis=1)
    rows = jnp.where(background, model.rows(model.init), 0.0)
    yields = jnp.zeros(model.bins, rows.dtype).at[s.row_bin].add(rows)
    if not effective:
        return yields[own]
    squares = jnp.where(background[s.staterror_row], model.staterror**2, 0.0)
    variances = jnp.zeros(model.bins, rows.dtype).at[s.row_bin[s.staterror_row]].add(squares)
    return safe_divide(jnp.maximum(yields, 0.0) ** 2, variances, fill=np.inf)[own]


def _bins_of(model: Model, channel: str | None) -> slice:
    """Return the bins of a channel; without a name, all."""
    if channel is None:
        return slice(None)
    names = [layout.name for layout in model.structure.channels]
    if channel not in names:
        raise ModelError(f"no channel '{channel}'.{nearest(channel, names)}")
    layout = model.structure.channels[names.index(channel)]
    return slice(layout.start, layout.start + layout.bins)


def minimum_background(
    events: float,
    *,
    effective: bool = False,
    channel: str | None = None,
    of: Callable[[Any], Model] = _itself,
    damping: float = 1.0,
    name: str = "minimum_background",
) -> Constraint:
    r"""Return the constraint that every bin has at least so many background events.

    It acts on :math:`\ln(n_b/n)`, so that full and empty bins are of one scale.

    Args:
        events: Expected background events wanted in each bin.
        effective: Count effective simulated events instead, see :func:`background_events`.
        channel: Ask it of the bins of this channel only: those that are trained.
        of: From the subject to the model.
        damping: As in :class:`Constraint`.
        name: As in :class:`Constraint`.

    Raises:
        ModelError: If ``events`` is not positive.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([2.0, 8.0], (NormFactor("mu"),), name="s")
        >>> model = build_model([Channel((signal, Template([100.0, 5.0], name="b")), name="SR")])
        >>> [f"{h:.3f}" for h in minimum_background(10.0).infeasibility(model)]
        ['-2.303', '0.693']
    """
    if not events > 0:
        raise ModelError(f"at least {events} background events in a bin: give a positive number")

    def logs(subject: Any) -> Array:
        found = background_events(of(subject), effective=effective, channel=channel)
        # without staterror nothing is short of simulation
        return jnp.log(jnp.clip(found / events, 1e-6, 1e6))

    return Constraint(logs, 0.0, kind="at_least", damping=damping, name=name)


def postfit_widths(
    model: Model, nuisances: Sequence[str], *, mu: float = 0.0
) -> Float[Array, " nuisances"]:
    r"""Return the expected post-fit uncertainties in units of those before the fit.

    :math:`\sqrt{(I^{-1})_{jj}}/\sigma_j` from the Fisher information on Asimov data at ``mu``;
    1 for a nuisance the data say nothing about. Differentiated exactly.

    Args:
        model: The model.
        nuisances: Names of constrained parameters.
        mu: Signal strength of the Asimov data.

    Raises:
        ModelError: If a parameter does not exist or has no constraint.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, NormSys, Template, build_model
        >>> signal = Template([1.0, 0.0], (NormFactor("mu"),), name="s")
        >>> b = Template([100.0, 100.0], (NormSys(1.1, 0.9, "norm"),), name="b")
        >>> model = build_model([Channel((signal, b), name="SR")])
        >>> widths = jax.jit(lambda model: postfit_widths(model, ["norm"]))(model)
        >>> widths.round(2).tolist()
        [0.71]
    """
    indices = [model.index(name) for name in nuisances]
    constrained = set(np.asarray(model.structure.constrained).tolist())
    for name, index in zip(nuisances, indices, strict=True):
        if index not in constrained:
            raise ModelError(f"parameter '{name}' has no constraint that a fit could narrow")
    covariance, _ = asimov_covariance(model, mu=mu)
    chosen = np.asarray(indices)
    return safe_sqrt(jnp.diagonal(covariance)[chosen]) / prefit_uncertainties(model)[chosen]


def nuisance_width(
    nuisances: Sequence[str],
    at_least: float = 0.7,
    *,
    mu: float = 0.0,
    of: Callable[[Any], Model] = _itself,
    damping: float = 1.0,
    name: str = "nuisance_width",
) -> Constraint:
    r"""Return the constraint that the fit does not narrow nuisances below a part of their width.

    It acts on the logarithm of the ratio of the width to that bound. An analysis that constrains
    an energy scale far better than the calibration did rests on the assumption that one parameter
    describes it.

    Args:
        nuisances: Names of the parameters, each with a multiplier of its own.
        at_least: Smallest ratio of post-fit to pre-fit uncertainty, between 0 and 1.
        mu: Signal strength of the Asimov data.
        of: From the subject to the model.
        damping: As in :class:`Constraint`.
        name: As in :class:`Constraint`.

    Raises:
        ModelError: If the bound is not between 0 and 1.

    Example:
        >>> nuisance_width(["scale"], 0.7).kind
        'at_least'
    """
    if not 0 < at_least < 1:
        raise ModelError(f"a post-fit width of at least {at_least}: give a part between 0 and 1")
    names = tuple(nuisances)

    def logs(subject: Any) -> Array:
        return jnp.log(jnp.maximum(postfit_widths(of(subject), names, mu=mu), 1e-6) / at_least)

    return Constraint(logs, 0.0, kind="at_least", damping=damping, name=name)


def abcd_non_closure(counts: Float[Array, "2 2"]) -> Float[Array, ""]:
    r"""Return :math:`\ln(N_{00} N_{11} / (N_{01} N_{10}))`: 0 where the ABCD method closes.

    ``counts`` are those of :func:`difana.hist.soft_histogram_nd` with one cut in each of two
    observables. For small values it is the relative deviation of the predicted from the true
    yield.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(abcd_non_closure(jnp.array([[80.0, 20.0], [40.0, 10.5]]))), 4)
        0.0488
    """
    counts = jnp.asarray(counts)
    logs = jnp.log(jnp.maximum(counts, jnp.finfo(counts.dtype).tiny))
    return logs[0, 0] + logs[1, 1] - logs[0, 1] - logs[1, 0]


def relative_difference(
    value: Float[Array, "..."], reference: Float[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Return ``(value - reference) / reference``, 0 where the reference vanishes.

    Example:
        >>> import jax.numpy as jnp
        >>> relative_difference(jnp.array([11.0, 1.0]), jnp.array([10.0, 0.0])).round(2).tolist()
        [0.1, 0.0]
    """
    reference = jnp.asarray(reference)
    return safe_divide(value - reference, reference)


def closure(
    tolerance: float,
    *,
    of: Callable[[Any], Float[Array, "..."]],
    damping: float = 1.0,
    name: str = "closure",
) -> Constraint:
    """Return the constraint that numbers that should vanish stay within a tolerance.

    Args:
        tolerance: Largest modulus allowed, e.g. 0.05.
        of: From the subject to the numbers: :func:`abcd_non_closure` of its counts, or the
            :func:`relative_difference` of its soft to its hard histogram.
        damping: As in :class:`Constraint`.
        name: As in :class:`Constraint`.

    Example:
        >>> import jax.numpy as jnp
        >>> within = closure(0.05, of=abcd_non_closure)
        >>> bool(within.infeasibility(jnp.array([[80.0, 20.0], [40.0, 10.5]])) < 0)
        True
    """

    def modulus(subject: Any) -> Array:
        return jnp.abs(of(subject))

    return Constraint(modulus, tolerance, kind="at_most", damping=damping, name=name)
