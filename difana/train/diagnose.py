"""What is wrong with a channel: which sample, which bin, which nuisance, which edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float

from difana.data import is_signal
from difana.likelihood import Channel, Template

_MOST = 3
"""Bins named in one sentence."""


def diagnose(
    channels: Channel | Sequence[Channel],
    *,
    edges: Float[ArrayLike, " edges"] | None = None,
    poi: str = "mu",
    minimum: float = 1e-6,
    events: float = 1.0,
    narrowest: float = 1e-6,
) -> tuple[str, ...]:
    r"""Return what is wrong with channels, one sentence each; nothing if all is well.

    Looked for, in this order: edges that are not finite, do not increase, or enclose a bin that is
    narrower than ``narrowest`` of the range; yields, uncertainties and variations that are not
    finite; normalisation factors that are not positive; bins in which the background vanishes or
    has less than ``events`` effective simulated events, :math:`(\sum w)^2/\sum w^2`; a signal
    without yield. Use it as the ``watch`` of ``train.fit``, or after a fit that failed. Works on
    numbers, outside jit.

    Args:
        channels: One channel or several, as ``channel_from_events`` returns them.
        edges: Bin edges, where they are trained.
        poi: Free factor that marks the signal.
        minimum: Smallest background yield of a bin.
        events: Smallest effective number of simulated background events of a bin; 0 for any.
        narrowest: Smallest width of a bin, relative to the range of the edges.

    Returns:
        The problems in words.

    Example:
        >>> from difana.likelihood import HistoSys, NormFactor, Template
        >>> shift = HistoSys([4.0, float("nan")], [4.0, 2.0], "jes")
        >>> signal = Template([1.0, 2.0], (NormFactor("mu"),), name="signal")
        >>> channel = Channel((signal, Template([4.0, 0.0], (shift,), name="top")), name="SR")
        >>> for problem in diagnose(channel, edges=[0.0, 1.0, 1.0]):
        ...     print(problem)
        edges do not increase: bin 1 reaches from 1 to 1
        channel 'SR', sample 'top', nuisance 'jes': the upward variation is nan in bin 1
        channel 'SR': the background vanishes in bin 1 (yield 0)
    """
    found = [] if edges is None else _of_edges(np.asarray(edges, float), narrowest)
    for channel in (channels,) if isinstance(channels, Channel) else channels:
        where = f"channel '{channel.name}'"
        signal, background = [], []
        for template in channel.templates:
            found += _of_template(template, f"{where}, sample '{template.name}'")
            (signal if is_signal(template, poi) else background).append(template)
        if background:
            found += _of_background(background, where, minimum, events)
        if signal and not sum(np.abs(_values(t)).sum() for t in signal) > 0:
            found.append(f"{where}: the signal has no yield")
    return tuple(found)


def _values(template: Template) -> np.ndarray:
    return np.asarray(template.values, float)


def _of_edges(edges: np.ndarray, narrowest: float) -> list[str]:
    bad = np.flatnonzero(~np.isfinite(edges))
    if bad.size:
        return [f"edges are not finite: edge {bad[0]} is {edges[bad[0]]:g}"]
    widths = np.diff(edges)
    low = np.flatnonzero(widths <= 0)
    if low.size:
        j = low[0]
        return [f"edges do not increase: bin {j} reaches from {edges[j]:g} to {edges[j + 1]:g}"]
    thin = np.flatnonzero(widths < narrowest * (edges[-1] - edges[0]))
    if thin.size:
        j = thin[0]
        return [f"degenerate edges: bin {j} is {widths[j]:.3g} wide, at {edges[j]:g}"]
    return []


def _of_template(template: Template, where: str) -> list[str]:
    found = _not_finite(_values(template), f"{where}: the yield")
    for modifier in template.modifiers:
        place = f"{where}, nuisance '{modifier.name}'"
        if modifier.kind in ("histosys", "normsys"):
            for side, word in (("hi", "upward"), ("lo", "downward")):
                number = np.atleast_1d(np.asarray(getattr(modifier, side), float))
                found += _not_finite(number, f"{place}: the {word} variation")
                if modifier.kind == "normsys" and np.isfinite(number[0]) and number[0] <= 0:
                    found.append(f"{place}: the {word} factor is {number[0]:g}, not positive")
        elif modifier.kind in ("staterror", "shapesys"):
            number = np.asarray(modifier.uncertainty, float)
            found += _not_finite(number, f"{place}: the uncertainty")
    return found


def _of_background(
    templates: list[Template], where: str, minimum: float, events: float
) -> list[str]:
    yields = np.sum([_values(template) for template in templates], axis=0)
    found = []
    empty = np.flatnonzero(yields <= minimum)
    if empty.size:
        numbers = ", ".join(f"{yields[j]:.3g}" for j in empty[:_MOST])
        found.append(f"{where}: the background vanishes in {_bins(empty)} (yield {numbers})")
    simulated = [(_values(t), m) for t in templates for m in t.modifiers if m.kind == "staterror"]
    if simulated and events > 0:
        total = np.sum([values for values, _ in simulated], axis=0)
        squares = np.sum([np.asarray(m.uncertainty, float) ** 2 for _, m in simulated], axis=0)
        good = (squares > 0) & (yields > minimum)
        effective = np.where(good, total**2 / np.where(good, squares, 1.0), np.inf)
        poor = np.flatnonzero(effective < events)
        if poor.size:
            numbers = ", ".join(f"{effective[j]:.2g}" for j in poor[:_MOST])
            found.append(
                f"{where}: {_bins(poor)} has no more than {numbers} effective simulated background "
                "event(s)"
            )
    return found


def _not_finite(values: np.ndarray, what: str) -> list[str]:
    bad = np.flatnonzero(~np.isfinite(values))
    if not bad.size:
        return []
    place = f" in {_bins(bad)}" if values.size > 1 else ""
    return [f"{what} is {values[bad[0]]:g}{place}"]


def _bins(indices: np.ndarray) -> str:
    names = ", ".join(str(j) for j in indices[:_MOST])
    more = f" and {indices.size - _MOST} more" if indices.size > _MOST else ""
    return f"bin{'s' if indices.size > 1 else ''} {names}{more}"
