"""An unfolded histogram as a measurement that a likelihood model describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import InputError
from difana.likelihood import Channel, HistoSys, Parameter, Template
from difana.unfold.result import UnfoldedHistogram
from difana.unfold.status import UnfoldStatus

_SHARE = 1e-6
_FAR = 1000.0  # no end for the parameters of the covariance: a bad description is one, too


def unfolded_channel(
    unfolded: UnfoldedHistogram,
    templates: Sequence[Template],
    *,
    name: str = "unfolded",
) -> tuple[Channel, Float[Array, " bins"]]:
    r"""Return a channel and its observed yields that stand for an unfolded histogram.

    The likelihood of the channel is the Gaussian :math:`\exp(-(n - p)^T V^{-1} (n - p) / 2)` of the
    unfolded yields :math:`n`, with the prediction :math:`p` of the templates. A channel of a
    ``Model`` counts Poisson events, so the covariance becomes nuisance parameters: with
    :math:`V = C C^T`, column :math:`k` of :math:`C` is a shift of all bins by one constrained
    parameter ``<name>_cov_k`` (without the usual end at five), and yields are scaled (by
    :math:`10^6 n_j / V_{jj}` in bin :math:`j`) so that the Poisson variance is a millionth of the
    measured one.

    Give the channel to ``build_model`` (alone or with others) and the yields to ``model.data``.
    The fitted parameters are differentiable in the unfolded yields and covariance, and through them
    in what the unfolding depends on, e.g. a detector parameter.

    Args:
        unfolded: The unfolded histogram; with several axes the bins are flattened.
        templates: Predictions in yields of the truth bins, with modifiers; shapes of systematic
            variations (histosys, staterror, shapesys) in the same units.
        name: Name of the channel.

    Returns:
        Channel and observed yields, ``[bins]``, both in scaled units.

    Raises:
        InputError: If the covariance has no inverse, a bin is not positive (outside jit), or a
            template has other bins.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.likelihood import NormFactor, build_model
        >>> h = UnfoldedHistogram(
        ...     status=jnp.asarray(0), edges=(jnp.array([0.0, 1.0, 2.0]),),
        ...     values=jnp.array([4.0, 9.0]), covariance=jnp.diag(jnp.array([4.0, 9.0])),
        ... )
        >>> theory = Template([5.0, 8.0], (NormFactor("sigma"),), name="theory")
        >>> channel, observed = unfolded_channel(h, [theory])
        >>> build_model([channel], poi="sigma").parameters
        ('sigma', 'unfolded_cov_0', 'unfolded_cov_1')
    """
    values, covariance = jnp.ravel(unfolded.values), unfolded.covariance
    bins = values.size
    bad = int(UnfoldStatus.FEW_REPLICAS | UnfoldStatus.NO_COVARIANCE | UnfoldStatus.NOT_FINITE)
    if not isinstance(unfolded.status, Tracer) and int(unfolded.status) & bad:
        raise InputError(
            f"this histogram cannot be a measurement: {unfolded.message}. Merge bins, or unfold"
            " with more replicas"
        )
    if not isinstance(values, Tracer) and bool(jnp.any(values <= 0)):
        raise InputError(
            f"unfolded bin {int(jnp.argmin(values))} is not positive: merge it with its neighbour"
        )
    for template in templates:
        if np.shape(template.values) != (bins,):
            raise InputError(
                f"template '{template.name}' has shape {np.shape(template.values)}, the unfolded"
                f" histogram {bins} bins"
            )
    variances = jnp.diagonal(covariance)
    root = jnp.linalg.cholesky(covariance)
    if not isinstance(root, Tracer) and not bool(jnp.all(jnp.isfinite(root))):
        raise InputError("the covariance is not positive definite: merge bins or add replicas")
    scale = jax.lax.stop_gradient(values / (_SHARE * variances))
    up = scale[:, None] * root
    down = -up
    zero = jnp.zeros_like(values)
    modifiers = tuple(HistoSys(up[:, k], down[:, k], f"{name}_cov_{k}") for k in range(bins))
    scaled = [_scaled(template, scale) for template in templates]
    spread = Template(zero, modifiers, name=f"{name}_covariance")
    free = tuple(Parameter(m.name, bounds=(-_FAR, _FAR)) for m in modifiers)
    return Channel((*scaled, spread), parameters=free, name=name), scale * values


def _scaled(template: Template, scale: Array) -> Template:
    """Return the template in scaled units: every number a bin is multiplied, factors are not."""

    def times(leaf: Array) -> Array:
        leaf = jnp.asarray(leaf, float)
        return leaf * scale if leaf.ndim == 1 else leaf

    return jax.tree.map(times, template, is_leaf=_is_row)


def _is_row(node: Any) -> bool:
    """Say whether a node is a plain list of yields."""
    return isinstance(node, list | tuple) and bool(node) and isinstance(node[0], int | float)
