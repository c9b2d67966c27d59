"""Walk through channels, templates and modifiers: flat numbers and where each of them acts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.core import Tracer

from difana._errors import ModelError
from difana.likelihood.modifiers import AbstractModifier, Channel, Template
from difana.likelihood.structure import ChannelLayout, ModifierLayout, TemplateLayout

PER_BIN = ("staterror", "shapesys", "shapefactor")
_KIND = {  # of the parameters of a modifier
    "normfactor": "free",
    "shapefactor": "free",
    "normsys": "normal",
    "histosys": "normal",
    "staterror": "gamma",
    "shapesys": "poisson",
    "lumi": "lumi",
}
NUMBERS = (
    "nominal",
    "histosys_hi",
    "histosys_lo",
    "normsys_hi",
    "normsys_lo",
    "staterror",
    "shapesys",
)
_ROWS = (
    "bin",
    "block",
    "histosys",
    "histosys_p",
    "normsys",
    "normsys_p",
    "staterror",
    "staterror_p",
    "shapesys",
    "shapesys_p",
)


@dataclasses.dataclass
class ParameterSets:
    """Parameter sets in order of first appearance."""

    entries: dict[str, tuple[int, int, str]] = dataclasses.field(default_factory=dict)
    size: int = 0

    def add(self, name: str, kind: str, size: int, where: str) -> int:
        """Return the first parameter of a set, made now or shared with an earlier modifier."""
        if name in self.entries:
            start, known_size, known = self.entries[name]
            if (known_size, known) != (size, kind):
                raise ModelError(
                    f"{where}: modifier '{name}' needs {size} {kind} parameter(s), but that name "
                    f"already stands for {known_size} {known} one(s); rename one of them"
                )
            if kind == "poisson":
                raise ModelError(
                    f"{where}: shapesys '{name}' is used twice; it cannot be shared, rename it"
                )
            return start
        self.entries[name] = (self.size, size, kind)
        self.size += size
        return self.size - size


def _lists(keys: Sequence[str]) -> dict[str, list[Any]]:
    return {key: [] for key in keys}


@dataclasses.dataclass
class Collected:
    """What the channels hold, template after template.

    Attributes:
        sets: Parameter sets in order of first appearance.
        numbers: Yields and uncertainties, a list of parts for each leaf of the model.
        rows: Row, bin, block and parameter of each number.
        factors: Parameters that multiply each row.
        layouts: Names and places of channels, templates and modifiers.
    """

    sets: ParameterSets = dataclasses.field(default_factory=ParameterSets)
    numbers: dict[str, list[Any]] = dataclasses.field(default_factory=lambda: _lists(NUMBERS))
    rows: dict[str, list[int]] = dataclasses.field(default_factory=lambda: _lists(_ROWS))
    factors: list[list[int]] = dataclasses.field(default_factory=list)
    layouts: list[ChannelLayout] = dataclasses.field(default_factory=list)
    bins: int = 0
    blocks: int = 0
    statistics: dict[str, str] = dataclasses.field(default_factory=dict)

    def add_channel(self, channel: Channel) -> None:
        """Append one channel.

        Raises:
            ModelError: Names the channel, sample and modifier at fault.
        """
        if channel.name in [layout.name for layout in self.layouts]:
            raise ModelError(f"two channels are called '{channel.name}'")
        if not channel.templates:
            raise ModelError(f"channel '{channel.name}' has no samples")
        bins = 0
        templates: list[TemplateLayout] = []
        for template in channel.templates:
            where = f"channel '{channel.name}', sample '{template.name}'"
            if template.name in [layout.name for layout in templates]:
                raise ModelError(f"{where} stands twice in its channel")
            own = _template_bins(template, where)
            bins = bins or own
            if own != bins:
                raise ModelError(
                    f"{where} has {own} bins, '{channel.templates[0].name}' has {bins}"
                )
            templates.append(self._add_template(template, channel.name, where, bins))
        self.layouts.append(ChannelLayout(channel.name, self.bins, bins, tuple(templates)))
        self.bins += bins

    def _add_template(
        self, template: Template, channel: str, where: str, bins: int
    ) -> TemplateLayout:
        row = len(self.factors)
        self.numbers["nominal"].append(template.values)
        self.rows["bin"] += range(self.bins, self.bins + bins)
        self.rows["block"] += [self.blocks] * bins
        self.factors += [[] for _ in range(bins)]
        layouts = tuple(
            self._add_modifier(modifier, channel, where, row, bins)
            for modifier in template.modifiers
        )
        self.blocks += 1
        return TemplateLayout(template.name, row, layouts)

    def _add_modifier(
        self, modifier: AbstractModifier, channel: str, where: str, row: int, bins: int
    ) -> ModifierLayout:
        kind, name = modifier.kind, modifier.name
        place = f"{where}, {kind} '{name}'"
        size = bins if kind in PER_BIN else 1
        if kind == "staterror" and self.statistics.setdefault(name, channel) != channel:
            raise ModelError(
                f"{place} also stands in channel '{self.statistics[name]}'; statistics of "
                f"different channels are independent, call it 'staterror_{channel}'"
            )
        first = self.sets.add(name, _KIND[kind], size, place)
        start = 0
        if kind in ("histosys", "staterror", "shapesys"):
            start = len(self.rows[kind])
            for field in {"histosys": ("hi", "lo")}.get(kind, ("uncertainty",)):
                value = getattr(modifier, field)
                if np.shape(value) != (bins,):
                    raise ModelError(
                        f"{place}: '{field}' has shape {np.shape(value)}, not ({bins},)"
                    )
                self.numbers[f"histosys_{field}" if kind == "histosys" else kind].append(value)
            self.rows[kind] += range(row, row + bins)
            step = 0 if kind == "histosys" else 1
            self.rows[f"{kind}_p"] += [first + step * i for i in range(bins)]
        elif kind == "normsys":
            start = len(self.rows[kind])
            self.numbers["normsys_hi"].append(modifier.hi)
            self.numbers["normsys_lo"].append(modifier.lo)
            self.rows["normsys"].append(self.blocks)
            self.rows["normsys_p"].append(first)
        if kind not in ("histosys", "normsys"):
            for i in range(bins):
                self.factors[row + i].append(first + (i if size > 1 else 0))
        return ModifierLayout(kind, name, start, first)


def _template_bins(template: Template, where: str) -> int:
    shape = np.shape(template.values)
    if len(shape) != 1 or shape[0] == 0:
        raise ModelError(f"{where}: yields must be a vector of at least one bin, not {shape}")
    values = template.values
    if not isinstance(values, Tracer):
        bad = np.flatnonzero(~np.isfinite(np.asarray(values, float)))
        if bad.size:
            raise ModelError(f"{where}: the yield of bin {bad[0]} is not finite")
    return shape[0]
