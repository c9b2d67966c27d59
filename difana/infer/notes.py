"""Where asymptotic formulae are beyond their range: few events, far tails, bounds."""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike, Float

from difana._result import AbstractResult
from difana._status import StatusBits
from difana.infer.fit import FitResult
from difana.likelihood import Model

_FEW = 5.0  # expected events of a bin below which asymptotic formulae are approximations
_EVENTS = 10.0  # effective events below which a limit moves by more than its last digit
_TAIL = 0.1  # leading relative correction of a p-value that is worth a word
_SEEN = 5.0  # effective observed events that a discovery should have
_NONE = 4.0  # here two standard deviations below the expectation lie at no events


class NotesStatus(StatusBits):
    """What is beyond the range of the asymptotic formulae; several may be at once."""

    OK = 0
    FEW_EXPECTED = 1
    FEW_EVENTS = 2
    NO_LOWER_BAND = 4
    FEW_SEEN = 8
    AT_BOUND = 16

    @classmethod
    def sentences(cls) -> Mapping[int, str]:
        """Return what each bit means; those of a result name bins, numbers and parameters."""
        return {
            cls.FEW_EXPECTED: "a bin expects few background events",
            cls.FEW_EVENTS: "the test rests on the equivalent of few events",
            cls.NO_LOWER_BAND: "-2 sigma of the expected band would be fewer than no events",
            cls.FEW_SEEN: "the data hold few events where the signal is",
            cls.AT_BOUND: "a parameter lies at a bound, which the formulae do not know",
        }


class NotesResult(AbstractResult):
    """What to know about the validity of asymptotic results.

    Attributes:
        status: Bits of `NotesStatus`; 0 if nothing is beyond the range of the formulae.
        sentences: One for each, with bins, numbers and names.
        events: Effective number of events behind the test statistic.
        instead: What to run instead.
    """

    bits = NotesStatus

    status: int = eqx.field(static=True)
    sentences: tuple[str, ...] = eqx.field(static=True)
    events: float
    instead: str = eqx.field(static=True)

    @property
    def message(self) -> str:
        """The sentences and what to run instead; ``ok`` if there are none."""
        if self.ok:
            return "ok"
        return f"{'; '.join(self.sentences)}. Check with: {self.instead}"


