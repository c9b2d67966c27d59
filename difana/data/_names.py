"""Names of columns in the file to write: allowed there, and never two alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def target_names(names: Iterable[str], suffix: str) -> dict[str, str]:
    """Return the name in the target for each name of the source.

    A name that the format allows stays; another one is cleaned, and numbered where the clean name
    is taken. In HDF5 no column may lie below another one.

    Args:
        names: Names of the source.
        suffix: Suffix of the target.

    Example:
        >>> target_names(["a/b", "a_b", "a"], ".root")
        {'a/b': 'a_b_2', 'a_b': 'a_b', 'a': 'a'}
        >>> target_names(["a", "a/b", "x/y"], ".h5")
        {'a': 'a', 'a/b': 'a_b', 'x/y': 'x/y'}
    """
    names = list(names)
    clean = {".root": _for_root, ".parquet": _text}.get(suffix, _for_hdf5)
    nested = suffix not in (".root", ".parquet")
    wanted = {name: clean(name) for name in names}
    if nested:
        for name in _look_like_lists(wanted):
            wanted[name] = wanted[name].replace("/", "_")
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names, key=lambda name: (wanted[name] != name, wanted[name].count("/"))):
        found[name] = _free(wanted[name], taken, _below if nested else _same)
        taken.add(found[name])
    return {name: found[name] for name in names}


def _for_root(name: str) -> str:
    # slashes, brackets and colons have a meaning in names and titles of branches
    return re.sub(r"[^\w.+@-]", "_", _text(name)).strip(".") or "_"


def _for_hdf5(name: str) -> str:
    parts = [part for part in _text(name).replace("\0", "_").split("/") if part]
    return "/".join("_" if set(part) == {"."} else part for part in parts) or "_"


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _look_like_lists(names: dict[str, str]) -> list[str]:
    """Return columns that would be taken for the content and the offsets of a jagged one."""
    members: dict[str, list[str]] = {}
    for name, path in names.items():
        members.setdefault(path.rpartition("/")[0], []).append(name)
    ends = {"content", "offsets"}
    return [
        name
        for parent, inside in members.items()
        if parent and {names[name].rpartition("/")[2] for name in inside} & ends
        for name in inside
        if names[name].rpartition("/")[2] in ends
    ]


def _free(name: str, taken: set[str], clash: Callable[[str, set[str]], bool]) -> str:
    if not clash(name, taken):
        return name
    flat = name.replace("/", "_")
    number = 1
    candidate = flat
    while clash(candidate, taken):
        number += 1
        candidate = f"{flat}_{number}"
    return candidate


def _same(name: str, taken: set[str]) -> bool:
    return name in taken


def _below(name: str, taken: set[str]) -> bool:
    parts = name.split("/")
    above = {"/".join(parts[:i]) for i in range(1, len(parts))}
    return name in taken or bool(above & taken) or any(t.startswith(f"{name}/") for t in taken)
