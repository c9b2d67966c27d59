"""Asymptotic CLs: observed, and expected with its band."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Int
from scipy.special import ndtr, ndtri

from difana._errors import ModelError
from difana._numerics import safe_sqrt
from difana._result import AbstractResult
from difana._status import Status
from difana.infer._checks import check_free_poi, check_tested
from difana.infer.asimov import Asimov, asimov_data
from difana.infer.fit import profile
from difana.infer.newton import Minimum
from difana.infer.statistics import check_negative, four_fits, q_from_fits
from difana.likelihood import Model

BAND = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
"""Standard deviations of the five expected values."""


class CLsResult(AbstractResult):
    """CLs of one tested value.

    Attributes:
        observed: Observed CLs; None without data.
        expected: Expected CLs at -2, -1, 0, 1, 2 standard deviations, ``[5]``.
        clsb: Observed p-value of signal plus background; None without data.
        clb: Observed p-value of the background; None without data.
        q: Observed statistic; None without data.
        q_asimov: Statistic on background-only Asimov data.
        status: Bit flags.
    """

    observed: Float[Array, ""] | None
    expected: Float[Array, " band"]
    clsb: Float[Array, ""] | None
    clb: Float[Array, ""] | None
    q: Float[Array, ""] | None
    q_asimov: Float[Array, ""]
    status: Int[Array, ""]


def cls_band(q_asimov: Float[Array, ""]) -> Float[Array, " band"]:
    r"""Return the five expected CLs: :math:`[1-\Phi(\sqrt{q_A}-N)]/\Phi(N)`, N = -2..2.

    Example:
        >>> [f"{value:.4f}" for value in cls_band(jnp.asarray(4.0))]
        ['0.0014', '0.0085', '0.0455', '0.1886', '0.5116']
    """
    root = safe_sqrt(q_asimov)
    return jnp.exp(log_ndtr(BAND - root) - log_ndtr(BAND))


def log_cls_observed(
    q: Float[Array, ""], q_asimov: Float[Array, ""], *, tilde: bool = True
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the logarithms of the observed CLs+b and CLb of q-tilde, or of q.

    References:
        arXiv:1007.1727, equations 59 and 66 to 67; 57 to 58 for q.
    """
    root, root_asimov = safe_sqrt(q), safe_sqrt(q_asimov)
    if not tilde:
        return log_ndtr(-root), log_ndtr(root_asimov - root)
    inside = root <= root_asimov
    denominator = jnp.where(root_asimov > 0, 2 * root_asimov, 1.0)
    beyond = (q - q_asimov) / denominator
    shift = jnp.where(inside, root - root_asimov, beyond)
    return log_ndtr(-(shift + root_asimov)), log_ndtr(-shift)


def asimov_q(
    model: Model, asimov: Asimov, mu: Float[Array, ""]
) -> tuple[Float[Array, ""], Minimum]:
    """Return q_mu on background-only Asimov data: the best fit there is known, one fit remains.

    It starts where every other fit starts, not at the best fit: of two minima it then finds the
    one that the observed statistic is based on, too (and pyhf).
    """
    index = model.poi_index
    start = model.init.at[index].set(mu)
    conditional = profile(model, asimov.data, start, held=model.fixed.at[index].set(True))
    # the deviance of Asimov data vanishes where they were made: no second fit
    return jnp.maximum(2 * conditional.value, 0.0), conditional


def hypotest(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    mu: Float[Array, ""] | float = 1.0,
    statistic: Literal["qtilde", "qmu"] = "qtilde",
) -> CLsResult:
    """Test a value of the parameter of interest with q-tilde (or q) and asymptotic formulae.

    Differentiable in the model, the data and ``mu``: fits by the implicit function
    theorem, likelihood values by the envelope theorem.

    Args:
        model: The model.
        data: Data vector. Without data, only expected values are computed, with nuisances at
            their starting values.
        mu: Tested value, not negative.
        statistic: ``"qtilde"``: the best fit is not negative; ``"qmu"``: it may be, within the
            bounds of the model. Expected values are the same.

    Returns:
        CLs observed and expected; see :class:`CLsResult`.

    Raises:
        ModelError: If the statistic is unknown, or the bounds forbid the negative values of q.

    References:
        arXiv:1007.1727; A. L. Read, J. Phys. G 28 (2002) 2693.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = hypotest(model, model.data([51.0, 48.0]), mu=1.0)
        >>> round(float(result.observed), 6), round(float(result.expected[2]), 6)
        (0.052516, 0.064455)
    """
    check_tested(mu)
    check_free_poi(model)
    if statistic not in ("qtilde", "qmu"):
        raise ModelError(f"no statistic '{statistic}' for CLs; there are qtilde and qmu")
    tilde = statistic == "qtilde"
    if not tilde:
        check_negative(model)
    mu = jnp.asarray(mu, model.nominal.dtype)
    if data is None:
        asimov = asimov_data(model)
        q_asimov, conditional = asimov_q(model, asimov, mu)
        status = asimov.status | conditional.status
        return CLsResult(None, cls_band(q_asimov), None, None, None, q_asimov, status)
    model.check_data(data)
    fits = four_fits(model, data, mu, tilde=tilde)
    q_asimov = jnp.maximum(2 * fits.asimov.value, 0.0)
    q = q_from_fits(model, fits.free, fits.tested, mu)
    log_clsb, log_clb = log_cls_observed(q, q_asimov, tilde=tilde)
    return CLsResult(
        jnp.exp(log_clsb - log_clb),
        cls_band(q_asimov),
        jnp.exp(log_clsb),
        jnp.exp(log_clb),
        q,
        q_asimov,
        # without signal the data may be impossible: that fit only makes the Asimov data
        fits.free.status
        | (fits.null.status & ~int(Status.IMPOSSIBLE))
        | fits.tested.status
        | fits.asimov.status,
    )


def target_root(alpha: float) -> Float[Array, " band"]:
    r"""Return :math:`\sqrt{q_A}` at the five expected limits: :math:`N+\Phi^{-1}(1-\alpha\Phi(N))`.

    Example:
        >>> round(float(target_root(0.05)[2]), 4)
        1.96
    """
    return jnp.asarray(BAND - ndtri(alpha * ndtr(BAND)))
