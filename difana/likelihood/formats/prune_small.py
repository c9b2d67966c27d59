"""Variations without the parts that hardly change anything."""

from __future__ import annotations

from collections.abc import Sequence

from difana._errors import ModelError
from difana.likelihood.formats._variations import Source, Variations, map_variations
from difana.likelihood.modifiers import HistoSys, NormSys, Template
from difana.likelihood.templates.norm_and_shape import norm_and_shape

_NOTHING = 1e-9  # a factor that is one but for rounding


def prune_small(
    source: Source,
    *,
    shape: float = 0.0,
    normalization: float = 0.0,
    modifiers: str | Sequence[str] = "*",
) -> Source:
    """Return a channel or a workspace without small variations.

    The normalisation of a variation is left out of a sample where it changes the yield by less
    than the threshold on both sides, its shape where it changes no bin by more; each is judged
    for itself, sample by sample and channel by channel.

    Args:
        source: A channel, or a workspace (it is not changed).
        shape: Smallest relative change of a bin, beside that of the yield, that is kept.
        normalization: Smallest relative change of the yield that is kept.
        modifiers: Names of the modifiers to treat, or patterns with ``*`` and ``?``.

    Raises:
        ModelError: If a threshold is negative or no modifier has the name.

    Example:
        >>> from difana.likelihood import Channel
        >>> tune = HistoSys([10.9, 29.1], [9.1, 30.9], "tune")
        >>> bkg = Template([10.0, 30.0], (tune, NormSys(1.001, 0.999, "lumi")), name="b")
        >>> channel = prune_small(Channel((bkg,), name="SR"), shape=0.01, normalization=0.01)
        >>> [(m.kind, m.name) for m in channel.templates[0].modifiers]
        [('histosys', 'tune')]
        >>> prune_small(channel, shape=0.1).templates[0].modifiers
        ()
    """
    if not (shape >= 0 and normalization >= 0):
        raise ModelError(f"thresholds must not be negative, got {shape:g} and {normalization:g}")

    def treat(template: Template, group: Variations) -> Variations:
        hi = lo = 1.0
        kept: list[HistoSys | NormSys] = []
        whole: list[HistoSys | NormSys] = []
        for m in group:
            if isinstance(m, NormSys):
                hi, lo = hi * float(m.hi), lo * float(m.lo)  # pyright: ignore[reportArgumentType]
                continue
            up, down = (norm_and_shape(template.values, side) for side in (m.hi, m.lo))
            hi, lo = hi * up.factor, lo * down.factor
            if max(up.deviation(template.values), down.deviation(template.values)) >= shape:
                kept.append(HistoSys(up.shape, down.shape, m.name))
                whole.append(m)
        change = max(abs(hi - 1), abs(lo - 1))
        if change < normalization or change < _NOTHING:
            return kept
        return list(group) if whole or not _histosys(group) else [NormSys(hi, lo, group[0].name)]

    return map_variations(source, treat, modifiers=modifiers)


def _histosys(group: Variations) -> bool:
    return any(isinstance(m, HistoSys) for m in group)
