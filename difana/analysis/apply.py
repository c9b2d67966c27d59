"""Scores, regions and bins of a result, written next to the events of a file."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from difana._errors import InputError, nearest
from difana.analysis._fixed import variable_columns, variable_of
from difana.analysis._sources import Source
from difana.analysis.config import AnalysisConfig, FoldsConfig, RegionConfig, SampleConfig
from difana.analysis.cuts import passing
from difana.analysis.observable_of import TrainedObservable, observables_of
from difana.analysis.templates import bin_of, in_category, network_scores
from difana.data import Chunk, Events, ExtensionReport, extend_file, fold_of, split_parts

_NONE = -1  # the region, bin or part of an event that is in none

Columns = dict[str, Shaped[np.ndarray, " entries"]]


def apply(
    result: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    keep: str | Sequence[str] = "*",
    sample: str = "",
    tree: str | None = None,
    everywhere: bool = False,
    prefix: str = "difana_",
    chunk_size: int = 100_000,
    progress: bool = False,
    allow_code: bool = False,
) -> ExtensionReport:
    """Write what a result says of every event of a file next to its columns.

    The new columns (with the prefix before their names) are

    - ``score``: the output of the network; not a number outside the trained region; of several
      trained regions that of the first in which an event is;
    - ``score_NAME`` for each trained region, where there are several: the output of its network;
    - ``region``: the number of the region in the order of the configuration, the first where an
      event is in several; ``bin``: its bin there, from 0. Both are -1 for an event in none;
    - ``bin_NAME`` for each region, where there are several: its bin there, or -1;
    - ``part``: 0 for events that the network was trained on, 1 for those of the validation and 2
      for those of the test, if they are simulated ones of the run; -1 outside the trained regions;
    - ``fold`` instead, with ``Split: {Folds: k}``: the fold of the event, from 0; score and bin are
      those of its networks, which have not seen it;
    - ``weight``, with ``sample``: the weight of the run, luminosity included.

    Events that fail the cuts of the run (``Cuts``) have no bin in the trained region.

    Of observed events (``sample``) in a blinded region nothing is said: they are in no region.

    Args:
        result: A folder that `run` wrote.
        source: File of events: ROOT, HDF5 or parquet, of any size.
        target: File to write in any of these formats; it appears when it is complete.
        keep: Columns of the source to write, too, or patterns with ``*`` and ``?``; none (``()``)
            makes a friend tree of the same entries.
        sample: Sample of the configuration that the file belongs to: its filter, weight and tree.
        tree: Tree of a ROOT file or group of an HDF5 file, if not that of the configuration.
        everywhere: Also the scores of events outside the trained regions.
        prefix: Stands before the names of the new columns.
        chunk_size: Number of events held in memory at a time.
        progress: Show a bar on a terminal.
        allow_code: Import code that the result names, as in `read_config`.

    Returns:
        What was written.

    Raises:
        InputError: If the folder is no result, a file is missing or broken, a branch is missing,
            or a column to keep has the name of a new one.

    Example:
        >>> apply("nowhere", "in.root", "out.root")
        Traceback (most recent call last):
        difana._errors.InputError: no result in 'nowhere': there is no file result.json...
    """
    observables = observables_of(result, allow_code=allow_code)
    trained = observables[0]
    own = SampleConfig(name="", where=str(source))
    if sample:
        known = {entry.name: entry for entry in trained.config.samples}
        if sample not in known:
            raise InputError(f"the result has no sample '{sample}'.{nearest(sample, known)}")
        own = known[sample]
    regions = [region.name for region in trained.config.regions]
    notes = {"regions": regions, "edges": trained.summary["edges"]}
    writer = _Writer(observables, own, everywhere=everywhere, prefix=prefix)
    return extend_file(
        source,
        target,
        writer.columns,
        keep=keep,
        tree=tree or own.tree or trained.config.general.tree,
        metadata={f"{prefix}observable": json.dumps(notes)},
        chunk_size=chunk_size,
        progress=progress,
    )


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Computes the new columns of a chunk."""

    observables: tuple[TrainedObservable, ...]
    sample: SampleConfig
    everywhere: bool = dataclasses.field(kw_only=True)
    prefix: str = dataclasses.field(kw_only=True)

    @property
    def config(self) -> AnalysisConfig:
        """The configuration of the run."""
        return self.observables[0].config

    def columns(self, chunk: Chunk) -> Columns:
        """Return all new columns."""
        with warnings.catch_warnings():  # the run said it once, not of every chunk
            warnings.simplefilter("ignore", UserWarning)
            return self._columns(chunk)

    def _columns(self, chunk: Chunk) -> Columns:
        config = self.config
        hidden = config.blinded if self.sample.data else ()
        scores = {region.name: np.full(chunk.size, np.nan) for region in config.trained}
        by_region = {region.name: np.full(chunk.size, _NONE, np.int32) for region in config.regions}
        part = np.full(chunk.size, _NONE, np.int32)
        for region in config.regions:
            if region.name in hidden:
                continue
            if region.trained:
                self._score(chunk, region, scores[region.name], part, by_region[region.name])
            else:
                by_region[region.name] = _fixed(Source(config, self.sample, region), chunk)
        region, first = np.full((2, chunk.size), _NONE, np.int32)
        for number, own in reversed(list(enumerate(by_region.values()))):
            region[own >= 0], first[own >= 0] = number, own[own >= 0]
        score = np.full(chunk.size, np.nan)
        for name, own in reversed(scores.items()):
            rows = (by_region[name] >= 0) | np.isnan(score)  # where it is elsewhere, any will do
            score[rows] = own[rows]
        found = {
            "score": score,
            "region": region,
            "bin": first,
            "fold" if config.folds else "part": part,
        }
        if len(by_region) > 1:
            found |= {f"bin_{name}": own for name, own in by_region.items()}
        if len(scores) > 1:
            found |= {f"score_{name}": own for name, own in scores.items()}
        if self.sample.name:
            found["weight"] = _weights(config, self.sample, chunk)
        return {f"{self.prefix}{name}": values for name, values in found.items()}

    def _score(
        self,
        chunk: Chunk,
        region: RegionConfig,
        score: np.ndarray,
        part: np.ndarray,
        bins: np.ndarray,
    ) -> None:
        """Fill in score, part of the split, and bin in a trained region."""
        config = self.config
        source = Source(config, self.sample, region)
        events, rows = chunk.events(**source.reading, selection=source.selection)
        if self.everywhere:
            wider, others = chunk.events(**source.reading, selection=self.sample.filter)
            fold = self._part(chunk, wider, self.sample.filter) if config.folds else None
            score[others], _ = self._scores(region.name, wider, fold)
        if len(rows):
            part[rows] = self._part(chunk, events, source.selection)
            fold = part[rows] if config.folds else None
            own, bins[rows] = self._scores(region.name, events, fold)
            score[rows] = own if self.everywhere else np.where(bins[rows] >= 0, own, np.nan)

    def _part(self, chunk: Chunk, events: Events, selection: str | None) -> np.ndarray:
        """Return the part of the split of every event, or its fold."""
        general, split, identifiers = self.config.general, self.config.split, None
        if not len(events):
            return np.zeros(0, int)
        if general.identifier:
            identifiers = chunk.identifiers(columns=general.identifier, selection=selection)
        named: dict[str, Any] = {"seed": general.seed, "identifiers": identifiers}
        if isinstance(split, FoldsConfig):
            return fold_of(events, split.folds, **named)
        return split_parts(events, split, **named)

    def _scores(
        self, region: str, events: Events, fold: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return score and bin of every event, through the network of its region and fold."""
        found, bins = np.zeros(len(events)), np.zeros(len(events), np.int32)
        for one in self.observables:
            if one.region != region:
                continue
            rows = np.arange(len(events)) if fold is None else np.flatnonzero(fold == one.fold)
            if not len(rows):
                continue
            inputs = jax.tree.map(lambda x, rows=rows: np.asarray(x)[rows], events.inputs)
            own = network_scores(one.net, inputs)
            if not np.isfinite(own).all():
                raise InputError(
                    "the network returns numbers that are not finite: inspect the features"
                )
            inside = in_category(one.net, inputs) & passing(one.net, inputs)
            found[rows] = own
            bins[rows] = np.where(inside, bin_of(own, one.edges.astype(own.dtype)), _NONE)
        return found, bins


def _fixed(source: Source, chunk: Chunk) -> np.ndarray:
    """Return the bin of every event in a fixed region."""
    bins = np.full(chunk.size, _NONE, np.int32)
    columns = variable_columns(source)
    events, rows = chunk.events(columns=columns, selection=source.selection, dtype=np.float64)
    if len(rows):
        table = np.asarray(events.features, np.float64)
        values = variable_of(source, dict(zip(columns, table.T, strict=True)))
        edges = np.asarray(source.region.binning)
        bins[rows] = bin_of(values, edges, flow=source.region.flow)
    return bins


def _weights(config: AnalysisConfig, sample: SampleConfig, chunk: Chunk) -> np.ndarray:
    """Return the weights of the run."""
    if sample.data:
        return np.ones(chunk.size)
    source = Source(config, sample, config.trained[0])
    events, _ = chunk.events(columns={"one": "1"}, weight=source.weight)
    return np.asarray(events.weights, np.float64) * source.scale
