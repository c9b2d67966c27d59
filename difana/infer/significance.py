"""Discovery significance, observed and expected."""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Int

from difana._numerics import safe_sqrt
from difana._result import AbstractResult
from difana.infer._checks import check_free_poi, check_tested
from difana.infer.asimov import asimov_data
from difana.infer.fit import profile
from difana.infer.statistics import excluded, fits_in_turn
from difana.likelihood import Model


class SignificanceResult(AbstractResult):
    """Discovery significance in standard deviations, and p-values of the background hypothesis.

    Attributes:
        observed: Observed significance; None without data.
        expected: Median expected significance for ``mu = 1``.
        observed_p: Observed p-value; None without data.
        expected_p: Median expected p-value.
        status: Bit flags.
    """

    observed: Float[Array, ""] | None
    expected: Float[Array, ""]
    observed_p: Float[Array, ""] | None
    expected_p: Float[Array, ""]
    status: Int[Array, ""]


def significance(
    model: Model, data: Float[Array, " data"] | None = None, *, mu: float = 1.0
) -> SignificanceResult:
    r"""Return the discovery significance :math:`Z=\sqrt{q_0}` and :math:`p_0=1-\Phi(Z)`.

    Infinite, with ``IMPOSSIBLE`` in the status, where a bin without background holds events.

    The expected value comes from Asimov data at ``mu``, with nuisances fitted to the data where
    those are given. Differentiable by the envelope and implicit function theorems.

    References:
        arXiv:1007.1727, equations 12, 52 and 53.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),
        ...     Template([50.0], name="b")), name="SR")])
        >>> round(float(significance(model).expected), 4)  # sqrt(2 (60 ln 1.2 - 10))
        1.3706
    """
    check_tested(mu)
    check_free_poi(model)
    tested = jnp.asarray(mu, model.nominal.dtype)
    zero = jnp.zeros_like(tested)
    if data is None:
        asimov = asimov_data(model, mu=tested)
        start = model.init.at[model.poi_index].set(0.0)
        held = model.fixed.at[model.poi_index].set(True)
        null = profile(model, asimov.data, start, held=held)
        # the deviance of Asimov data vanishes where they were made
        expected = excluded(safe_sqrt(2 * null.value), null.status)
        status = asimov.status | null.status
        return SignificanceResult(None, expected, None, jnp.exp(log_ndtr(-expected)), status)
    model.check_data(data)
    signal, null, free, null_asimov = fits_in_turn(
        model,
        data,
        jnp.stack([tested, zero, zero, zero]),
        free=(False, False, True, False),
        on_asimov=(False, False, False, True),
    )
    expected = excluded(safe_sqrt(2 * null_asimov.value), null_asimov.status)
    observed = safe_sqrt(2 * (null.value - free.value))  # the best fit is not negative
    observed = excluded(observed, null.status, free.status)
    status = signal.status | null.status | free.status | null_asimov.status
    return SignificanceResult(
        observed, expected, jnp.exp(log_ndtr(-observed)), jnp.exp(log_ndtr(-expected)), status
    )
