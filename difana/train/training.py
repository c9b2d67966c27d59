"""How a network is trained: the one place of the defaults."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import optax

from difana._errors import ConfigError, nearest
from difana._options import real_number, whole_number

Fall = Literal["cosine", "constant"]


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained on rows; a method that trains takes one as ``training``.

    Attributes:
        epochs: Largest number of passes over the training rows.
        steps: Number of steps, instead of epochs.
        batch_size: Rows of a batch; None: a 64th of the training rows, between 128 and 2048.
        learning_rate: Largest rate of Adam.
        schedule: How the rate falls: ``"cosine"`` or ``"constant"``.
        final_rate: Where a cosine ends, as a share of the rate.
        patience: Epochs (validations) without improvement on held-out rows after which it stops;
            None: never.
        held_out: Share of the rows that are held out.
        average: Decay of the exponential average of the weights, which then are validated and
            returned; None: no average.

    Raises:
        ConfigError: If a value has no meaning.

    Example:
        >>> training = Training(epochs=10, average=0.999)
        >>> training.batch(64_000), training.batch(500), training.steps_for(64_000)
        (1000, 128, 640)
        >>> Training(epochs=0)
        Traceback (most recent call last):
        difana._errors.ConfigError: epochs = 0: must be at least 1.
    """

    epochs: int = 30
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float = 2e-3
    schedule: Fall = "cosine"
    final_rate: float = 0.05
    patience: int | None = 5
    held_out: float = 0.2
    average: float | None = None

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        for name in ("epochs", "steps", "batch_size", "patience"):
            value = getattr(self, name)
            if value is not None or name == "epochs":
                object.__setattr__(self, name, whole_number(name, value))
        real_number("learning_rate", self.learning_rate, above=0)
        real_number("final_rate", self.final_rate, least=0, most=1)
        checked_average(self.average)
        if not 0 < real_number("held_out", self.held_out) < 1:
            raise ConfigError(f"held_out = {self.held_out}: a share between 0 and 1 is needed.")
        if self.schedule not in get_args(Fall):
            raise ConfigError(
                f"schedule = '{self.schedule}': choose one of {list(get_args(Fall))}."
                f"{nearest(str(self.schedule), get_args(Fall))}"
            )

    def batch(self, rows: int) -> int:
        """Return the rows of a batch, of so many training rows: never more than there are."""
        return min(usual_batch(rows) if self.batch_size is None else self.batch_size, rows)

    def steps_an_epoch(self, rows: int) -> int:
        """Return the steps of a pass over so many training rows."""
        return max(1, rows // self.batch(rows))

    def steps_for(self, rows: int) -> int:
        """Return the number of steps of a whole training on so many rows."""
        return self.epochs * self.steps_an_epoch(rows) if self.steps is None else self.steps

    def rate(self, steps: int) -> optax.Schedule:
        """Return the learning rate at each of so many steps."""
        if self.schedule == "constant":
            return optax.constant_schedule(self.learning_rate)
        return optax.cosine_decay_schedule(self.learning_rate, steps, alpha=self.final_rate)

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """Return Adam with the rate of so many steps."""
        return optax.adam(self.rate(steps))


def usual_batch(rows: int) -> int:
    """Return the rows of a batch: about 64 batches an epoch, of 128 to 2048 rows.

    Small samples need the steps more than the size: with batches of 1024 or 2048, some thousand
    events are fitted too badly for bins whose errors are those of the events.

    Example:
        >>> usual_batch(5_000), usual_batch(64_000), usual_batch(10**6)
        (128, 1000, 2048)
    """
    return min(max(rows // 64, 128), 2048)


def checked_average(decay: float | None) -> float | None:
    """Return the decay of an average of weights, or raise ``ConfigError``.

    Example:
        >>> checked_average(1.0)
        Traceback (most recent call last):
        difana._errors.ConfigError: average = 1.0: a decay above 0 and below 1 is needed, ...
    """
    if decay is not None and not 0 < real_number("average", decay) < 1:
        raise ConfigError(
            f"average = {decay}: a decay above 0 and below 1 is needed, such as 0.999, or None."
        )
    return decay
