"""A grid of signals in the analysis file."""

from __future__ import annotations

import dataclasses

from difana.config import NUMBER, filled, key, number


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointConfig:
    """One signal of a grid.

    Attributes:
        sample: The signal sample.
        value: Value of the parameter for it.
        cross_section: What theory predicts for it at unit signal strength, in any unit.
        where: File and line.
    """

    sample: str = key()
    value: float = key(kind=NUMBER)
    cross_section: float | None = key(kind=number(above=0.0), default=None)
    where: str = filled("Grid", compare=False)

    @property
    def folder(self) -> str:
        """Name of the folder of its result."""
        return f"point_{self.value:.10g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Signals that differ in one parameter, seen by one network that is told its value.

    Attributes:
        parameter: Its name, e.g. ``mass``; ``Labels`` may say what pictures call it.
        points: The signals.
    """

    parameter: str = key(default="mass")
    points: tuple[PointConfig, ...] = key()
