"""Remove bins from a workspace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from difana._errors import ModelError, nearest
from difana.likelihood.formats._schema import check_workspace
from difana.likelihood.formats.workspace import Workspace, observed

_LISTS = ("inits", "bounds", "auxdata", "factors", "sigmas", "fixed")


def prune_bins(
    workspace: Workspace,
    *,
    bins: Mapping[str, Iterable[int]] | None = None,
    below: float | None = None,
) -> Workspace:
    """Return a workspace without some bins; settings of parameters of single bins follow.

    Args:
        workspace: The workspace; it is not changed.
        bins: Which bins of which channel to leave out, counted from 0.
        below: Leave out bins whose nominal yields of all samples sum to less.

    Raises:
        ModelError: If there is no such channel or bin, no bin of a channel is left, or a factor
            that channels share would lose different bins in each.

    Example:
        >>> sample = {"name": "s", "data": [5.0, 0.1], "modifiers": []}
        >>> spec = {"channels": [{"name": "SR", "samples": [sample]}], "version": "1.0.0",
        ...         "observations": [{"name": "SR", "data": [4.0, 0.0]}],
        ...         "measurements": [{"name": "m", "config": {"poi": "", "parameters": []}}]}
        >>> prune_bins(spec, below=1.0)["observations"]
        [{'name': 'SR', 'data': [4.0]}]
    """
    keep = {c["name"]: np.ones(len(c["samples"][0]["data"]), bool) for c in workspace["channels"]}
    for name, chosen in (bins or {}).items():
        if name not in keep:
            raise ModelError(f"the workspace has no channel '{name}'.{nearest(name, keep)}")
        for index in chosen:
            if not 0 <= index < keep[name].size:
                raise ModelError(
                    f"channel '{name}' has no bin {index}: it has {keep[name].size} bins"
                )
            keep[name][index] = False
    if below is not None:
        for channel in workspace["channels"]:
            total = np.sum([sample["data"] for sample in channel["samples"]], axis=0)
            keep[channel["name"]] &= total >= below
    for name, kept in keep.items():
        if not kept.any():
            raise ModelError(f"channel '{name}' would have no bin left: leave the channel out")
    masks = _masks(workspace, keep)
    return check_workspace(
        {
            "channels": [_channel(c, keep[c["name"]]) for c in workspace["channels"]],
            "measurements": [
                {
                    **measurement,
                    "config": {
                        **measurement["config"],
                        "parameters": [
                            _settings(entry, masks.get(entry["name"]))
                            for entry in measurement["config"]["parameters"]
                        ],
                    },
                }
                for measurement in workspace["measurements"]
            ],
            **observed(
                {
                    "observations": [
                        {**entry, "data": _kept(entry["data"], keep.get(entry["name"]))}
                        for entry in workspace.get("observations", ())
                    ]
                }
            ),
            "version": workspace["version"],
        }
    )


def _kept(values: Sequence[Any], mask: np.ndarray | None) -> Sequence[Any]:
    if mask is None or len(values) != mask.size:
        return values
    return [value for value, stays in zip(values, mask, strict=True) if stays]


def _channel(channel: Mapping[str, Any], mask: np.ndarray) -> dict[str, Any]:
    def data(found: Any) -> Any:
        if isinstance(found, Mapping) and "hi_data" in found:
            return {side: _kept(values, mask) for side, values in found.items()}
        return found if found is None or isinstance(found, Mapping) else _kept(found, mask)

    samples = [
        {
            **sample,
            "data": _kept(sample["data"], mask),
            "modifiers": [{**m, "data": data(m["data"])} for m in sample["modifiers"]],
        }
        for sample in channel["samples"]
    ]
    return {**channel, "samples": samples}


def _masks(workspace: Workspace, keep: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return which entries of the settings of each modifier with one parameter a bin stay."""
    homes: dict[str, dict[str, str]] = {}
    for channel in sorted(workspace["channels"], key=lambda entry: entry["name"]):
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                if modifier["type"] in ("staterror", "shapesys", "shapefactor"):
                    homes.setdefault(modifier["name"], {})[channel["name"]] = modifier["type"]
    found = {}
    for name, channels in homes.items():
        masks = [keep[channel] for channel in channels]
        if "shapefactor" in channels.values():  # one factor for the same bin of all channels
            if any(mask.tolist() != masks[0].tolist() for mask in masks):
                raise ModelError(
                    f"shapefactor '{name}' is shared by {list(channels)}: leave the same bins out "
                    "of all of them"
                )
            masks = masks[:1]
        found[name] = np.concatenate(masks)
    return found


def _settings(entry: Mapping[str, Any], mask: np.ndarray | None) -> dict[str, Any]:
    """Return the settings of a parameter without those of bins left out."""
    return {
        key: _kept(value, mask) if key in _LISTS and isinstance(value, list) else value
        for key, value in entry.items()
    }
