"""Test statistics of toys, and the p-values they give."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from difana._result import AbstractResult
from difana.infer.toys import _rank
from difana.infer.toys._toy_loop import fine, joined

_Numbers = Float[np.ndarray, " toys"]


class ToysResult(AbstractResult):
    """Statistics of toys under two hypotheses, and the p-values they give.

    Toys whose fit fails (``signal_ok``, ``background_ok``) are left out of the ranks; their number
    is ``failed``, their flags are part of ``status``, and the share of them is added to every
    error.

    Attributes:
        mu: Value of the parameter of interest of the signal toys; it is tested, unless the
            statistic is ``q0``, which tests zero.
        observed: Observed statistic; None without data.
        signal: Statistics of the toys with signal, ``[toys]``.
        background: Statistics of the toys without, ``[toys]``.
        signal_best: Best-fit parameters of interest of the toys with signal, ``[toys]``.
        background_best: The same without.
        signal_status: Bit flags of their fits, ``[toys]``.
        background_status: The same without.
        params: Parameters at which background and signal toys were drawn, ``[2, params]``.
        fit_status: Bit flags of the fits to the data.
        keys: The random keys behind the toys, as numbers.
        statistic: Name of the statistic (static).
        mark: Hash of model, data and question (static).
    """

    mu: float
    observed: float | None
    signal: _Numbers
    background: _Numbers
    signal_best: _Numbers
    background_best: _Numbers
    signal_status: Int[np.ndarray, " toys"]
    background_status: Int[np.ndarray, " toys"]
    params: Float[np.ndarray, "2 params"]
    fit_status: int
    keys: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    statistic: str = eqx.field(static=True)
    mark: str = eqx.field(static=True)

    @property
    def signal_ok(self) -> Bool[np.ndarray, " toys"]:
        """True for toys with signal whose fits converged."""
        return fine(self.signal_status)

    @property
    def background_ok(self) -> Bool[np.ndarray, " toys"]:
        """True for toys without signal whose fits converged."""
        return fine(self.background_status)

    @property
    def failed(self) -> tuple[int, int]:
        """Number of toys with and without signal whose fits failed."""
        return int(np.sum(~self.signal_ok)), int(np.sum(~self.background_ok))

    @property
    def status(self) -> int:
        """Bit flags of all fits; a parameter of a toy at its bound is no reason for one."""
        both = np.concatenate([self.signal_status, self.background_status])
        return joined(both) | int(self.fit_status)

    @property
    def message(self) -> str:
        """The status in words, with the number of toys that failed."""
        signal, background = self.failed
        text = super().message
        if signal + background == 0:
            return text
        sizes = self.signal.size, self.background.size
        return (
            f"{signal} of {sizes[0]} toys with signal and {background} of {sizes[1]} without "
            f"failed and are left out: {text}"
        )

    def _share(self, side: str) -> tuple[float, float]:
        """Return the share of toys at least as large as observed, and its error."""
        if self.observed is None:
            return float("nan"), float("nan")
        toys = self._good(side)
        share = _rank.tail(toys, self.observed)
        error = _rank.tail_error(share, toys.size)
        return float(share), float(np.hypot(error, self._lost(side)))

    def _good(self, side: str) -> _Numbers:
        mask = self.signal_ok if side == "signal" else self.background_ok
        return (self.signal if side == "signal" else self.background)[mask]

    def _lost(self, side: str) -> float:
        failed = self.failed[0 if side == "signal" else 1]
        return failed / (self.signal if side == "signal" else self.background).size

    @property
    def clsb(self) -> float:
        """Observed p-value of signal plus background: NaN without data."""
        return self._share("signal")[0]

    @property
    def clsb_error(self) -> float:
        """Its binomial error."""
        return self._share("signal")[1]

    @property
    def clb(self) -> float:
        """Share of background toys with at least the observed statistic."""
        return self._share("background")[0]

    @property
    def clb_error(self) -> float:
        """Its binomial error."""
        return self._share("background")[1]

    @property
    def cls(self) -> float:
        """Observed CLs, ``clsb / clb``."""
        return self.clsb / self.clb if self.clb > 0 else float("nan")

    @property
    def cls_error(self) -> float:
        """Error of the observed CLs."""
        (sb, sb_error), (b, b_error) = self._share("signal"), self._share("background")
        return float(_rank.ratio_error(*map(np.asarray, (sb, sb_error, b, b_error))))

    @property
    def expected(self) -> Float[np.ndarray, " band"]:
        """Expected CLs at -2, -1, 0, 1, 2 standard deviations: quantiles of background toys."""
        return _rank.cls_band(self._good("signal"), self._good("background"))[0]

    @property
    def expected_error(self) -> Float[np.ndarray, " band"]:
        """Errors of the expected CLs."""
        error = _rank.cls_band(self._good("signal"), self._good("background"))[1]
        return np.hypot(error, self._lost("signal") + self._lost("background"))

    @property
    def p_value(self) -> float:
        """Observed p-value of the tested hypothesis: of no signal for ``q0``, else of signal."""
        return self.clb if self.statistic == "q0" else self.clsb

    @property
    def p_value_error(self) -> float:
        """Its binomial error."""
        return self.clb_error if self.statistic == "q0" else self.clsb_error

    @property
    def expected_p_value(self) -> Float[np.ndarray, " band"]:
        """Quantiles of the p-value of the tested hypothesis if the other one is true."""
        tested, other = self._good("signal"), self._good("background")
        if self.statistic == "q0":
            tested, other = other, tested
        return _rank.quantiles(_rank.tail(tested, other))[0]
