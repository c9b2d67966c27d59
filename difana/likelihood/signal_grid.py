"""All signal points of a patch set as one stacked model, for one compiled function."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from difana._errors import ModelError
from difana.likelihood._json import pause_collection
from difana.likelihood._schema import check_workspace
from difana.likelihood.model import Model
from difana.likelihood.patchset import PatchSet, apply_patch
from difana.likelihood.pyhf_json import (
    auxiliary_data,
    choose_measurement,
    model_of,
    observed_yields,
)
from difana.likelihood.workspace import read_workspace

_SHAPES = ("histosys", "normsys")  # these can be switched off by their numbers, factors cannot
_NUMBERS = (
    "nominal",
    "histosys_hi",
    "histosys_lo",
    "normsys_hi",
    "normsys_lo",
    "staterror",
    "shapesys",
)


class SignalPoints(eqx.Module):
    """The models of many signal points, stacked.

    Attributes:
        model: A model whose leaves have a leading axis ``[points]``: map a function over it with
            ``jax.vmap`` or ``jax.lax.map``.
        data: Data vectors, ``[points, data]``.
        absent: True for parameters that steer nothing at a point, ``[points, params]``: hold them
            in fits. Their constraints still count in ``logpdf``, as constants.
        names: Name of each point.
        values: Coordinates of each point.
        labels: What the coordinates are.
    """

    model: Model
    data: Float[Array, "points data"]
    absent: Bool[Array, "points params"]
    names: tuple[str, ...] = eqx.field(static=True)
    values: tuple[tuple[float | str, ...], ...] = eqx.field(static=True)
    labels: tuple[str, ...] = eqx.field(static=True)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.names)

    def point(self, index: int) -> tuple[Model, Float[Array, " data"]]:
        """Return model and data of one point."""
        return jax.tree.map(lambda leaf: leaf[index], (self.model, self.data))


@dataclasses.dataclass
class _Slot:
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


def _check_changes(spec: Mapping[str, Any], base: Mapping[str, Any], known: set[int]) -> None:
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


def _slots(base: Mapping[str, Any], specs: Sequence[Mapping[str, Any]]) -> dict[str, list[_Slot]]:
    """Return the templates that hold the samples of all points, by channel.

    Samples share a template if the same factors steer them: missing histosys and normsys have
    neutral numbers and a missing sample has no yields, but a factor acts or does not.
    """
    points = len(specs)
    found: dict[str, list[_Slot]] = {}
    for c, channel in enumerate(base["channels"]):
        bins = len(channel["samples"][0]["data"])
        own = {
            sample["name"]: _Slot(
                sample["name"], bins, _factors(sample), sample, np.ones(points, bool)
            )
            for sample in channel["samples"]
        }
        extra: dict[tuple[Any, int], _Slot] = {}
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
                        extra[key] = _Slot("", bins, factors, None, np.zeros(points, bool))
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


def _fill(
    numbers: Mapping[str, np.ndarray], slot: _Slot, template: Any, origin: Mapping[str, str]
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


def _refuse_widths(config: Mapping[str, Any], slots: Mapping[str, Sequence[_Slot]]) -> None:
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


def signal_points(
    workspace: Mapping[str, Any] | str | Path | IO[bytes],
    patchset: PatchSet,
    *,
    points: Sequence[str | Sequence[float | str]] | None = None,
    measurement: str | int | None = None,
    interpolation: Mapping[str, str] | None = None,
    verify: bool = True,
) -> SignalPoints:
    """Return the models of the points of a patch set, stacked.

    The stacked model has the templates, modifiers and parameters of all points together. What a
    point lacks has numbers without effect, so that expected yields are those of the point's own
    model. One compiled function then serves all points.

    Args:
        workspace: The workspace that the patches are for.
        patchset: The points.
        points: Names or coordinates of the points wanted; all by default.
        measurement: Which measurement to use; the first one by default.
        interpolation: As in :func:`from_workspace`.
        verify: Check the digests of the patch set.

    Raises:
        ModelError: If the workspace or a patch is broken, or patches change channels or the
            measurement differently; names the point.

    Example:
        >>> mu = {"name": "mu", "type": "normfactor", "data": None}
        >>> def sample(name, x, *modifiers):
        ...     return {"name": name, "data": [x], "modifiers": [*modifiers]}
        >>> spec = {"channels": [{"name": "SR", "samples": [sample("bkg", 50.0)]}],
        ...         "observations": [{"name": "SR", "data": [52.0]}], "version": "1.0.0",
        ...         "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}]}
        >>> def patch(x):
        ...     value = sample(f"signal_{x}", x, mu)
        ...     return [{"op": "add", "path": "/channels/0/samples/-", "value": value}]
        >>> grid = PatchSet(("a", "b"), ((1,), (2,)), ("mass",), "", {}, (patch(5.0), patch(7.0)))
        >>> stacked = signal_points(spec, grid)
        >>> jax.vmap(lambda m: m.expected_main(m.init))(stacked.model).tolist()
        [[55.0], [57.0]]
    """
    with pause_collection():
        return _signal_points(workspace, patchset, points, measurement, interpolation, verify)


def _signal_points(
    workspace: Any,
    patchset: PatchSet,
    points: Sequence[str | Sequence[float | str]] | None,
    measurement: str | int | None,
    interpolation: Mapping[str, str] | None,
    verify: bool,  # noqa: FBT001
) -> SignalPoints:
    base = read_workspace(workspace)
    if verify:
        patchset.verify(base)
    chosen = range(len(patchset)) if points is None else [patchset.index(p) for p in points]
    names = tuple(patchset.names[i] for i in chosen)
    if not names:
        raise ModelError("no points are asked for")
    known = {id(sample) for channel in base["channels"] for sample in channel["samples"]}
    specs = []
    for i, name in zip(chosen, names, strict=True):
        try:
            spec = apply_patch(base, patchset.patches[i])
            if not isinstance(spec, Mapping) or spec.keys() != base.keys():
                raise ModelError("it leaves no workspace")
            _check_changes(spec, base, known)
        except ModelError as error:
            raise ModelError(f"point '{name}' of the patch set: {error}") from error
        if specs and spec["measurements"] != specs[0]["measurements"]:
            raise ModelError(
                f"point '{name}' changes the measurement otherwise than '{names[0]}': read "
                "these points one by one"
            )
        specs.append(spec)
    slots = _slots(base, specs)
    _refuse_widths(choose_measurement(specs[0], measurement)["config"], slots)
    union = {
        **specs[0],
        "channels": [
            {"name": name, "samples": [slot.spec() for slot in group]}
            for name, group in slots.items()
        ],
    }
    model = model_of(union, measurement=measurement, interpolation=interpolation)
    return _stack(model, specs, slots, names, patchset, chosen)


def _stack(
    model: Model,
    specs: Sequence[Mapping[str, Any]],
    slots: Mapping[str, Sequence[_Slot]],
    names: tuple[str, ...],
    patchset: PatchSet,
    chosen: Sequence[int],
) -> SignalPoints:
    s, count = model.structure, len(specs)
    numbers = {}
    for key in _NUMBERS:
        usual = np.asarray(getattr(model, key), float)
        numbers[key] = np.array(np.broadcast_to(usual, (count, usual.size)))
    # a staterror that stands in several channels is named after its channel in the model
    spelled = {
        f"{name}_{channel}": name
        for channel, group in slots.items()
        for slot in group
        for kind, name in slot.factors
        if kind == "staterror"
    }
    own = {name for group in slots.values() for slot in group for _, name in slot.factors}
    origin = {long: short for long, short in spelled.items() if long not in own}
    sizes = {name: (start, size) for name, start, size, _ in s.sets}
    there = np.zeros((count, len(model.parameters)), bool)
    for channel in s.channels:
        templates = {template.name: template for template in channel.templates}
        for slot in slots[channel.name]:
            template = templates[slot.name]
            _fill(numbers, slot, template, origin)
            names_of = {(m.kind, origin.get(m.name, m.name)): m.name for m in template.modifiers}
            for kind, name, where in slot.modifiers():
                start, size = sizes[names_of[kind, name]]
                there[:, start : start + size] |= where[:, None]
    data = []
    for p, spec in enumerate(specs):
        own_numbers = {key: numbers[key][p] for key in ("nominal", "staterror", "shapesys")}
        data.append(np.concatenate([observed_yields(spec), auxiliary_data(model, **own_numbers)]))
    stacked = jax.tree.map(
        lambda leaf: jnp.asarray(np.broadcast_to(np.asarray(leaf), (count, *leaf.shape))), model
    )
    stacked = eqx.tree_at(
        lambda m: [getattr(m, key) for key in _NUMBERS],
        stacked,
        [jnp.asarray(numbers[key]) for key in _NUMBERS],
    )
    return SignalPoints(
        stacked,
        jnp.asarray(np.array(data)),
        jnp.asarray(~there),
        names,
        tuple(patchset.values[i] for i in chosen),
        patchset.labels,
    )
