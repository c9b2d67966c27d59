"""Smooth variations of a channel or a workspace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from difana.likelihood.formats._variations import Source, Variations, map_variations
from difana.likelihood.modifiers import HistoSys, NormSys, StatError, Template
from difana.likelihood.templates.smooth_templates import smooth_templates


def smooth(
    source: Source, *, method: str = "local", modifiers: str | Sequence[str] = "*"
) -> Source:
    """Return a channel or a workspace whose histosys are smooth relative to nominal.

    Each side is treated by :func:`smooth_templates`, with the statistical uncertainty of the
    sample (staterror) where it has one; its yield stays, and no bin becomes negative.

    Args:
        source: A channel, or a workspace (it is not changed).
        method: ``"local"`` or ``"353QH"``.
        modifiers: Names of the modifiers to treat, or patterns with ``*`` and ``?``.

    Raises:
        ModelError: If the method is unknown or no modifier has the name.

    Example:
        >>> from difana.likelihood import Channel
        >>> up, down = 100 + np.array([4.0, 6, 5, 6, 4]), 100 - np.array([4.0, 6, 5, 6, 4])
        >>> bkg = Template(np.full(5, 100.0), (HistoSys(up, down, "tune"),), name="ttbar")
        >>> smooth(Channel((bkg,), name="SR")).templates[0].modifiers[0].hi.round(6).tolist()
        [105.0, 105.0, 105.0, 105.0, 105.0]
    """

    def treat(template: Template, group: Variations) -> Variations:
        found = [m for m in template.modifiers if isinstance(m, StatError)]
        errors = np.asarray(found[0].uncertainty) if found else None
        return [_smoothed(template, m, errors, method) for m in group]

    return map_variations(source, treat, modifiers=modifiers)


def _smoothed(
    template: Template, m: HistoSys | NormSys, errors: np.ndarray | None, method: str
) -> HistoSys | NormSys:
    if not isinstance(m, HistoSys):
        return m
    hi, lo = (
        np.clip(smooth_templates(template.values, side, errors=errors, method=method), 0, None)
        for side in (m.hi, m.lo)
    )
    return HistoSys(hi, lo, m.name)