def notes(
    model: Model,
    data: Float[ArrayLike, " data"] | None = None,
    *,
    mu: float = 1.0,
    statistic: str = "qtilde",
    sigmas: float = 2.0,
    fit: FitResult | None = None,
    instead: str | None = None,
) -> NotesResult:
    r"""Say where asymptotic CLs, limits and significances of a model need a check by toys.

    The asymptotic law holds where the best fit of the parameter of interest is Gaussian. Its
    leading correction is the skewness of the score, that of a counting experiment with

    .. math:: N = \Big(\sum_b \frac{s_b^2}{\lambda_b}\Big)^3
                  \Big/ \Big(\sum_b \frac{|s_b|^3}{\lambda_b^2}\Big)^2, \qquad
              \lambda_b = b_b + \tfrac12 \mu s_b

    events (for a discovery :math:`\lambda_b = b_b`): :math:`N = \lambda` for one bin, and many bins
    of few events each may hold many. A p-value at :math:`z` standard deviations is off by
    :math:`z/6\sqrt N`, and as counts are whole numbers, the limit of a counting experiment rises
    by about :math:`0.3/\sqrt N`. Yields are those of the nominal templates times the factors. In
    NumPy: nothing is fitted or compiled.

    Args:
        model: The model.
        data: Data vector, for a discovery: do the data hold more than a few events?
        mu: Tested value.
        statistic: Statistic of the test; ``q0`` asks for a discovery.
        sigmas: How far in the tail the law is used, in standard deviations.
        fit: A fit to the data, for its factors and for nuisances at their bounds.
        instead: What to run instead; the call of :func:`toys` by default.

    Returns:
        Sentences, none where the formulae are in their range.

    Raises:
        ModelError: If the model has no parameter of interest.

    References:
        Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727; O. E. Barndorff-Nielsen, Biometrika 73
        (1986) 307.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> def counting(signal, background):
        ...     sample = Template([signal], (NormFactor("mu"),), name="s")
        ...     return build_model([Channel((sample, Template([background], name="b")), name="SR")])
        >>> notes(counting(30.0, 200.0)).message
        'ok'
        >>> few = notes(counting(4.0, 1.5))
        >>> few.sentences[0]
        "channel 'SR', bin 1 expects 1.5 background events: asymptotic formulae are approximations"
        >>> few.events, few.instead
        (3.5, 'infer.toys(model, data, mu=1, number=10000, key=key)')
    """
    signal, background = _yields(model, fit)
    found = {NotesStatus.FEW_EXPECTED: _few(model, signal, background)}
    middle = background + (0.0 if statistic == "q0" else 0.5 * abs(mu)) * np.abs(signal)
    some = (signal != 0) & (middle > 0)
    s, b = np.abs(signal[some]), middle[some]
    third = np.sum(s**3 / b**2)
    events = float(np.sum(s**2 / b) ** 3 / third**2) if third > 0 else np.inf
    far = sigmas if np.isfinite(sigmas) else 0.0
    if events < max(_EVENTS, (far / (6.0 * _TAIL)) ** 2):
        if statistic == "q0":
            off = f"significance {0.22 / np.sqrt(events):.2g} below"
        else:
            off = f"limit {30 / np.sqrt(events):.0f} % above"
        found[NotesStatus.FEW_EVENTS] = (
            f"the test rests on the equivalent of {events:.2g} events: counting as many, the exact "
            f"{off} the asymptotic one"
        )
        if events < _NONE and statistic != "q0":
            none = NotesStatus.NO_LOWER_BAND
            found[none] = NotesStatus.sentences()[none]
    if data is not None and statistic == "q0" and s.size:
        found[NotesStatus.FEW_SEEN] = _seen(np.asarray(data)[: model.bins][some], s / b)
    if fit is not None:
        found[NotesStatus.AT_BOUND] = _bounds(model, fit)
    call = f"infer.toys(model, data, mu={mu:g}, number=10000, key=key"
    call += ")" if statistic == "qtilde" else f', statistic="{statistic}")'
    said = {bit: sentence for bit, sentence in found.items() if sentence}
    instead = call if instead is None else instead
    return NotesResult(int(sum(said)), tuple(said.values()), events, instead)


def _yields(model: Model, fit: FitResult | None) -> tuple[np.ndarray, np.ndarray]:
    """Return signal at unit strength and background of every bin; zero in masked ones."""
    s, poi = model.structure, model.poi_index
    values = np.append(np.asarray(model.init if fit is None else fit.params), 1.0)
    values[poi] = 1.0
    rows = np.asarray(model.nominal) * np.prod(values[s.factors], axis=1)
    steered = (s.factors == poi).any(axis=1)
    both = [
        np.bincount(s.row_bin, np.where(chosen, rows, 0.0), minlength=model.bins)
        for chosen in (steered, ~steered)
    ]
    if s.masked.size:
        both = [np.where(s.masked, 0.0, part) for part in both]
    return both[0], both[1]


def _few(model: Model, signal: np.ndarray, background: np.ndarray) -> str:
    few = np.flatnonzero((signal != 0) & (background < _FEW))
    if not few.size:
        return ""
    least = few[np.argmin(background[few])]
    channel = next(c for c in model.structure.channels if least < c.start + c.bins)
    more = f" ({few.size} bins expect less than {_FEW:g})" if few.size > 1 else ""
    place = f"channel '{channel.name}', bin {least - channel.start + 1}"
    expects = f"expects {background[least]:.3g} background events{more}"
    return f"{place} {expects}: asymptotic formulae are approximations"


def _seen(counts: np.ndarray, weights: np.ndarray) -> str:
    """Return a sentence if the signal-like data are a few events alone."""
    squares = np.sum(weights**2 * counts)
    seen = float(np.sum(weights * counts) ** 2 / squares) if squares > 0 else 0.0
    if seen >= _SEEN:
        return ""
    return f"the data hold the equivalent of {seen:.2g} events where the signal is"


def _bounds(model: Model, fit: FitResult) -> str:
    # of the parameter of interest the formulae know that it is not negative
    names = [name for name in fit.at_bound if name != model.structure.poi]
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    listed = ", ".join(f"'{name}'" for name in names[:3])
    return f"at a bound, which the formulae do not know: {listed}{more}"
