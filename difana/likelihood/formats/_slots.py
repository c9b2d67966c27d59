"""Places of a stacked model that the signals of a patch set fill."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from difana._errors import ModelError
from difana.likelihood.formats._schema import check_workspace

_SHAPES = ("histosys", "normsys")  # these can be switched off by their numbers, factors cannot


@dataclasses.dataclass
class Slot:
    """A template of the stacked model, and the samples that fill it at each point."""

    name: str
    bins: int
    factors: tuple[tuple[str, str], ...]
    base: Mapping[str, Any] | None
    present: np.ndarray
    samples: dict[int, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    names: Counter[str] = dataclasses.field(default_factory=Counter)

    def modifiers(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Yield kind and name of every modifier, and the points at which it is there."""
        found: dict[tuple[str, str], np.ndarray] = {}
        for point, sample in self.samples.items():
            for modifier in sample["modifiers"]:
                key = modifier["type"], modifier["name"]
                if key not in found:
                    found[key] = np.zeros(self.present.size, bool)
                found[key][point] = True
        if self.base is not None:
            usual = self.present.copy()
            usual[list(self.samples)] = False
            for modifier in self.base["modifiers"]:
                key = modifier["type"], modifier["name"]
                found[key] = found.get(key, False) | usual
        for (kind, name), where in found.items():
            yield kind, name, where

    def spec(self) -> dict[str, Any]:
        """Return a sample with all modifiers, those of the base with their numbers."""
        zeros = [0.0] * self.bins
        values = self.base["data"] if self.base is not None else zeros
        own = {} if self.base is None else {
            (m["type"], m["name"]): m for m in self.base["modifiers"]
        }  # fmt: skip
        neutral = {
            "histosys": {"hi_data": values, "lo_data": values},
            "normsys": {"hi": 1.0, "lo": 1.0},
            "staterror": zeros,
            "shapesys": zeros,
        }
        modifiers = [
            own.get((kind, name), {"name": name, "type": kind, "data": neutral.get(kind)})
            for kind, name, _ in self.modifiers()
        ]
        return {"name": self.name, "data": values, "modifiers": modifiers}


