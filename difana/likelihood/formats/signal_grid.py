"""All signal points of a patch set as one stacked model, for one compiled function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from difana._errors import ModelError
from difana.likelihood._collect import NUMBERS
from difana.likelihood.formats._json import pause_collection
from difana.likelihood.formats._slots import (
    Slot,
    check_changes,
    put_signal,
    refuse_widths,
    slots_of,
)
from difana.likelihood.formats.json_patch import apply_patch
from difana.likelihood.formats.patchset import PatchSet
from difana.likelihood.formats.pyhf_json import (
    auxiliary_data,
    choose_measurement,
    model_of,
    observed_yields,
)
from difana.likelihood.formats.workspace import read_workspace
from difana.likelihood.model import Model


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
            check_changes(spec, base, known)
        except ModelError as error:
            raise ModelError(f"point '{name}' of the patch set: {error}") from error
        if specs and spec["measurements"] != specs[0]["measurements"]:
            raise ModelError(
                f"point '{name}' changes the measurement otherwise than '{names[0]}': read "
                "these points one by one"
            )
        specs.append(spec)
    slots = slots_of(base, specs)
    refuse_widths(choose_measurement(specs[0], measurement)["config"], slots)
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
    slots: Mapping[str, Sequence[Slot]],
    names: tuple[str, ...],
    patchset: PatchSet,
    chosen: Sequence[int],
) -> SignalPoints:
    s, count = model.structure, len(specs)
    numbers = {}
    for key in NUMBERS:
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
            put_signal(numbers, slot, template, origin)
            names_of = {(m.kind, origin.get(m.name, m.name)): m.name for m in template.modifiers}
            for kind, name, where in slot.modifiers():
                start, size = sizes[names_of[kind, name]]
                there[:, start : start + size] |= where[:, None]
    data = []
    for p, spec in enumerate(specs):
        own_numbers = {key: numbers[key][p] for key in ("nominal", "staterror", "shapesys")}
        data.append(np.concatenate([observed_yields(spec), auxiliary_data(model, **own_numbers)]))
    stacked = jax.tree.map(
        lambda leaf: np.broadcast_to(np.asarray(leaf), (count, *leaf.shape)), model
    )
    stacked = eqx.tree_at(
        lambda m: [getattr(m, key) for key in NUMBERS],
        stacked,
        [numbers[key] for key in NUMBERS],
    )
    stacked, data, absent = jax.device_put((stacked, np.array(data), ~there))
    return SignalPoints(
        stacked,
        data,
        absent,
        names,
        tuple(patchset.values[i] for i in chosen),
        patchset.labels,
    )
