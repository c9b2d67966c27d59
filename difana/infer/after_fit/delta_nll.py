"""Where two fits differ: the change of the nll by bin and by constraint."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import ModelError
from difana._result import AbstractResult
from difana._status import Status, flag
from difana.infer.fit_result import FitResult
from difana.infer.parallel._many import traced
from difana.likelihood import Model


class DeltaNllResult(AbstractResult):
    r"""Change of the negative log-likelihood from fit B to fit A, term by term.

    Attributes:
        bins: Change of the Poisson term of each bin, ``[bins]``; 0 in masked ones.
        constraints: Change of each constraint term, ``[constraints]``.
        total: Change of the whole nll: the sum of both, exactly.
        status: Bit flags of both fits.
        bin_names: ``"SR[0]"``, one a bin (static).
        constraint_names: Names of the constrained parameters (static).
        labels: Names of fits A and B (static).
    """

    bins: Float[Array, " bins"]
    constraints: Float[Array, " constraints"]
    total: Float[Array, ""]
    status: Int[Array, ""]
    bin_names: tuple[str, ...] = eqx.field(static=True)
    constraint_names: tuple[str, ...] = eqx.field(static=True)
    labels: tuple[str, str] = eqx.field(static=True)

    def rows(self) -> list[tuple[str, float]]:
        """Return name and change of every term, the largest size first."""
        names = [f"bin {name}" for name in self.bin_names]
        names += [f"constraint {name}" for name in self.constraint_names]
        values = np.concatenate([np.asarray(self.bins), np.asarray(self.constraints)])
        order = np.argsort(-np.abs(values), kind="stable")
        return [(names[i], float(values[i])) for i in order]

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return {
            "labels": list(self.labels),
            "total": float(self.total),
            "bins": dict(zip(self.bin_names, np.asarray(self.bins).tolist(), strict=True)),
            "constraints": dict(
                zip(self.constraint_names, np.asarray(self.constraints).tolist(), strict=True)
            ),
        }

    def as_text(self, *, most: int | None = 20) -> str:
        """Return a table, the largest terms first; the others are summed in one line.

        Args:
            most: Show this many only; None for all.
        """
        rows = self.rows()
        shown = rows[:most]
        lines = [(f"nll({self.labels[0]}) - nll({self.labels[1]})", ""), *_cells(shown)]
        if len(shown) < len(rows):
            rest = sum(value for _, value in rows[len(shown) :])
            lines += _cells([(f"{len(rows) - len(shown)} others", rest)])
        lines += _cells([("total", float(self.total))])
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name.ljust(width)}  {value:>9}".rstrip() for name, value in lines)


def _cells(rows: list[tuple[str, float]]) -> list[tuple[str, str]]:
    return [(name, f"{value:+.4f}") for name, value in rows]


def delta_nll(
    model: Model,
    data: Float[Array, " data"],
    fit_a: FitResult | Float[Array, " params"],
    fit_b: FitResult | Float[Array, " params"],
    *,
    labels: tuple[str, str] = ("A", "B"),
) -> DeltaNllResult:
    r"""Return which bins and which constraints make the difference between two fits.

    With :math:`L = \sum_b l_b + \sum_c l_c`, the Poisson terms :math:`l_b = \lambda_b - n_b
    \ln\lambda_b` and the constraint terms :math:`l_c`, each entry is

    .. math:: \Delta_i = l_i(\theta_A) - l_i(\theta_B), \qquad \sum_i \Delta_i = L(A) - L(B).

    A positive entry: B describes that datum better. With A the fit without signal and B the best
    fit :math:`2\sum_i\Delta_i` is the statistic for discovery. Correlated constraints
    :math:`d^T R^{-1} d / 2` are shared out as :math:`d_i (R^{-1} d)_i / 2`. Differentiable, and
    callable inside ``jit``.

    Args:
        model: The model.
        data: Data vector.
        fit_a: A fit, or parameters ``[params]``.
        fit_b: The one it is compared with.
        labels: What to call both, for tables and plots.

    Returns:
        The terms.

    Raises:
        ModelError: If the data or the parameters have the wrong length.

    References:
        Asked for by users of combine in cms-analysis/HiggsAnalysis-CombinedLimit, PR 827.

    Example:
        >>> from difana.infer import fit
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
        >>> data = model.data([60.0, 55.0])
        >>> null, best = fit(model, data, fixed={"mu": 0.0}), fit(model, data)
        >>> print(delta_nll(model, data, null, best, labels=("b", "s+b")).as_text(most=3))
        nll(b) - nll(s+b)
        bin singlechannel[0]             +0.6262
        constraint uncorr_bkguncrt[0]    +0.1211
        bin singlechannel[1]             -0.0205
        1 others                         -0.0131
        total                            +0.7136
    """
    model.check_data(data)
    for fit in (fit_a, fit_b):
        if isinstance(fit, FitResult) and fit.names != model.parameters:
            raise ModelError(
                "a fit has other parameters than the model: both must be fits of this model"
            )
    points = [fit.params if isinstance(fit, FitResult) else jnp.asarray(fit) for fit in
              (fit_a, fit_b)]  # fmt: skip
    for point in points:
        if point.shape != (len(model.parameters),):
            raise ModelError(
                f"a fit has parameters of shape {point.shape}, the model has "
                f"{len(model.parameters)}: both must be fits of this model"
            )
    terms = _terms if traced(model, data, *points) else _compiled
    bins, constraints = (
        a - b for a, b in zip(terms(model, data, points[0]), terms(model, data, points[1]),
                              strict=True)
    )  # fmt: skip
    s, total = model.structure, jnp.sum(bins) + jnp.sum(constraints)
    status = flag(~jnp.isfinite(total), Status.NOT_FINITE)
    for fit in (fit_a, fit_b):
        status |= fit.status if isinstance(fit, FitResult) else 0
    return DeltaNllResult(
        bins=bins,
        constraints=constraints,
        total=total,
        status=status,
        bin_names=tuple(f"{c.name}[{i}]" for c in s.channels for i in range(c.bins)),
        constraint_names=tuple(model.parameters[i] for i in s.constrained),
        labels=labels,
    )


def _terms(model: Model, data: Array, params: Array) -> tuple[Array, Array]:
    widths, tau = model.constraint_scales()
    theta = params[model.structure.constrained]
    auxiliary = data[model.bins :]
    return model.bin_terms(params, data), model.constraint_terms(theta, auxiliary, widths, tau)


_compiled = eqx.filter_jit(_terms)
