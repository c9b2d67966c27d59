"""What changed since the last run of a folder, and from which stage a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difana._files import jsonable
from difana.config import write_json

STAGES = {
    "classify": "training again",
    "train": "training on the objective again",
    "evaluate": "evaluating again",
    "report": "writing again",
}
_EVENTS = ("sample ", "systematic ", "region ", "test events")
_SHOWN = 3  # changes that are named

Parts = list[tuple[str, str]]
"""What a stage depends on: what it is called, and a hash of its content, without names."""


def changed(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Say in one line what changed and from which stage a run goes on.

    Args:
        before: `difana.analysis.stages.stages_of` the run before; None where there was none.
        now: `stages_of` this one.

    Example:
        >>> old = {"classify": [("sample 's'", "1")], "train": [], "evaluate": [("data", "2")],
        ...        "report": []}
        >>> changed(old, {**old, "evaluate": [("data", "3")]})
        'data changed: evaluating again'
        >>> changed(old, {**old, "classify": [("sample 'renamed'", "1")]})
        'nothing changed: continuing'
        >>> changed(None, old)
        'training'
    """
    if before is None:
        return "training"
    found = {stage: _differences(before[stage], now[stage]) for stage in STAGES}
    first = next((stage for stage in STAGES if found[stage]), None)
    if first is None:
        return "nothing changed: continuing"
    listed = found[first]
    causes = [
        f"{what} changed"
        for what, value in now.get("causes", {}).items()
        if json.dumps(jsonable(value)) != json.dumps(before.get("causes", {}).get(what))
    ]
    if first in ("classify", "train") and causes:
        listed = [*causes, *(text for text in listed if not text.startswith(_EVENTS))]
    named = [text for text in listed if not text.startswith("section ")]
    listed = named or listed  # whatever else was changed stands in a section
    if "blinding changed" in listed:  # which shows other data
        listed = [text for text in listed if text != "data changed"]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    bins_alone = first == "train" and not now.get("descends", True)
    remedy = "searching the bins again" if bins_alone else STAGES[first]
    return f"{', '.join(listed[:_SHOWN])}{more}: {remedy}"


def read_stages(folder: Path) -> dict[str, Any] | None:
    """Return what the last run in a folder depended on; None where that is not known."""
    try:
        found = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
        parts = [[(str(name), str(part)) for name, part in found[stage]] for stage in STAGES]
        causes = dict(found["causes"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return {**dict(zip(STAGES, parts, strict=True)), "causes": causes}


def write_stages(folder: Path, stages: Mapping[str, Any]) -> None:
    """Write what a run depends on into its folder, before it trains."""
    write_json(folder / "stages.json", stages)


def _differences(before: Parts, now: Parts) -> list[str]:
    """Return in words how the parts of a stage differ; none if their contents are the same."""
    old, new = ([part for _, part in parts] for parts in (before, now))
    if old == new:
        return []
    was, known = dict(before), {name for name, _ in now}
    found = [f"{name} changed" for name, part in now if name in was and was[name] != part]
    found += [f"{name} is new" for name, part in now if name not in was and part not in old]
    found += [f"{name} is gone" for name, part in before if name not in known and part not in new]
    return found or ["the order of the parts changed"]
