"""Variations of normalisation only, or of shape only."""

from __future__ import annotations

from collections.abc import Sequence

from difana._errors import ModelError, nearest
from difana.likelihood.formats._variations import Source, Variations, map_variations
from difana.likelihood.modifiers import HistoSys, NormSys, Template
from difana.likelihood.templates.norm_and_shape import norm_and_shape

PARTS = ("normalization", "shape")


def keep_part(source: Source, part: str, *, modifiers: str | Sequence[str] = "*") -> Source:
    """Return a channel or a workspace whose variations keep one of their parts.

    Of a histosys, ``"normalization"`` leaves the normsys with the factors on the yield, and
    ``"shape"`` the histosys scaled to the yield of nominal; a normsys is all normalisation.

    Args:
        source: A channel, or a workspace (it is not changed).
        part: ``"normalization"`` or ``"shape"``.
        modifiers: Names of the modifiers to treat, or patterns with ``*`` and ``?``.

    Raises:
        ModelError: If the part is unknown or no modifier has the name.

    Example:
        >>> from difana.likelihood import Channel
        >>> bkg = Template([10.0, 30.0], (HistoSys([14.0, 30.0], [8.0, 28.0], "tune"),), name="b")
        >>> channel = Channel((bkg,), name="SR")
        >>> (kept,) = keep_part(channel, "normalization").templates[0].modifiers
        >>> kept.kind, kept.hi, kept.lo
        ('normsys', 1.1, 0.9)
        >>> (kept,) = keep_part(channel, "shape").templates[0].modifiers
        >>> kept.kind, kept.hi.sum().round(6).item(), kept.lo.sum().round(6).item()
        ('histosys', 40.0, 40.0)
    """
    if part not in PARTS:
        raise ModelError(f"a variation has no part '{part}'; there are {', '.join(PARTS)}."
                         f"{nearest(part, PARTS)}")  # fmt: skip

    def treat(template: Template, group: Variations) -> Variations:
        factors = [m for m in group if isinstance(m, NormSys)]
        hi = lo = 1.0
        shapes = []
        for m in group:
            if isinstance(m, HistoSys):
                up, down = (norm_and_shape(template.values, side) for side in (m.hi, m.lo))
                hi, lo = hi * up.factor, lo * down.factor
                shapes.append(HistoSys(up.shape, down.shape, m.name))
        if part == "shape":
            return shapes
        for m in factors:
            hi, lo = hi * float(m.hi), lo * float(m.lo)  # pyright: ignore[reportArgumentType]
        return [NormSys(hi, lo, group[0].name)]

    return map_variations(source, treat, modifiers=modifiers)
