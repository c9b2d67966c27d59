"""Observables after (and before) a fit: functions of the expected yields with their covariance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError, ModelError, nearest
from difana._numerics import add_at, safe_divide, safe_sqrt
from difana.infer._many import traced
from difana.infer.fit import FitResult
from difana.infer.yields import point_of
from difana.likelihood import Model
from difana.likelihood.structure import Structure

Selection = str | tuple[str, str]
"""A channel ("SR"), one sample of it (("SR", "ttbar")), or one sample anywhere (("*", "ttbar"))."""


class ExpectedYields(eqx.Module):
    """The expected yields that a function of :func:`observables` gets.

    Attributes:
        rows: Yields of each bin of each template, ``[rows]``.
        structure: Names and indices of the model (static).
    """

    rows: Float[Array, " rows"]
    structure: Structure = eqx.field(static=True)

    @property
    def bins(self) -> Float[Array, " bins"]:
        """Sums of the samples in all bins of all channels."""
        return self._summed(np.ones(self.rows.shape[0], bool))

    def __getitem__(self, selection: Selection) -> Float[Array, " some"]:
        """Return the bins of a channel; those of one sample if the selection names it.

        ``yields["SR"]``, ``yields["SR", "ttbar"]``; ``yields["*", "ttbar"]`` are those of all
        channels, one after the other.

        Raises:
            ModelError: If there is no such channel or sample.
        """
        channel, sample = selection if isinstance(selection, tuple) else (selection, None)
        s = self.structure
        layouts = [c for c in s.channels if channel in ("*", c.name)]
        if not layouts:
            names = [c.name for c in s.channels]
            raise ModelError(f"no channel '{channel}'.{nearest(channel, names)}")
        chosen = np.ones(self.rows.shape[0], bool)
        if sample is not None:
            chosen[:] = False
            for layout in layouts:
                for template in layout.templates:
                    if template.name == sample:
                        chosen[template.start : template.start + layout.bins] = True
            if not chosen.any():
                names = {t.name for c in layouts for t in c.templates}
                raise ModelError(
                    f"no sample '{sample}' in channel '{channel}'.{nearest(sample, sorted(names))}"
                )
        bins = self._summed(chosen)
        return jnp.concatenate([bins[c.start : c.start + c.bins] for c in layouts])

    def _summed(self, chosen: np.ndarray) -> Float[Array, " bins"]:
        zero = jnp.zeros(self.structure.bins, self.rows.dtype)
        return add_at(zero, self.structure.row_bin, jnp.where(chosen, self.rows, 0.0))


Observable = Callable[[ExpectedYields], Float[Array, "..."]]
"""A function of the expected yields."""


class ObservablesResult(eqx.Module):
    """Values of observables and their joint covariance.

    Attributes:
        values: All values, one observable after the other, ``[values]``.
        covariance: Their covariance, ``[values, values]``.
        names: Name of each value: that of the observable, with a number in brackets where it has
            several (static).
        label: ``"pre-fit"``, ``"post-fit"`` or another name (static).
    """

    values: Float[Array, " values"]
    covariance: Float[Array, "values values"]
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


def total(selection: Selection) -> Observable:
    """Return the observable "sum of these bins".

    Example:
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 4.0])
        >>> background = total(("singlechannel", "background"))
        >>> print(observables(model, {"background": background}).as_text())
        pre-fit
        background         102 ± 5
    """
    return lambda yields: jnp.sum(yields[selection])


def normalised(selection: Selection) -> Observable:
    r"""Return the observable "shape of these bins", :math:`\lambda_b / \sum_{b'} \lambda_{b'}`.

    Example:
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [60.0, 40.0], [6.0, 0.0])
        >>> found = observables(model, {"shape": normalised(("singlechannel", "background"))})
        >>> found.values.round(3).tolist(), found.errors.round(3).tolist()
        ([0.6, 0.4], [0.024, 0.024])
    """

    def shape(yields: ExpectedYields) -> Array:
        bins = yields[selection]
        return safe_divide(bins, jnp.broadcast_to(jnp.sum(bins), bins.shape))

    return shape


def ratio(numerator: Selection, denominator: Selection, *, sums: bool = False) -> Observable:
    r"""Return the observable "ratio of two selections", bin by bin or of their sums.

    Args:
        numerator: A selection.
        denominator: Another one, with as many bins, or with ``sums`` any.
        sums: Divide the sums, such as transfer factors between regions.

    Raises:
        ModelError: When used, if the numbers of bins differ.

    Example:
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [60.0, 40.0], [6.0, 0.0])
        >>> b = ("singlechannel", "background")
        >>> found = observables(model, {"s/b": ratio(("singlechannel", "signal"), b)})
        >>> found.values.round(3).tolist(), found.errors.round(3).tolist()
        ([0.2, 0.275], [0.02, 0.0])
    """

    def quotient(yields: ExpectedYields) -> Array:
        above, below = yields[numerator], yields[denominator]
        if sums:
            above, below = jnp.sum(above), jnp.sum(below)
        if above.shape != below.shape:
            raise ModelError(
                f"the ratio of {numerator} ({above.size} bins) and {denominator} ({below.size} "
                "bins) has no bins in common; sums=True divides the sums"
            )
        return safe_divide(above, below)

    return quotient


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
        >>> from difana.infer import fit
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
    parts, values, joint = call(model, chosen, params, covariance)
    names = [
        name if not shape else f"{name}[{', '.join(map(str, index))}]"
        for name, shape in zip(given, (part.shape for part in parts), strict=True)
        for index in np.ndindex(*shape)
    ]
    return ObservablesResult(values, joint, tuple(names), label)


def _observables(
    model: Model, functions: tuple[Observable, ...], params: Array, covariance: Array
) -> tuple[list[Array], Array, Array]:
    def flat(params: Array) -> tuple[Array, list[Array]]:
        seen = ExpectedYields(model.rows(params), model.structure)
        parts = [_array(function(seen), params.dtype) for function in functions]
        return jnp.concatenate([jnp.ravel(part) for part in parts]), parts

    size = jax.eval_shape(lambda p: flat(p)[0], params).shape[0]
    derive = jax.jacrev if size < params.shape[0] else jax.jacfwd
    jacobian, parts = derive(flat, has_aux=True)(params)
    values = jnp.concatenate([jnp.ravel(part) for part in parts])
    covariance = jax.lax.stop_gradient(covariance)
    return parts, values, jacobian @ covariance @ jacobian.T


def _array(value: Any, dtype: Any) -> Array:
    try:
        return jnp.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"an observable returned {type(value).__name__}: it must return a number or an array"
        ) from error


_compiled = eqx.filter_jit(_observables)
