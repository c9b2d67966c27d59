"""Workspaces as plain mappings: read, combine, prune, rename, sort. Results are those of pyhf."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from difana._errors import ModelError, nearest
from difana.likelihood._json import load
from difana.likelihood._schema import check_workspace
from difana.likelihood.patchset import Operations, apply_patch

Workspace = Mapping[str, Any]
JOINS = ("none", "outer", "left outer", "right outer")


def read_workspace(
    source: Workspace | str | Path | IO[bytes], *, patches: Sequence[str | Path | Operations] = ()
) -> Workspace:
    """Return a workspace, patched and checked.

    Args:
        source: A mapping, the path of a JSON file (gzipped or not), or a stream of bytes.
        patches: JSON patches to apply in turn, or paths of them.

    Raises:
        ModelError: If it cannot be read or patched or is no valid workspace; names the place.

    Example:
        >>> read_workspace({"version": "1.0.0"})
        Traceback (most recent call last):
        difana._errors.ModelError: not a valid pyhf workspace: the key 'channels' is missing
    """
    spec = load(source)
    for patch in patches:
        spec = apply_patch(spec, patch)
    return check_workspace(spec)


def _join(
    join: str, left: Sequence[Any], right: Sequence[Any], *, samples: bool = False
) -> list[Any]:
    """Join two lists of named objects; those of equal name sample by sample if asked."""
    first, second = (right, left) if join == "right outer" else (left, right)
    joined = list(first)
    place: dict[str, int] = {}
    for i, item in enumerate(first):
        place.setdefault(item["name"], i)
    for item in second:
        at = place.get(item["name"])
        if samples and at is not None:
            merged = _join("left outer", joined[at]["samples"], item["samples"])
            joined[at] = {**joined[at], "samples": merged}
        elif (
            join == "none"
            or (join == "outer" and item not in first)
            or (join.endswith(" outer") and at is None)
        ):
            joined.append(item)
    return joined


def _refuse_twice(join: str, joined: Iterable[Mapping[str, Any]], what: str) -> None:
    twice = [name for name, n in Counter(item["name"] for item in joined).items() if n > 1]
    if twice and join == "none":
        raise ModelError(
            f"both workspaces have {what} {twice}; rename them or join with 'outer' (equal ones "
            "count once), 'left outer' or 'right outer' (one side wins)"
        )
    if twice and join == "outer":
        raise ModelError(
            f"the workspaces have different {what} of one name: {twice}; rename them, or join "
            "with 'left outer' or 'right outer' (one side wins)"
        )


def _join_measurements(join: str, left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
    """Join the measurements; with 'outer' the parameters of those of equal name and POI."""
    joined = _join(join, left, right)
    if join == "none":
        _refuse_twice(join, joined, "measurements")
    if join != "outer":
        return joined
    groups: dict[str, list[Any]] = {}
    for measurement in joined:
        groups.setdefault(measurement["name"], []).append(measurement)
    found = []
    for name, group in groups.items():
        if len(group) > 1:
            configs = [measurement["config"] for measurement in group]
            pois = [config["poi"] for config in configs]
            if len(set(pois)) > 1:
                raise ModelError(
                    f"measurement '{name}' has different parameters of interest {pois}"
                )
            parameters = _join("outer", *(config["parameters"] for config in configs))
            _refuse_twice("outer", parameters, f"parameter settings in measurement '{name}'")
            group = [{"name": name, "config": {"poi": pois[0], "parameters": parameters}}]
        found += group
    return found


def combine(
    left: Workspace, right: Workspace, *, join: str = "none", merge_channels: bool = False
) -> Workspace:
    """Return the combination of two workspaces; modifiers of equal name share parameters.

    Args:
        left: One workspace.
        right: The other one.
        join: What may stand in both. ``"none"``: nothing; ``"outer"``: what is equal, and
            measurements of equal name whose settings agree; ``"left outer"`` and
            ``"right outer"``: the named side wins.
        merge_channels: Put the samples of channels of equal name together, not with ``"none"``.

    Raises:
        ModelError: Names what stands in both, or why the result is no valid workspace.

    Example:
        >>> def one(name):
        ...     sample = {"name": "s", "data": [5.0], "modifiers": []}
        ...     return {"channels": [{"name": name, "samples": [sample]}], "version": "1.0.0",
        ...             "observations": [{"name": name, "data": [4.0]}],
        ...             "measurements": [{"name": "m", "config": {"poi": "", "parameters": []}}]}
        >>> [c["name"] for c in combine(one("SR"), one("CR"), join="outer")["channels"]]
        ['SR', 'CR']
    """
    if join not in JOINS:
        raise ModelError(f"no join '{join}'; there are {', '.join(JOINS)}")
    if merge_channels and join == "none":
        raise ModelError("channels are merged with join 'outer', 'left outer' or 'right outer'")
    if left["version"] != right["version"]:
        raise ModelError(
            f"workspaces of versions {left['version']} and {right['version']} cannot be combined"
        )
    channels = _join(join, left["channels"], right["channels"], samples=merge_channels)
    _refuse_twice(join, channels, "channels")
    observations = _join(join, left["observations"], right["observations"])
    _refuse_twice(join, observations, "observations")
    return check_workspace(
        {
            "channels": channels,
            "measurements": _join_measurements(join, left["measurements"], right["measurements"]),
            "observations": observations,
            "version": left["version"],
        }
    )


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
            "observations": [
                entry for entry in workspace["observations"] if entry["name"] not in channels
            ],
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
            "observations": [renamed(entry, channels) for entry in workspace["observations"]],
            "version": workspace["version"],
        }
    )


def sort_workspace(workspace: Workspace) -> Workspace:
    """Return a workspace with everything in alphabetical order: equal ones get equal digests.

    Args:
        workspace: The workspace; it is not changed.

    Raises:
        ModelError: If it is no valid workspace.

    Example:
        >>> sample = {"name": "s", "data": [5.0], "modifiers": []}
        >>> spec = {"channels": [{"name": name, "samples": [sample]} for name in "BA"],
        ...         "observations": [{"name": name, "data": [4.0]} for name in "BA"],
        ...         "measurements": [{"name": "m", "config": {"poi": "", "parameters": []}}],
        ...         "version": "1.0.0"}
        >>> [channel["name"] for channel in sort_workspace(spec)["channels"]]
        ['A', 'B']
    """
    check_workspace(workspace)

    def by_name(entries: Iterable[Mapping[str, Any]]) -> list[Any]:
        return sorted(entries, key=lambda entry: entry["name"])

    return {
        "channels": [
            {
                **channel,
                "samples": [
                    {
                        **sample,
                        "modifiers": sorted(
                            sample["modifiers"], key=lambda entry: (entry["name"], entry["type"])
                        ),
                    }
                    for sample in by_name(channel["samples"])
                ],
            }
            for channel in by_name(workspace["channels"])
        ],
        "measurements": [
            {
                **measurement,
                "config": {
                    **measurement["config"],
                    "parameters": by_name(measurement["config"]["parameters"]),
                },
            }
            for measurement in by_name(workspace["measurements"])
        ],
        "observations": by_name(workspace["observations"]),
        "version": workspace["version"],
    }
