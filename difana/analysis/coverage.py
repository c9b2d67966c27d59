"""Coverage of limits and intervals, and bias of the best fit, measured with toys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from difana._errors import ConfigError, ModelError
from difana._numerics import after
from difana._options import whole_number
from difana.infer import (
    AbstractResult,
    fit,
    hypotest,
    map_points,
    sample_data,
    tmu_tilde,
    tmu_tilde_p_value,
    trustworthy,
)
from difana.likelihood import Model

KINDS = ("limit", "clsb", "interval")


class CoverageResult(AbstractResult):
    """Toys at each true value: what is tested there, and what is fitted.

    Toys whose fits fail are left out; ``failed`` counts them.

    Attributes:
        mu: True values, ``[points]``.
        p_value: What decides whether the truth is covered: CLs of the true value for ``limit``,
            CLs+b for ``clsb``, the two-sided p-value for ``interval``, ``[points, toys]``.
        best: Best-fit values within the bounds, ``[points, toys]``.
        sigma: Their uncertainties from the curvature; 0 where pressed against a bound.
        toy_status: Bit flags of the fits, ``[points, toys]``.
        level: Confidence level (static).
        kind: ``limit``, ``clsb`` or ``interval`` (static).
    """

    mu: Float[np.ndarray, " points"]
    p_value: Float[np.ndarray, "points toys"]
    best: Float[np.ndarray, "points toys"]
    sigma: Float[np.ndarray, "points toys"]
    toy_status: Int[np.ndarray, "points toys"]
    level: float = eqx.field(static=True)
    kind: str = eqx.field(static=True)

    @property
    def good(self) -> Bool[np.ndarray, "points toys"]:
        """True for toys whose fits can be trusted."""
        return np.asarray(trustworthy(jnp.asarray(self.toy_status))) & np.isfinite(self.p_value)

    @property
    def failed(self) -> Int[np.ndarray, " points"]:
        """Number of toys left out."""
        return np.sum(~self.good, axis=1)

    @property
    def coverage(self) -> Float[np.ndarray, " points"]:
        """Share of toys whose limit or interval contains the truth."""
        return self._mean(self.p_value >= 1 - self.level)

    @property
    def coverage_error(self) -> Float[np.ndarray, " points"]:
        """Its binomial error, with one toy of either kind added: never 0 (Wilson's centre)."""
        number = np.sum(self.good, axis=1)
        share = (self.coverage * number + 1) / (number + 2)
        return np.sqrt(share * (1 - share) / np.maximum(number, 1))

    @property
    def bias(self) -> Float[np.ndarray, " points"]:
        """Mean of best fit minus truth."""
        return self._mean(self.best - self.mu[:, None])

    @property
    def bias_error(self) -> Float[np.ndarray, " points"]:
        """Standard error of the bias."""
        away = self.best - self.mu[:, None]
        variance = self._mean((away - self.bias[:, None]) ** 2)
        return np.sqrt(variance / np.maximum(np.sum(self.good, axis=1), 1))

    @property
    def at_bound(self) -> Float[np.ndarray, " points"]:
        """Share of best fits pressed against a bound: those have no pull."""
        return self._mean(self.sigma <= 0)

    @property
    def pulls(self) -> Float[np.ndarray, "points toys"]:
        """(best fit - truth) / uncertainty; NaN for toys left out and for those at a bound."""
        kept = self.good & (self.sigma > 0)
        width = np.where(kept, self.sigma, 1.0)
        return np.where(kept, (self.best - self.mu[:, None]) / width, np.nan)

    @property
    def mean_pull(self) -> Float[np.ndarray, " points"]:
        """Mean pull; NaN if a bound cuts the pulls (lower it, see :func:`coverage`)."""
        return self._of_pulls(np.mean)

    @property
    def pull_width(self) -> Float[np.ndarray, " points"]:
        """Standard deviation of the pulls; its error is ``1 / sqrt(2 toys)``."""
        return self._of_pulls(np.std)

    @property
    def chi2(self) -> Float[np.ndarray, " points"]:
        """Sum of the squared pulls divided by their number: 1 without bias, at the right width."""
        return self._of_pulls(lambda pulls: np.mean(pulls**2))

    @property
    def chi2_p_value(self) -> Float[np.ndarray, " points"]:
        """Probability of a sum of squared pulls farther from its expectation, on either side."""
        number = np.sum(self.good, axis=1).astype(float)
        above = jax.scipy.special.gammaincc(number / 2, number * np.nan_to_num(self.chi2) / 2)
        both = 2 * np.minimum(above, 1 - np.asarray(above))
        return np.where(np.isnan(self.chi2), np.nan, both)

    @property
    def status(self) -> int:
        """Bit flags of all fits."""
        return int(np.bitwise_or.reduce(self.toy_status, axis=None))

    @property
    def ok(self) -> bool:
        """True if every fit can be trusted."""
        return not self.failed.any()

    @property
    def message(self) -> str:
        """The status in words, with the number of toys left out."""
        lost = int(self.failed.sum())
        if not lost:
            return "ok"
        return f"{lost} of {self.good.size} toys failed and are left out: {super().message}"

    def _mean(self, values: np.ndarray) -> np.ndarray:
        number = np.sum(self.good, axis=1)
        sums = np.sum(np.where(self.good, values, 0.0), axis=1)
        return np.where(number > 0, sums / np.maximum(number, 1), np.nan)

    def _of_pulls(self, function: Any) -> np.ndarray:
        found = []
        for pulls, kept in zip(self.pulls, self.good, strict=True):
            own = pulls[kept]
            found.append(function(own) if own.size and np.isfinite(own).all() else np.nan)
        return np.array(found)


class _Toy(eqx.Module):
    """Draw and test one toy."""

    key_kind: str = eqx.field(static=True)
    kind: str = eqx.field(static=True)

    def __call__(self, point: dict[str, Array], model: Model, key: Array) -> dict[str, Array]:
        base = jax.random.wrap_key_data(key, impl=self.key_kind)
        own = jax.random.fold_in(jax.random.fold_in(base, point["row"]), point["toy"])
        data = sample_data(model, point["params"], key=own, number=1)[0]
        poi = model.poi_index
        mu = point["params"][poi]
        test = hypotest(model, data, mu=mu)
        assert test.observed is not None
        assert test.clsb is not None
        p_value, status = test.observed if self.kind == "limit" else test.clsb, test.status
        data = after(data, status)
        if self.kind == "interval":
            both = tmu_tilde(model, data, mu=mu)
            p_value = tmu_tilde_p_value(both.value, test.q_asimov)
            best, status = both.free, status | both.status
        else:
            best = fit(model, data, poi_upper=np.inf)
        return {
            "p_value": p_value,
            "best": best.params[poi],
            "sigma": jnp.sqrt(jnp.maximum(best.covariance[poi, poi], 0.0)),
            "status": status | best.status,
        }


def coverage(
    model: Model,
    *,
    mu: float | Sequence[float] = 1.0,
    number: int,
    key: PRNGKeyArray,
    truth: Mapping[str, float] | None = None,
    level: float = 0.95,
    kind: str = "limit",
    chunk: int = 256,
    devices: Any = None,
    progress: bool = False,
) -> CoverageResult:
    r"""Measure with toys how often a limit contains the truth, and how biased the best fit is.

    ``number`` data sets, main and auxiliary data, are drawn at every true value; auxiliary data
    fluctuate about ``truth``. The asymptotic CLs limit of a toy,
    :math:`\mu_\mathrm{up} = \sup\{\mu : CL_s(\mu) \ge \alpha\}`, covers the true value if
    :math:`\mu \le \mu_\mathrm{up}`. No limit is searched:

    .. math:: \mu \le \mu_\mathrm{up} \iff CL_s(\mu) \ge \alpha = 1 - \mathrm{level}

    because CLs crosses :math:`\alpha` once. Below the best fit :math:`q_\mu = 0` and
    :math:`CL_s = \tfrac12 / \Phi(\sqrt{q_A}) \ge \tfrac12 > \alpha`. Above it
    :math:`\sqrt{q_\mu} = (\mu - \hat\mu)/\sigma` and :math:`\sqrt{q_A} = \mu/\sigma` grow, so that
    :math:`CL_{s+b} = \Phi(-\sqrt{q_\mu})` falls while
    :math:`CL_b = \Phi(\sqrt{q_A} - \sqrt{q_\mu}) = \Phi(\hat\mu/\sigma)` stays; where the best fit
    is at 0, :math:`CL_b` stays below 1/2 and the ratio of tails of one Gaussian falls, too. Where a
    likelihood is not parabolic this holds as long as CLs has one crossing, which
    :func:`difana.infer.upper_limit` assumes as well. A test of one value replaces a search.

    CLs limits contain 0 always, and small signals more often than ``level`` says, by
    construction: coverage falls to ``level`` where CLb is near 1. So there are two other kinds:
    ``clsb`` leaves the division by CLb out, and ``interval`` is the two-sided interval of
    :math:`\tilde t_\mu`, whose coverage is ``level`` also at 0 (there it is one minus the rate of
    false discoveries at ``1 - level``).

    The uncertainty of a best fit comes from the curvature of its likelihood. For the mean pull at
    a truth near 0, build the model with a negative lower bound of the parameter of interest: the
    tests keep to :math:`\hat\mu \ge 0`, the best fits of ``limit`` and ``clsb`` do not.

    Args:
        model: The model.
        mu: True values of the parameter of interest.
        number: Toys at each.
        key: Random key; toy ``i`` of value ``r`` depends on the key, ``r`` and ``i`` alone.
        truth: True values of nuisances by name; the others are at their starting values.
        level: Confidence level of the limit.
        kind: ``limit`` (CLs), ``clsb`` or ``interval``.
        chunk: Toys fitted together.
        devices: Devices to spread the toys over; all local ones by default.
        progress: Show a progress bar on a terminal.

    Returns:
        Coverage, bias and pulls with their errors.

    Raises:
        ConfigError: If a number or the kind is out of range.
        ModelError: If a nuisance does not exist.

    References:
        arXiv:1007.1727; A. L. Read, J. Phys. G 28 (2002) 2693.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([10.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal, Template([50.0], name="b")), name="SR")])
        >>> coverage(model, mu=[1.0], number=0, key=jax.random.key(0))
        Traceback (most recent call last):
        difana._errors.ConfigError: number = 0: at least one toy is needed
    """
    if isinstance(number, int) and number < 1:
        raise ConfigError(f"number = {number}: at least one toy is needed")
    number = whole_number("number", number)
    chunk = whole_number("chunk", chunk)
    if not 0 < level < 1:
        raise ConfigError(f"level = {level}: must lie between 0 and 1")
    if kind not in KINDS:
        raise ConfigError(f"kind = '{kind}': choose one of {list(KINDS)}")
    values = np.atleast_1d(np.asarray(mu, float))
    if not (np.isfinite(values).all() and (values >= 0).all() and values.size):
        raise ConfigError(f"mu = {mu}: true values must be finite and not negative")
    params = np.repeat(_truth(model, truth)[None], len(values), axis=0)
    params[:, model.poi_index] = values
    row, toy = (part.ravel() for part in np.indices((len(values), number), np.uint32))
    found = map_points(
        _Toy(str(jax.random.key_impl(key)), kind),
        {"row": row, "toy": toy, "params": params[row]},
        constants=(model, np.asarray(jax.random.key_data(key))),
        devices=devices,
        chunk=chunk,
        progress=progress,
    )
    shaped = {name: leaf.reshape(len(values), number) for name, leaf in found.items()}
    return CoverageResult(
        mu=values,
        p_value=shaped["p_value"],
        best=shaped["best"],
        sigma=shaped["sigma"],
        toy_status=shaped["status"],
        level=float(level),
        kind=kind,
    )


def _truth(model: Model, truth: Mapping[str, float] | None) -> np.ndarray:
    """Return the true parameters, the parameter of interest not yet set."""
    params = np.array(model.init)
    for name, value in (truth or {}).items():
        index = model.index(name)
        if index == model.poi_index:
            raise ModelError(f"'{name}' is the parameter of interest: give it as `mu`")
        params[index] = value
    return params
