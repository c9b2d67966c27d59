"""What is done to the final templates: negative bins, smoothing, symmetry, parts, pruning."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from difana.analysis.config import AnalysisConfig
from difana.analysis.systematics import modifier_of
from difana.likelihood import (
    Channel,
    HistoSys,
    NormSys,
    Template,
    clip_templates,
    keep_part,
    prune_small,
    smooth,
    symmetrise,
)
from difana.likelihood.modifiers import AbstractModifier

_NOTHING = 1e-9  # a relative change that is none but for rounding


@dataclasses.dataclass(frozen=True)
class Treatments:
    """The treatment of hard templates, the same for all observables and regions.

    Negative bins are clipped, then variations are smoothed, made symmetric, reduced to one part,
    and what is too small is made nothing. All modifiers stay, so that observables share compiled
    programs; `without_idle` leaves out those that do nothing, which changes no number.

    Attributes:
        clip: Set negative bins to zero.
        smoothing: Names of parameters by method.
        symmetry: Names of parameters by method.
        parts: Names of parameters by the part that is kept.
        shape: Threshold of `prune_small`, like the next one.
        normalization: The other.
        asked: Parameters that stay in any case: conditions ask for them.
    """

    clip: bool = True
    smoothing: tuple[tuple[str, frozenset[str]], ...] = ()
    symmetry: tuple[tuple[str, frozenset[str]], ...] = ()
    parts: tuple[tuple[str, frozenset[str]], ...] = ()
    shape: float = 0.0
    normalization: float = 0.0
    asked: tuple[str, ...] = ()

    @property
    def prunes(self) -> bool:
        """Whether anything is pruned."""
        return self.shape > 0 or self.normalization > 0

    def __call__(self, channel: Channel) -> Channel:
        """Return the treated templates."""
        if self.clip:
            channel, _ = clip_templates(channel)
        for method, names in self.smoothing:
            if own := _varied(channel, names):
                channel = smooth(channel, method=method, modifiers=own)
        for method, names in self.symmetry:
            if own := _varied(channel, names):
                channel = symmetrise(channel, method=method, modifiers=own)
        for part, names in self.parts:
            if own := _varied(channel, names):
                channel = keep_part(channel, part, modifiers=own)
        if self.clip:
            channel, _ = clip_templates(channel)
        if self.prunes and _varied(channel, None):
            left = prune_small(channel, shape=self.shape, normalization=self.normalization)
            channel = _same_modifiers(channel, left)
        return channel

    def notes(self, channel: Channel) -> tuple[str, ...]:
        """Return what the result should say of the templates before their treatment."""
        said = list(clip_templates(channel)[1]) if self.clip else []
        before, after = (
            {(t.name, m.name) for t in own.templates for m in t.modifiers}
            for own in (channel, self.without_idle(self(channel)))
        )
        gone = sorted(before - after)
        if gone and self.prunes:
            listed = ", ".join(f"'{name}' of '{sample}'" for sample, name in gone[:5])
            more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
            said.append(f"region '{channel.name}': Pruning leaves out {listed}{more}")
        return tuple(said)

    def without_idle(self, channel: Channel) -> Channel:
        """Return a channel without the variations that pruning made nothing."""
        if not self.prunes:
            return channel
        templates = tuple(
            dataclasses.replace(
                t,
                modifiers=tuple(m for m in t.modifiers if m.name in self.asked or not _idle(t, m)),
            )
            for t in channel.templates
        )
        return dataclasses.replace(channel, templates=templates)


def treatments_of(config: AnalysisConfig) -> Treatments:
    """Return the treatment that a configuration asks for."""
    found: dict[str, dict[str, set[str]]] = {"smooth": {}, "symmetrize": {}, "keep": {}}
    for entry in config.systematics:
        names = {
            modifier_of(entry, sample=sample, region=region)
            for sample in entry.samples
            for region in entry.regions
        }
        for what, by_method in found.items():
            method = getattr(entry, what)
            if isinstance(method, str):
                by_method.setdefault(method, set()).update(names)
    ordered = {
        what: tuple((method, frozenset(names)) for method, names in sorted(by_method.items()))
        for what, by_method in found.items()
    }
    return Treatments(
        clip=config.general.negative_bins == "clip",
        smoothing=ordered["smooth"],
        symmetry=ordered["symmetrize"],
        parts=ordered["keep"],
        shape=config.pruning.shape,
        normalization=config.pruning.normalization,
        asked=config.training.constraints.nuisances,
    )


def _varied(channel: Channel, names: Collection[str] | None) -> list[str]:
    """Return the names of the variations of a channel, of some."""
    found = {
        m.name
        for t in channel.templates
        for m in t.modifiers
        if isinstance(m, HistoSys | NormSys) and (names is None or m.name in names)
    }
    return sorted(found)


def _same_modifiers(before: Channel, after: Channel) -> Channel:
    """Return the templates after pruning with the modifiers of before: what is gone does nothing.

    The factor that is left of a histosys acts as a histosys without a shape.
    """
    templates = []
    for old, new in zip(before.templates, after.templates, strict=True):
        left = {(m.name, m.kind): m for m in new.modifiers}
        nominal = np.asarray(old.values, float)
        modifiers: list[AbstractModifier] = []
        for m in old.modifiers:
            if (m.name, m.kind) in left or not isinstance(m, HistoSys | NormSys):
                modifiers.append(left.get((m.name, m.kind), m))
            elif isinstance(m, NormSys):
                modifiers.append(NormSys(1.0, 1.0, m.name))
            else:
                both = [o for o in old.modifiers if o.name == m.name and isinstance(o, NormSys)]
                factor = left.get((m.name, NormSys.kind))
                hi, lo = (1.0, 1.0) if factor is None or both else (factor.hi, factor.lo)
                modifiers.append(HistoSys(nominal * hi, nominal * lo, m.name))
        templates.append(Template(old.values, tuple(modifiers), name=old.name))
    return dataclasses.replace(before, templates=tuple(templates))


def _idle(template: Template, m: AbstractModifier) -> bool:
    """Say whether a variation does nothing."""
    if isinstance(m, NormSys):
        return max(abs(float(m.hi) - 1), abs(float(m.lo) - 1)) < _NOTHING  # pyright: ignore
    if not isinstance(m, HistoSys):
        return False
    nominal = np.asarray(template.values, float)
    return all(
        np.allclose(np.asarray(side), nominal, rtol=_NOTHING, atol=0) for side in (m.hi, m.lo)
    )
