"""What made the numbers of a result: versions, commit, and a hash of what went in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import jax
import numpy as np

from difana._typing import PyTree

_PACKAGES = ("jax", "jaxlib", "flax", "equinox", "optax", "numpy", "uproot", "pyhf")


def digest(*trees: PyTree) -> str:
    """Return a hash of all numbers in some PyTrees.

    Example:
        >>> digest(np.zeros(2)) == digest(np.zeros(2)) != digest(np.zeros(3))
        True
    """
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        array = np.ascontiguousarray(leaf)
        found.update(f"{array.shape}{array.dtype}".encode())
        found.update(array.data)
    return found.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of everything that makes the numbers."""
    found = {"python": platform.python_version(), "difana": importlib.metadata.version("difana")}
    for name in _PACKAGES:
        found[name] = importlib.metadata.version(name)
    return found


def git_hash(folder: Path) -> str | None:
    """Return the commit of the repository that holds a folder; None without git or repository."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
