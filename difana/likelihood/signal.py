"""Exchange the signal of a model without building it again."""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from difana._errors import ModelError, nearest
from difana.likelihood.model import Model
from difana.likelihood.structure import ChannelLayout, TemplateLayout

Pairs = Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]]


def _find(model: Model, channel: str, sample: str | None) -> tuple[ChannelLayout, TemplateLayout]:
    """Return the signal template of a channel: the one named, or the one the POI steers."""
    channels = {layout.name: layout for layout in model.structure.channels}
    if channel not in channels:
        raise ModelError(f"no channel '{channel}'.{nearest(channel, channels)}")
    templates = channels[channel].templates
    names = [template.name for template in templates]
    if sample is not None:
        if sample not in names:
            raise ModelError(f"no sample '{sample}' in '{channel}'.{nearest(sample, names)}")
        return channels[channel], templates[names.index(sample)]
    poi = model.structure.poi
    found = [t for t in templates if any(layout.name == poi for layout in t.modifiers)]
    if len(found) != 1:
        raise ModelError(
            f"the parameter of interest '{poi}' steers {[t.name for t in found]} in channel "
            f"'{channel}', not one sample: name it with `sample`"
        )
    return channels[channel], found[0]


def _entries(
    model: Model, given: Pairs, kind: str, sample: str | None
) -> tuple[np.ndarray, Array, Array]:
    """Return which entries of a kind are given, and their numbers at +1 and -1."""
    places, ups, downs = [], [], []
    for channel, variations in given.items():
        layout, template = _find(model, channel, sample)
        size = layout.bins if kind == "histosys" else 1
        starts = {m.name: m.start for m in template.modifiers if m.kind == kind}
        for name, (hi, lo) in variations.items():
            if name not in starts:
                raise ModelError(
                    f"sample '{template.name}' in '{channel}' has no {kind} '{name}'."
                    f"{nearest(name, starts)}"
                )
            places += range(starts[name], starts[name] + size)
            for numbers, value in ((ups, hi), (downs, lo)):
                value = jnp.atleast_1d(jnp.asarray(value, model.nominal.dtype))
                if value.shape != (size,):
                    raise ModelError(
                        f"{kind} '{name}' in '{channel}' needs {size} numbers, not {value.shape}"
                    )
                numbers.append(value)
    empty = jnp.zeros(0, model.nominal.dtype)
    join = jnp.concatenate if places else lambda _: empty
    return np.asarray(places, np.int32), join(ups), join(downs)


def with_signal(
    model: Model,
    values: Mapping[str, Float[ArrayLike, " bins"]],
    *,
    sample: str | None = None,
    histosys: Pairs | None = None,
    normsys: Pairs | None = None,
    staterror: Mapping[str, Float[ArrayLike, " bins"]] | None = None,
) -> Model:
    """Return the model with another signal: nothing is rebuilt or compiled again.

    What is not given keeps its relative size: the shifts of histosys, the uncertainties of
    staterror and shapesys. Channels that are not named keep their signal. All numbers may be
    traced.

    Args:
        model: The model.
        values: Maps channels to the yields of the signal, in events.
        sample: Name of the signal; by default the sample that the parameter of interest steers.
        histosys: Maps channels and modifier names to templates ``(hi, lo)``.
        normsys: Maps channels and modifier names to factors ``(hi, lo)``.
        staterror: Maps channels to the statistical uncertainties of the signal, in events.

    Raises:
        ModelError: If there is no such channel, sample or modifier, or a length differs.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([5.0, 6.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal,), name="SR")])
        >>> with_signal(model, {"SR": [1.0, 2.0]}).nominal.tolist()
        [1.0, 2.0]
    """
    s, old = model.structure, model.nominal
    rows, parts = [], []
    for channel, given in values.items():
        layout, template = _find(model, channel, sample)
        given = jnp.asarray(given, old.dtype)
        if given.shape != (layout.bins,):
            raise ModelError(
                f"the signal in '{channel}' has shape {given.shape}, not ({layout.bins},)"
            )
        rows += range(template.start, template.start + layout.bins)
        parts.append(given)
    new = old.at[np.asarray(rows, np.int32)].set(jnp.concatenate(parts)) if rows else old
    changed = np.zeros(old.size, bool)
    changed[rows] = True
    filled = old != 0
    scale = jnp.where(changed & filled, new / jnp.where(filled, old, 1.0), 1.0)
    # a bin that was empty has no relative shift to keep
    born = changed & ~filled

    def shifted(template: Array) -> Array:
        row = s.histosys_row
        return jnp.where(born[row], new[row], template * scale[row])

    up, down = shifted(model.histosys_hi), shifted(model.histosys_lo)
    place, hi, lo = _entries(model, histosys or {}, "histosys", sample)
    if place.size:
        up, down = up.at[place].set(hi), down.at[place].set(lo)
    factor_up, factor_down = model.normsys_hi, model.normsys_lo
    place, hi, lo = _entries(model, normsys or {}, "normsys", sample)
    if place.size:
        factor_up, factor_down = factor_up.at[place].set(hi), factor_down.at[place].set(lo)
    statistics = model.staterror * scale[s.staterror_row]
    for channel, given in (staterror or {}).items():
        layout, template = _find(model, channel, sample)
        starts = [m.start for m in template.modifiers if m.kind == "staterror"]
        given = jnp.asarray(given, old.dtype)
        if not starts or given.shape != (layout.bins,):
            raise ModelError(
                f"sample '{template.name}' in '{channel}' has {len(starts)} staterror of "
                f"{layout.bins} bins; {given.shape} numbers are given"
            )
        statistics = statistics.at[starts[0] : starts[0] + layout.bins].set(given)
    return eqx.tree_at(
        lambda m: (
            m.nominal, m.histosys_hi, m.histosys_lo, m.normsys_hi, m.normsys_lo, m.staterror,
            m.shapesys,
        ),
        model,
        (new, up, down, factor_up, factor_down, statistics,
         model.shapesys * scale[s.shapesys_row]),
    )  # fmt: skip
