"""Remove and rename parts of a workspace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from difana._errors import ModelError, nearest
from difana.likelihood.formats._schema import check_workspace
from difana.likelihood.formats.workspace import Workspace, observed


def _known(workspace: Workspace) -> dict[str, list[str]]:
    """Return the names of all that can be pruned or renamed, in order of appearance."""
    channels = workspace["channels"]
    samples = [sample for channel in channels for sample in channel["samples"]]
    modifiers = {(m["name"], m["type"]) for sample in samples for m in sample["modifiers"]}
    return {
        "channel": [channel["name"] for channel in channels],
        "sample": list(dict.fromkeys(sample["name"] for sample in samples)),
        "modifier": sorted({name for name, _ in modifiers}),
        "modifier type": sorted({kind for _, kind in modifiers}),
        "measurement": [measurement["name"] for measurement in workspace["measurements"]],
    }


def _refuse_unknown(workspace: Workspace, asked: Mapping[str, Iterable[str]]) -> None:
    known = _known(workspace)
    for what, names in asked.items():
        if isinstance(names, str):
            raise ModelError(f"give a list of {what}s, not '{names}'")
        for name in names:
            if name not in known[what]:
                raise ModelError(
                    f"the workspace has no {what} '{name}'.{nearest(name, known[what])}"
                )


def prune(
    workspace: Workspace,
    *,
    channels: Iterable[str] = (),
    samples: Iterable[str] = (),
    modifiers: Iterable[str] = (),
    modifier_types: Iterable[str] = (),
    measurements: Iterable[str] = (),
) -> Workspace:
    """Return a workspace without some of its parts.

    Args:
        workspace: The workspace; it is not changed.
        channels: Channels to leave out, with their observations.
        samples: Samples to leave out of all channels.
        modifiers: Modifiers to leave out, with their settings.
        modifier_types: Types of modifiers to leave out.
        measurements: Measurements to leave out.

    Raises:
        ModelError: If there is none of that name, or what is left is no valid workspace.

    Example:
        >>> sample = {"name": "s", "data": [5.0], "modifiers": [
        ...     {"name": "mu", "type": "normfactor", "data": None}]}
        >>> spec = {"channels": [{"name": "SR", "samples": [sample]}], "version": "1.0.0",
        ...         "observations": [{"name": "SR", "data": [4.0]}],
        ...         "measurements": [{"name": "m", "config": {"poi": "", "parameters": []}}]}
        >>> prune(spec, modifiers=["mu"])["channels"][0]["samples"][0]["modifiers"]
        []
    """
    _refuse_unknown(
        workspace,
        {
            "modifier type": modifier_types,
            "modifier": modifiers,
            "sample": samples,
            "channel": channels,
            "measurement": measurements,
        },
    )
    names, kinds = set(modifiers), set(modifier_types)
    samples, channels, measurements = set(samples), set(channels), set(measurements)
    kept_channels = [
        {
            "name": channel["name"],
            "samples": [
                {
                    **sample,
                    "modifiers": [
                        modifier
                        for modifier in sample["modifiers"]
                        if modifier["name"] not in names and modifier["type"] not in kinds
                    ],
                }
                for sample in channel["samples"]
                if sample["name"] not in samples
            ],
        }
        for channel in workspace["channels"]
        if channel["name"] not in channels
    ]
    kept_measurements = [
        {
            "name": measurement["name"],
            "config": {
                "parameters": [
                    entry
                    for entry in measurement["config"]["parameters"]
                    if entry["name"] not in names
                ],
                "poi": measurement["config"]["poi"],
            },
        }
        for measurement in workspace["measurements"]
        if measurement["name"] not in measurements
    ]
    return check_workspace(
        {
            "channels": kept_channels,
            "measurements": kept_measurements,
            **observed(
                {
                    "observations": [
                        entry
                        for entry in workspace.get("observations", ())
                        if entry["name"] not in channels
                    ]
                }
            ),
            "version": workspace["version"],
        }
    )


def rename(
    workspace: Workspace,
    *,
    channels: Mapping[str, str] | None = None,
    samples: Mapping[str, str] | None = None,
    modifiers: Mapping[str, str] | None = None,
    measurements: Mapping[str, str] | None = None,
) -> Workspace:
    """Return a workspace with other names; settings, observations and the POI follow.

    Args:
        workspace: The workspace; it is not changed.
        channels: Maps old to new names of channels.
        samples: Maps old to new names of samples.
        modifiers: Maps old to new names of modifiers. Two that get one name share a parameter.
        measurements: Maps old to new names of measurements.

    Raises:
        ModelError: If there is none of an old name, or a new one is taken.

    Example:
        >>> sample = {"name": "s", "data": [5.0], "modifiers": []}
        >>> spec = {"channels": [{"name": "SR", "samples": [sample]}], "version": "1.0.0",
        ...         "observations": [{"name": "SR", "data": [4.0]}],
        ...         "measurements": [{"name": "m", "config": {"poi": "", "parameters": []}}]}
        >>> rename(spec, channels={"SR": "region"})["observations"]
        [{'name': 'region', 'data': [4.0]}]
    """
    channels, samples = channels or {}, samples or {}
    modifiers, measurements = modifiers or {}, measurements or {}
    _refuse_unknown(
        workspace,
        {
            "modifier": modifiers,
            "sample": samples,
            "channel": channels,
            "measurement": measurements,
        },
    )

    def renamed(entry: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
        return {**entry, "name": names.get(entry["name"], entry["name"])}

    return check_workspace(
        {
            "channels": [
                {
                    **renamed(channel, channels),
                    "samples": [
                        {
                            **renamed(sample, samples),
                            "modifiers": [renamed(m, modifiers) for m in sample["modifiers"]],
                        }
                        for sample in channel["samples"]
                    ],
                }
                for channel in workspace["channels"]
            ],
            "measurements": [
                {
                    **renamed(measurement, measurements),
                    "config": {
                        "parameters": [
                            renamed(entry, modifiers)
                            for entry in measurement["config"]["parameters"]
                        ],
                        "poi": modifiers.get(
                            measurement["config"]["poi"], measurement["config"]["poi"]
                        ),
                    },
                }
                for measurement in workspace["measurements"]
            ],
            **observed(
                {
                    "observations": [
                        renamed(entry, channels) for entry in workspace.get("observations", ())
                    ]
                }
            ),
            "version": workspace["version"],
        }
    )
