"""How a training ended, in the bits that all results have."""

from __future__ import annotations

from collections.abc import Mapping

from difana._status import StatusBits


class TrainStatus(StatusBits):
    """How a training ended; several may be set of several trainings.

    Example:
        >>> from difana._status import describe
        >>> describe(TrainStatus.STOPPED_EARLY, TrainStatus)
        'the training stopped early, as the metric no longer improved'
    """

    OK = 0
    STOPPED_EARLY = 1
    DIVERGED = 2
    NO_METRIC = 4

    @classmethod
    def sentences(cls) -> Mapping[int, str]:
        """Return what each bit means."""
        return {
            cls.STOPPED_EARLY: "the training stopped early, as the metric no longer improved",
            cls.DIVERGED: "the training diverged, and the last good state is returned",
            cls.NO_METRIC: "the metric of a training never was finite",
        }

    @classmethod
    def harmless(cls) -> int:
        """Return the bits that are worth a word and leave the number as it is."""
        return int(cls.STOPPED_EARLY)
