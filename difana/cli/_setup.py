"""What every command does first: 64 bits and the persistent compilation cache."""

from __future__ import annotations

import functools
import gc
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

_QUICK = {"xla_cpu_use_fusion_emitters": "false"}
_QUICK_FITS = {"xla_backend_optimization_level": "2", "xla_cpu_parallel_codegen_split_count": "2"}
_CONSTANTS = "JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS"  # tables of indices stay out of programs
_THREADS = "OPENBLAS_NUM_THREADS"  # matrices of a few hundred rows: threads wait for each other
_SECONDS = 0.3  # compilations shorter than this are not worth a file


def start(*, fits: bool = False) -> None:
    """Switch JAX to 64 bits, turn on its compilation cache and halve its compile time.

    Args:
        fits: The command fits likelihoods and trains nothing: its programs are many small kernels,
            which gain nothing from the last passes of LLVM.
    """
    warnings.showwarning = functools.partial(_note, set())
    if fits:  # read when JAX and the BLAS of SciPy are loaded
        os.environ.setdefault(_CONSTANTS, "1")
        os.environ.setdefault(_THREADS, "1")
    import jax

    import difana

    if fits:
        import scipy.linalg  # noqa: F401  (JAX imports it when it first factorises a matrix)

    gc.freeze()  # modules stay: the search for garbage need not look at them again
    gc.set_threshold(100_000, 50, 50)  # large workspaces and traces are no garbage either
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = faster_compilation(flags, jax.__version__, fits=fits)
    difana.enable_x64()
    folder = cache_folder(os.environ)
    if folder is not None:
        # a full disk: compiling again is no more than slow
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _SECONDS)


def _note(said: set[str], message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line, once."""
    text = str(message)
    if text not in said:
        said.add(text)
        click.echo(f"Note: {text}", err=True)


def faster_compilation(flags: str, version: str, *, fits: bool = False) -> str:
    """Return the flags of XLA with those that halve the compile time on a CPU.

    The programs of fits are as fast. XLA stops at flags that it does not know, so they are set
    only for the versions of JAX that were tried.

    Example:
        >>> faster_compilation("", "0.10.2")
        '--xla_cpu_use_fusion_emitters=false'
        >>> faster_compilation("--xla_backend_optimization_level=3", "0.10.2", fits=True)[:34]
        '--xla_backend_optimization_level=3'
        >>> faster_compilation("", "0.12.0")
        ''
    """
    if version.split(".")[:2] not in (["0", "8"], ["0", "9"], ["0", "10"]):
        return flags
    wanted = {**_QUICK, **(_QUICK_FITS if fits else {})}
    new = [f"--{key}={value}" for key, value in wanted.items() if key not in flags]
    return " ".join([*flags.split(), *new])


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
