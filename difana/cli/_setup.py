"""What every command does first: 64 bits and the persistent compilation cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_SECONDS = 0.3  # compilations shorter than this are not worth a file


def start() -> None:
    """Switch JAX to 64 bits and turn on its compilation cache."""
    import jax

    import difana

    difana.enable_x64()
    folder = cache_folder(os.environ)
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _SECONDS)


def cache_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the folder of compiled programs: ``DIFANA_CACHE``, or in the user's cache folder.

    Args:
        environment: Environment variables. ``DIFANA_CACHE=off`` turns the cache off.

    Returns:
        The folder, or None for no cache: turned off, or not writable.

    Example:
        >>> cache_folder({"DIFANA_CACHE": "off"}) is None
        True
    """
    asked = environment.get("DIFANA_CACHE", "")
    if asked.lower() == "off":
        return None
    base = Path(environment.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # also where it is empty, as the XDG specification says
        base = Path("~/.cache").expanduser()
    folder = Path(asked).expanduser() if asked else base / "difana" / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
