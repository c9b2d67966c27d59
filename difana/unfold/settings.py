"""How OmniFold runs."""

from __future__ import annotations

from typing import Literal, NamedTuple

from difana._errors import ConfigError
from difana._options import real_number, whole_number
from difana.train import Training

Missed = Literal["prior", "learned"]
Background = Literal["subtract", "reweight", "add"]

_CHOICES = {
    "missed": ("prior", "learned"),
    "fakes": ("prior", "learned"),
    "background": ("subtract", "reweight", "add"),
    "dtype": ("float32", "float64"),
}


class Settings(NamedTuple):
    """How OmniFold runs; see ``fit_omnifold`` for the meaning of each (all static).

    Example:
        >>> Settings(iterations=2).check().iterations
        2
    """

    iterations: int = 4
    training: Training = Training()
    cap: float = 10.0
    missed: Missed = "prior"
    fakes: Missed = "prior"
    background: Background = "subtract"
    warm_start: bool = True
    ensemble: int = 1
    tolerance: float = 0.0
    fold_bins: int = 20
    dtype: str = "float32"

    def check(self) -> Settings:
        """Return the settings, or raise ``ConfigError`` at one that has no meaning."""
        for name in ("iterations", "ensemble"):
            whole_number(name, getattr(self, name))
        whole_number("fold_bins", self.fold_bins, least=2)
        real_number("cap", self.cap, above=0)
        if not self.tolerance >= 0:
            raise ConfigError(f"tolerance = {self.tolerance}: must be 0 (never stop) or positive")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} = '{getattr(self, name)}': choose one of {known}")
        return self
