"""difana: differentiable end-to-end particle-physics analysis in JAX."""

from difana._numerics import enable_x64 as enable_x64

__version__ = "0.1.0"
__all__ = ["__version__", "enable_x64"]
