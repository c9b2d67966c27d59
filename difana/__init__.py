"""difana: differentiable end-to-end particle-physics analysis in JAX.

``import difana`` opens every room when it is first used (``difana.infer.upper_limit(model)``), and
holds the errors that difana raises on purpose.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from difana._errors import ConfigError, DifanaError, InputError, ModelError, nearest

if TYPE_CHECKING:
    from difana import analysis as analysis
    from difana import config as config
    from difana import data as data
    from difana import flows as flows
    from difana import hist as hist
    from difana import infer as infer
    from difana import likelihood as likelihood
    from difana import losses as losses
    from difana import metrics as metrics
    from difana import nn as nn
    from difana import plot as plot
    from difana import ratio as ratio
    from difana import train as train
    from difana import unfold as unfold
    from difana._numerics import enable_x64 as enable_x64

__version__ = "0.1.0"
_ROOMS = (
    "analysis", "config", "data", "flows", "hist", "infer", "likelihood", "losses", "metrics", "nn",
    "plot", "ratio", "train", "unfold",
)  # fmt: skip
__all__ = [
    "ConfigError",
    "DifanaError",
    "InputError",
    "ModelError",
    "__version__",
    "analysis",
    "config",
    "data",
    "enable_x64",
    "flows",
    "hist",
    "infer",
    "likelihood",
    "losses",
    "metrics",
    "nn",
    "plot",
    "ratio",
    "train",
    "unfold",
]


def __getattr__(name: str) -> Any:
    """Open a room, or import JAX, when it is needed: the command line sets options before."""
    if name in _ROOMS:
        return importlib.import_module(f"difana.{name}")
    if name == "enable_x64":
        from difana._numerics import enable_x64

        return enable_x64
    raise AttributeError(f"module 'difana' has no attribute '{name}'.{nearest(name, __all__)}")


def __dir__() -> list[str]:
    """Return the public names, rooms that are not open yet included."""
    return sorted({*globals(), *__all__})
