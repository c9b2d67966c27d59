"""How OmniFold runs."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import optax

from difana._errors import ConfigError
from difana._options import real_number, whole_number
from difana.train import usual_batch

_CHOICES = {
    "missed": ("prior", "learned"),
    "fakes": ("prior", "learned"),
    "background": ("subtract", "reweight", "add"),
}
_CACHE = 2**21  # bytes
_DTYPES = ("float32", "float64")


class Settings(NamedTuple):
    """How OmniFold runs; see ``OmniFold`` for the meaning of each (all static).

    Example:
        >>> Settings(iterations=2).check().batch(16_000)
        250
    """

    iterations: int = 4
    epochs: int = 30
    batch_size: int | None = None
    learning_rate: float = 2e-3
    final_rate: float = 0.05
    patience: int = 5
    held_out: float = 0.2
    cap: float = 10.0
    missed: Literal["prior", "learned"] = "prior"
    fakes: Literal["prior", "learned"] = "prior"
    background: Literal["subtract", "reweight", "add"] = "subtract"
    warm_start: bool = True
    ensemble: int = 1
    tolerance: float = 0.0
    fold_bins: int = 20
    dtype: str = "float32"
    lanes: int | None = None

    def check(self) -> Settings:
        """Return the settings, or raise ``ConfigError`` at one that has no meaning."""
        for name in ("iterations", "epochs", "batch_size", "patience", "ensemble", "lanes"):
            value = getattr(self, name)
            if value is not None:
                whole_number(name, value)
        whole_number("fold_bins", self.fold_bins, least=2)
        for name in ("held_out", "final_rate"):
            if not 0 < getattr(self, name) <= 1 or self.held_out == 1:
                raise ConfigError(
                    f"{name} = {getattr(self, name)}: a fraction between 0 and 1 is needed"
                )
        for name in ("cap", "learning_rate"):
            real_number(name, getattr(self, name), above=0)
        if not self.tolerance >= 0:
            raise ConfigError(f"tolerance = {self.tolerance}: must be 0 (never stop) or positive")
        for name, known in {**_CHOICES, "dtype": _DTYPES}.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} = '{getattr(self, name)}': choose one of {known}")
        return self

    def batch(self, rows: int) -> int:
        """Return the rows of a batch: by default about 64 batches an epoch, of 128 to 2048 rows.

        Small samples need the steps more than the size: with batches of 2048, 10,000 events are
        fitted too badly for bins whose errors are those of the events.
        """
        return min(self.batch_size or usual_batch(rows), rows)

    def at_once(self, replicas: int, size: int) -> int:
        """Return how many replicas are trained side by side: a divisor of their number.

        By default all on an accelerator. On a CPU as many as its cache holds, with gradient, two
        moments and mean: one after the other is faster than all of them through the memory.

        Args:
            replicas: Their number.
            size: Bytes of the weights of one.
        """
        lanes = self.lanes
        if lanes is None:
            lanes = replicas if jax.default_backend() != "cpu" else max(1, _CACHE // (5 * size))
        return max(k for k in range(1, min(lanes, replicas) + 1) if replicas % k == 0)

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """Return Adam whose rate falls as a cosine over the steps of one training."""
        rate = optax.cosine_decay_schedule(self.learning_rate, steps, alpha=self.final_rate)
        # 1e-15 inside the root: Adam has a finite derivative where a gradient is exactly zero
        return optax.adam(rate, eps_root=1e-15)
