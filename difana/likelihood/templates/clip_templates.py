"""Negative bins of templates, as negative weights leave them, set to zero."""

from __future__ import annotations

import dataclasses

import numpy as np

from difana.likelihood.modifiers import Channel, HistoSys, Template


def clip_templates(channel: Channel) -> tuple[Channel, tuple[str, ...]]:
    """Return a channel without negative bins, and a note for each template that had some.

    A negative bin of a template becomes zero, also where it is varied; its statistical uncertainty
    stays. Yields of variations that are negative in other bins become zero, too.

    Args:
        channel: Templates of numbers (not traced).

    Example:
        >>> from difana.likelihood import StatError
        >>> bkg = Template([10.0, -0.5], (StatError([1.0, 0.6], "stat"),), name="ttbar")
        >>> clipped, notes = clip_templates(Channel((bkg,), name="SR"))
        >>> clipped.templates[0].values.tolist()
        [10.0, 0.0]
        >>> notes
        ("region 'SR', sample 'ttbar': 1 negative bin (-0.5 in bin 1) set to 0: its yield ...",)
    """
    templates, notes = [], []
    for template in channel.templates:
        values = np.asarray(template.values, float)
        low = np.flatnonzero(values < 0)
        modifiers = []
        for m in template.modifiers:
            if isinstance(m, HistoSys):
                sides = (np.asarray(side, float) for side in (m.hi, m.lo))
                hi, lo = (np.where(values < 0, 0.0, np.clip(side, 0, None)) for side in sides)
                m = HistoSys(hi, lo, m.name)
            modifiers.append(m)
        templates.append(Template(np.clip(values, 0, None), tuple(modifiers), name=template.name))
        if low.size:
            listed = ", ".join(f"{values[b]:.3g} in bin {b}" for b in low[:5])
            total = values.sum()
            notes.append(
                f"region '{channel.name}', sample '{template.name}': {low.size} negative "
                f"bin{'s' if low.size > 1 else ''} ({listed}{', ...' if low.size > 5 else ''}) set "
                f"to 0: its yield is {np.clip(values, 0, None).sum():.4g} instead of {total:.4g}"
            )
    return dataclasses.replace(channel, templates=tuple(templates)), tuple(notes)
