"""Fit, limits, CLs and significance of one model as plain numbers, each kind compiled once."""

from __future__ import annotations

import functools
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError
from difana._result import AbstractResult
from difana.infer.fit_result import FitResult
from difana.infer.hypotest import CLsResult, hypotest
from difana.infer.limit import LimitResult, upper_limit
from difana.infer.parallel._many import best_fit
from difana.infer.q_limit import upper_limit_q
from difana.infer.significance import SignificanceResult, significance
from difana.infer.statistics import check_negative
from difana.likelihood import Model

_R = TypeVar("_R", bound=AbstractResult)
_UNBOUNDED = 1e12  # where the search for a limit gives up


class Inference:
    """Asymptotic inference on one model, for numbers on the host: what commands print.

    The results are those of the functions of this room, with plain numbers and lists inside; a
    limit that does not exist is not a number. Models of one structure share compiled programs.
    Inside ``jit`` and for gradients call the functions themselves.

    Args:
        model: The model; all but the best fit needs its parameter of interest.
        data: Data vector. Without data all numbers are expected ones, from background-only Asimov
            data with nuisances at their starting values; with data the nuisances are fitted first.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> inference = Inference(model, model.data([51.0, 48.0]))
        >>> limits = inference.limits()
        >>> round(limits.observed, 5), round(limits.median, 5), limits.verdict
        (1.01157, 1.06236, 'ok')
        >>> round(inference.cls(1.0).observed, 6)
        0.052516

    References:
        arXiv:1007.1727.
    """

    def __init__(self, model: Model, data: Float[Array, " data"] | None = None) -> None:
        """Remember model and data, which are checked; nothing is fitted yet."""
        if data is not None:
            model.check_data(data)
        self.model = model
        self.data = data

    @functools.cached_property
    def best(self) -> FitResult:
        """The best fit to the data, within the bounds of the model; arrays."""
        if self.data is None:
            raise ModelError("a fit needs data")
        return best_fit(self.model, self.data)

    def limits(
        self, *, level: float = 0.95, statistic: Literal["qtilde", "qmu"] = "qtilde"
    ) -> LimitResult:
        """Return the observed and the five expected upper limits."""
        if statistic != "qtilde":
            check_negative(self.model)  # bounds are traced inside
        return _plain(_limits(self.model, self.data, level, statistic))

    def cls(self, mu: float = 1.0, *, statistic: Literal["qtilde", "qmu"] = "qtilde") -> CLsResult:
        """Return observed and expected CLs of a tested value."""
        if not (np.isfinite(mu) and mu >= 0):
            raise ModelError(f"mu = {mu}: must be a finite number of at least 0")
        if statistic != "qtilde":
            check_negative(self.model)
        tested = jnp.asarray(mu, self.model.nominal.dtype)
        return _plain(_cls(self.model, self.data, mu=tested, statistic=statistic))

    def significance(self) -> SignificanceResult:
        """Return observed and expected discovery significance."""
        return _plain(_significance(self.model, self.data))


def _plain(result: _R) -> _R:
    return jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), result)


_cls = eqx.filter_jit(hypotest)
_significance = eqx.filter_jit(significance)


@eqx.filter_jit
def _limits(model: Model, data: Array | None, level: float, statistic: str) -> LimitResult:
    search = upper_limit if statistic == "qtilde" else upper_limit_q
    found = search(model, data, level=level)

    def known(limit: Any) -> Any:
        return jnp.where(limit < _UNBOUNDED, limit, jnp.nan)

    limits = jax.tree.map(known, (found.observed, found.expected))
    return LimitResult(*limits, status=found.status, level=level)
