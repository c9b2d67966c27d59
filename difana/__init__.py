"""difana: differentiable end-to-end particle-physics analysis in JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from difana._numerics import enable_x64 as enable_x64

__version__ = "0.1.0"
__all__ = ["__version__", "enable_x64"]


def __getattr__(name: str) -> Any:
    """Import JAX when it is needed: the command line sets its options before, and prints help."""
    if name == "enable_x64":
        from difana._numerics import enable_x64

        return enable_x64
    raise AttributeError(f"module 'difana' has no attribute '{name}'")
