"""Workspaces as plain mappings: read and sort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from difana.likelihood.formats._json import load
from difana.likelihood.formats._schema import check_workspace
from difana.likelihood.formats.json_patch import Operations, apply_patch

Workspace = Mapping[str, Any]


def observed(part: dict[str, Any]) -> dict[str, Any]:
    """Return the observations of a workspace, or nothing: a workspace may lack them."""
    return part if part["observations"] else {}


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
        **observed({"observations": by_name(workspace.get("observations", ()))}),
        "version": workspace["version"],
    }
