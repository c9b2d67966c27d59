"""Two workspaces to one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from difana._errors import ModelError
from difana.likelihood.formats._schema import check_workspace
from difana.likelihood.formats.workspace import Workspace, observed

JOINS = ("none", "outer", "left outer", "right outer")


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
    observations = _join(join, left.get("observations", ()), right.get("observations", ()))
    _refuse_twice(join, observations, "observations")
    return check_workspace(
        {
            "channels": channels,
            "measurements": _join_measurements(join, left["measurements"], right["measurements"]),
            **observed({"observations": observations}),
            "version": left["version"],
        }
    )
