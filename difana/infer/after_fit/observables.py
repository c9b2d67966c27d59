"""Observables after (and before) a fit: functions of the expected yields with their covariance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import InputError, nearest
from difana._numerics import safe_divide, safe_sqrt
from difana._result import AbstractResult
from difana._status import Status, flag
from difana.infer.after_fit.expected_yields import ExpectedYields, Observable
from difana.infer.after_fit.yields import point_of
from difana.infer.fit import negative_yield
from difana.infer.fit_result import FitResult
from difana.infer.parallel._many import traced
from difana.likelihood import Model


class ObservablesResult(AbstractResult):
    """Values of observables and their joint covariance.

    Attributes:
        values: All values, one observable after the other, ``[values]``.
        covariance: Their covariance, ``[values, values]``.
        status: Bit flags of the fit and of what is expected there.
        names: Name of each value: that of the observable, with a number in brackets where it has
            several (static).
        label: ``"pre-fit"``, ``"post-fit"`` or another name (static).
    """

    values: Float[Array, " values"]
    covariance: Float[Array, "values values"]
    status: Int[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    label: str = eqx.field(static=True)

    @property
    def errors(self) -> Float[Array, " values"]:
        """Standard deviations, ``[values]``."""
        return safe_sqrt(jnp.diagonal(self.covariance))

    @property
    def correlation(self) -> Float[Array, "values values"]:
        """Correlation matrix (zero rows for values without uncertainty)."""
        return safe_divide(self.covariance, self.errors[:, None] * self.errors[None, :])

    def __getitem__(self, name: str) -> Float[Array, "..."]:
        """Return the values of one observable: a vector, or a number if it has one only."""
        if name in self.names:
            return self.values[self.names.index(name)]
        places = [i for i, known in enumerate(self.names) if known.rpartition("[")[0] == name]
        if not places:
            known = [n.rpartition("[")[0] or n for n in self.names]
            raise InputError(f"no observable '{name}'.{nearest(name, known)}")
        return self.values[np.array(places)]

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        columns = (self.names, np.asarray(self.values).tolist(), np.asarray(self.errors).tolist())
        return {
            "label": self.label,
            "observables": {
                name: {"value": value, "error": error}
                for name, value, error in zip(*columns, strict=True)
            },
            "covariance": np.asarray(self.covariance).tolist(),
        }

    def as_text(self) -> str:
        """Return a table of values and standard deviations."""
        width = max(map(len, (*self.names, self.label)))
        errors = np.asarray(self.errors)
        lines = [
            f"{name.ljust(width)}  {value:10.5g} ± {error:.3g}"
            for name, value, error in zip(self.names, np.asarray(self.values), errors, strict=True)
        ]
        return "\n".join([self.label, *lines])


def observables(
    model: Model,
    functions: Observable | Mapping[str, Observable],
    params: Float[Array, " params"] | None = None,
    covariance: Float[Array, "params params"] | None = None,
    *,
    fit: FitResult | None = None,
    label: str | None = None,
) -> ObservablesResult:
    r"""Return functions of the expected yields with their joint covariance, before or after a fit.

    For observables :math:`f(\lambda(\theta))` with :math:`J = \partial f/\partial\theta`

    .. math:: \mathrm{Cov}(f) = J\,C\,J^T

    with the full covariance :math:`C` of the fit; before a fit :math:`C` holds the widths of the
    constraints (and their correlations), as in :func:`difana.infer.yields`. The derivatives are
    exact: in reverse mode where there are fewer values than parameters, else in forward mode.
    Masked channels (:func:`difana.likelihood.mask`) are as good as others. The values are
    differentiable, their covariance is not differentiated through ``covariance``; callable inside
    ``jit``.

    Args:
        model: The model.
        functions: Observables by name, or one (then called "observable"): functions of
            :class:`ExpectedYields` that return a number or a vector; :func:`total`, :func:`ratio`
            and :func:`normalised` make common ones.
        params: Parameters.
        covariance: Their covariance, ``[params, params]``.
        fit: A fit that gives both.
        label: Name of the result; ``"pre-fit"`` or ``"post-fit"`` by default.

    Returns:
        Values, their covariance and names.

    Raises:
        InputError: If parameters come without a covariance, both with a fit, or no function is
            given.
        ModelError: If an observable names a channel or sample that does not exist.

    References:
        Post-fit observables of rabbit (WMass); error propagation as in HistFactory tools.

    Example:
        >>> from difana.infer import fit, total
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
        >>> best = fit(model, model.data([60.0, 55.0]))
        >>> found = observables(model, {
        ...     "events": total("singlechannel"),
        ...     "first/second": lambda y: y["singlechannel"][0] / y["singlechannel"][1],
        ... }, fit=best)
        >>> print(found.as_text())
        post-fit
        events            115.16 ± 10.7
        first/second      1.0134 ± 0.109
        >>> round(float(found.correlation[0, 1]), 3)
        0.021
    """
    given = functions if isinstance(functions, Mapping) else {"observable": functions}
    if not given:
        raise InputError("no observable is given: {'events': total('SR')}")
    params, covariance, label = point_of(model, params, covariance, fit, label)
    chosen = tuple(given.values())
    inside = traced(model, params, covariance)
    call = _observables if inside else _compiled
    parts, values, joint, status = call(model, chosen, params, covariance)
    status = status if fit is None else status | fit.status
    names = [
        name if not shape else f"{name}[{', '.join(map(str, index))}]"
        for name, shape in zip(given, (part.shape for part in parts), strict=True)
        for index in np.ndindex(*shape)
    ]
    return ObservablesResult(values, joint, status, tuple(names), label)


def _observables(
    model: Model, functions: tuple[Observable, ...], params: Array, covariance: Array
) -> tuple[list[Array], Array, Array, Array]:
    def flat(params: Array) -> tuple[Array, list[Array]]:
        seen = ExpectedYields(model.rows(params), model.structure)
        parts = [_array(function(seen), params.dtype) for function in functions]
        return jnp.concatenate([jnp.ravel(part) for part in parts]), parts

    size = jax.eval_shape(lambda p: flat(p)[0], params).shape[0]
    derive = jax.jacrev if size < params.shape[0] else jax.jacfwd
    jacobian, parts = derive(flat, has_aux=True)(params)
    values = jnp.concatenate([jnp.ravel(part) for part in parts])
    covariance = jax.lax.stop_gradient(covariance)
    lost = flag(~jnp.all(jnp.isfinite(values)), Status.NOT_FINITE)
    status = lost | negative_yield(model, params)
    return parts, values, jacobian @ covariance @ jacobian.T, status


def _array(value: Any, dtype: Any) -> Array:
    try:
        return jnp.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"an observable returned {type(value).__name__}: it must return a number or an array"
        ) from error


_compiled = eqx.filter_jit(_observables)
