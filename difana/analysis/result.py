"""The result of an analysis, with everything that the report draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from difana._result import AbstractResult
from difana._status import joined
from difana.analysis.conditions import Condition
from difana.analysis.config import AnalysisConfig
from difana.analysis.input_yields import InputYields
from difana.analysis.observables import DIFANA, Expectation, Scores
from difana.analysis.regions import RegionYields
from difana.analysis.statistics import Final
from difana.likelihood import Channel, Model


class AnalysisResult(AbstractResult):
    """What `run` found; host-side numbers, ready to be drawn.

    Attributes:
        config: The configuration.
        out: The folder of the files.
        summary: The content of ``result.json``.
        comparison: Expectations of the baselines and, last, of the trained observable.
        model: The final model, as in ``workspace.json``.
        data: Its data: observed events; background-only Asimov data without, and where blinded.
        statistics: Fit, yields and scan of the final model.
        regions: Yields of all regions.
        channels: Hard templates of all regions with their variations.
        history: Records of the training.
        bandwidths: Kernel widths at the end of the training, by trained region.
        soft: Soft yields of the test split by sample, by trained region in its bins.
        conditions: What became of ``Training: Constraints``, on the test split.
        scores: Test samples as seen by the cross-entropy and by the trained networks, by name of
            these and by trained region.
        inputs: Histograms of the inputs of the networks, on the test split, by trained region.
    """

    config: AnalysisConfig
    out: Path
    summary: Mapping[str, Any]
    comparison: tuple[Expectation, ...]
    model: Model
    data: Float[Array, " data"]
    statistics: Final
    regions: tuple[RegionYields, ...]
    channels: tuple[Channel, ...]
    history: tuple[Mapping[str, Any], ...]
    bandwidths: Mapping[str, float]
    soft: Mapping[str, Mapping[str, Float[np.ndarray, " bins"]]]
    conditions: tuple[Condition, ...]
    scores: Mapping[str, Scores]
    inputs: Mapping[str, tuple[InputYields, ...]]

    @property
    def trained(self) -> Expectation:
        """What is expected of the trained observable."""
        return next(entry for entry in self.comparison if entry.name == DIFANA)

    @property
    def status(self) -> int:
        """Bit flags of the final fit and, with data, of what they say."""
        own = self.statistics.observed
        seen = [] if own is None else [own.limits, own.cls, own.significance]
        return joined([joined(part.status) for part in (self.statistics.fit, *seen)])

    @property
    def ok(self) -> bool:
        """True if the numbers of the trained observable can be trusted."""
        return self.message == "ok"

    @property
    def message(self) -> str:
        """``ok``, or why the numbers of the trained observable cannot be trusted."""
        return str(self.summary["status"])

    @property
    def real_data(self) -> bool:
        """Whether the data are observed in all regions."""
        return all(region.observed for region in self.regions)