def _factors(sample: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    modifiers = sample["modifiers"]
    return tuple(sorted((m["type"], m["name"]) for m in modifiers if m["type"] not in _SHAPES))


def check_changes(spec: Mapping[str, Any], base: Mapping[str, Any], known: set[int]) -> None:
    """Check what a patch changed, and only that: a whole check a point would take seconds."""
    names = [channel["name"] for channel in base["channels"]]
    if [channel.get("name") for channel in spec["channels"]] != names:
        raise ModelError("it adds, removes or renames channels")
    channels = []
    for channel, old in zip(spec["channels"], base["channels"], strict=True):
        if channel is old:
            continue
        bins = len(old["samples"][0]["data"])
        stub = {"name": "", "data": [0.0] * bins, "modifiers": []}
        fresh = [sample for sample in channel["samples"] if id(sample) not in known]
        channels.append({"name": channel["name"], "samples": [stub, *fresh]})
        twice = [n for n, k in Counter(s.get("name") for s in channel["samples"]).items() if k > 1]
        if twice:
            raise ModelError(f"channel '{channel['name']}' has two samples called '{twice[0]}'")
    channels = channels or [{"name": names[0], "samples": base["channels"][0]["samples"][:1]}]
    check_workspace({**spec, "channels": channels})


def slots_of(base: Mapping[str, Any], specs: Sequence[Mapping[str, Any]]) -> dict[str, list[Slot]]:
    """Return the templates that hold the samples of all points, by channel.

    Samples share a template if the same factors steer them: missing histosys and normsys have
    neutral numbers and a missing sample has no yields, but a factor acts or does not.
    """
    points = len(specs)
    found: dict[str, list[Slot]] = {}
    for c, channel in enumerate(base["channels"]):
        bins = len(channel["samples"][0]["data"])
        own = {
            sample["name"]: Slot(
                sample["name"], bins, _factors(sample), sample, np.ones(points, bool)
            )
            for sample in channel["samples"]
        }
        extra: dict[tuple[Any, int], Slot] = {}
        for p, spec in enumerate(specs):
            changed = spec["channels"][c]
            if changed is channel:
                continue
            usual = {id(sample) for sample in channel["samples"]}
            here = {id(sample) for sample in changed["samples"]}
            for slot in own.values():
                slot.present[p] = id(slot.base) in here
            uses: Counter[Any] = Counter()
            for sample in changed["samples"]:
                if id(sample) in usual:
                    continue
                factors = _factors(sample)
                slot = own.get(sample["name"])
                if slot is None or slot.factors != factors:
                    key = factors, uses[factors]
                    uses[factors] += 1
                    if key not in extra:
                        extra[key] = Slot("", bins, factors, None, np.zeros(points, bool))
                    slot = extra[key]
                    slot.names[sample["name"]] += 1
                slot.present[p] = True
                slot.samples[p] = sample
        taken = set(own)
        for slot in extra.values():
            name = next(iter(slot.names)) if len(slot.names) == 1 else "signal"
            while name in taken:
                name += "'"
            slot.name = name
            taken.add(name)
        found[channel["name"]] = [*own.values(), *extra.values()]
    return found


def put_signal(
    numbers: Mapping[str, np.ndarray], slot: Slot, template: Any, origin: Mapping[str, str]
) -> None:
    """Write the numbers of every point into one template of the stacked model."""
    rows = slice(template.start, template.start + slot.bins)
    places = {(m.kind, origin.get(m.name, m.name)): m.start for m in template.modifiers}
    bins = np.arange(slot.bins)
    starts = np.array([start for (kind, _), start in places.items() if kind == "histosys"], int)
    shifts = (starts[:, None] + bins).ravel()
    for point in {*np.flatnonzero(~slot.present).tolist(), *slot.samples}:
        sample = slot.samples.get(point, {"data": np.zeros(slot.bins), "modifiers": ()})
        numbers["nominal"][point, rows] = sample["data"]
        numbers["histosys_hi"][point, shifts] = np.tile(sample["data"], starts.size)
        numbers["histosys_lo"][point, shifts] = np.tile(sample["data"], starts.size)
        for (kind, _), start in places.items():
            if kind == "normsys":
                numbers["normsys_hi"][point, start] = numbers["normsys_lo"][point, start] = 1.0
            elif kind in ("staterror", "shapesys"):
                numbers[kind][point, start : start + slot.bins] = 0.0
        for modifier in sample["modifiers"]:
            kind, data = modifier["type"], modifier["data"]
            start = places[kind, modifier["name"]]
            if kind == "histosys":
                numbers["histosys_hi"][point, start : start + slot.bins] = data["hi_data"]
                numbers["histosys_lo"][point, start : start + slot.bins] = data["lo_data"]
            elif kind == "normsys":
                numbers["normsys_hi"][point, start] = data["hi"]
                numbers["normsys_lo"][point, start] = data["lo"]
            elif kind in ("staterror", "shapesys"):
                numbers[kind][point, start : start + slot.bins] = data


def refuse_widths(config: Mapping[str, Any], slots: Mapping[str, Sequence[Slot]]) -> None:
    """Refuse given widths of constraints whose samples differ between the points."""
    varying = {
        name
        for group in slots.values()
        for slot in group
        if slot.samples or not slot.present.all()
        for kind, name in slot.factors
        if kind in ("staterror", "shapesys")
    }
    for entry in config["parameters"]:
        if entry["name"] in varying and {"sigmas", "factors", "auxdata"} & entry.keys():
            raise ModelError(
                f"the measurement sets the constraint of '{entry['name']}', which steers samples "
                "that differ between the points: read these points one by one"
            )
