"""Where the events of a sample, region and variation come from."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from difana._errors import InputError, NothingSelectedError, blame
from difana.analysis.config import AnalysisConfig, RegionConfig, SampleConfig
from difana.analysis.systematics import Side, SystematicConfig, modifier_of
from difana.config import paths_of
from difana.data import Events, read_events, read_identifiers


@dataclasses.dataclass(frozen=True)
class Source:
    """The events of one sample in one region, nominal or on one side of a systematic."""

    config: AnalysisConfig
    sample: SampleConfig
    region: RegionConfig
    systematic: SystematicConfig | None = None
    side: str = ""

    def __post_init__(self) -> None:
        """Refuse observed events of a blinded region, whoever asks for them."""
        if self.sample.data and self.region.name in self.config.blinded:
            raise InputError(f"{self.where}: the region is blinded (General: Blind)")

    @property
    def shift(self) -> Side:
        """What the side of the systematic changes."""
        side = getattr(self.systematic, self.side) if self.side else None
        return side or Side()

    @property
    def where(self) -> str:
        """What messages call the events."""
        what = f"sample '{self.sample.name}' in region '{self.region.name}'"
        if self.systematic is None:
            return f"{self.sample.where}: {what}"
        name = f"systematic '{self.systematic.name}', {self.side.capitalize()}"
        return f"{self.systematic.where}: {name}, {what}"

    @property
    def files(self) -> list[str]:
        """Paths and globs, relative ones from the folder of the configuration."""
        template = self.config.general.input_path
        placed = template if template is not None and "{" in template else ""
        whole = "{Files}" in placed
        found = [
            placed.replace("{Files}", entry) if placed and (whole or not entry) else entry
            for entry in self.shift.files or self.sample.files or ("",)
        ]
        found = [text.replace("{Sample}", self.sample.name) for text in found]
        folder = None if placed else template
        return paths_of(found, beside=self.config.path, folder=folder)

    @property
    def tree(self) -> str | None:
        """The tree."""
        return self.shift.tree or self.sample.tree or self.config.general.tree

    @property
    def weight(self) -> str | None:
        """Expression of the weight; None for data."""
        return None if self.sample.data else self.shift.weight or self.sample.weight

    @property
    def filters(self) -> dict[str, str]:
        """The filters of region and sample, where there are any."""
        own = dict(self.sample.region_filters).get(self.region.name, self.region.filter)
        both = {"region": own, "sample": self.sample.filter}
        return {name: text for name, text in both.items() if text}

    @property
    def selection(self) -> str | None:
        """The condition that all filters hold."""
        filters = list(self.filters.values())
        return (
            " and ".join(f"({text})" for text in filters)
            if len(filters) > 1
            else (filters[0] if filters else None)
        )

    @property
    def scale(self) -> float:
        """Factor on the weights: the luminosity, for simulated samples."""
        observed = self.sample.data or self.sample.from_data
        return 1.0 if observed else self.config.general.luminosity

    def subtracted(self, weight: str | None = None) -> tuple[Source, ...]:
        """Return the simulated events that are subtracted from observed ones of a control region.

        Args:
            weight: Another transfer factor than that of the sample.
        """
        factor = weight or self.weight or "1"
        others = {sample.name: sample for sample in self.config.simulated}
        found = []
        for name in self.sample.subtract:
            own = f"({others[name].weight}) * ({factor})"
            filters = self.sample.region_filters
            sample = dataclasses.replace(others[name], weight=own, region_filters=filters)
            found.append(Source(self.config, sample, self.region))
        return tuple(found)

    @property
    def reading(self) -> dict[str, Any]:
        """What the network is given, as `read_events` is asked for it."""
        cloud, found = self.config.particles, {"columns": self.config.table}
        if cloud is None:
            return found
        return found | {
            "particles": dict(cloud.channels),
            "max_particles": cloud.maximum,
            "leading": cloud.leading,
        }

    def inputs(self) -> Events:
        """Return what the network is given, and weights."""
        return self.events(**self.reading)

    def events(
        self, columns: Mapping[str, str], *, dtype: Any = np.float32, **options: Any
    ) -> Events:
        """Return features and weights."""
        with blame(self.where):
            found = read_events(
                self.files,
                columns=columns,
                tree=self.tree,
                weight=self.weight,
                selection=self.selection,
                dtype=dtype,
                **options,
            )
        if self.scale != 1.0:
            found = found.with_weights(found.weights * self.scale)
        weights = np.asarray(found.weights, np.float64)
        with np.errstate(over="ignore"):
            if not np.isfinite(np.sum(weights**2)):
                raise InputError(
                    f"{self.where}: the sum of the squared weights is not finite (Luminosity "
                    f"{self.scale:g}, largest weight {np.abs(weights).max():g})"
                )
        parts = [found]
        for other in self.subtracted():
            with contextlib.suppress(NothingSelectedError):
                own = other.events(columns, dtype=dtype, **options)
                parts.append(own.with_weights(-own.weights))
        if len(parts) == 1:
            return found
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    def weights(self, columns: Mapping[str, str]) -> dict[str, Float[np.ndarray, " events"]]:
        """Return other weights of the same events."""
        with blame(self.where):
            found = read_events(
                self.files,
                columns=columns,
                tree=self.tree,
                selection=self.selection,
                dtype=np.float64,
            )
        table = np.asarray(found.features, np.float64) * self.scale
        result = dict(zip(columns, table.T, strict=True))
        for name, text in columns.items() if self.sample.subtract else ():
            for other in self.subtracted(text):
                with contextlib.suppress(NothingSelectedError):
                    own = other.weights({name: str(other.weight)})[name]
                    result[name] = np.concatenate([result[name], -own])
        return result

    def identifiers(self) -> dict[str, Shaped[np.ndarray, " events"]] | None:
        """Return what names the events; None where the features do."""
        if not self.config.general.identifier:
            return None
        with blame(self.where):
            found = read_identifiers(
                self.files,
                columns=self.config.general.identifier,
                tree=self.tree,
                selection=self.selection,
            )
        for other in self.subtracted():
            with contextlib.suppress(NothingSelectedError):
                own = other.identifiers() or {}
                found = {name: np.concatenate([found[name], own[name]]) for name in found}
        return found


def weight_columns(source: Source) -> dict[str, tuple[SystematicConfig, str, str]]:
    """Return systematic, side and expression of all other weights of the same events."""
    entries = systematics_of(source.config, source.sample, source.region, "Weight")
    return {
        f"weight of '{entry.name}', {side}": (
            entry,
            side,
            getattr(entry, side).weight or source.weight or "1",
        )
        for entry in entries
        for side in ("up", "down")
        if getattr(entry, side) is not None
    }


def varied_weights(source: Source) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return up and down weights by nuisance parameter, of all weight systematics.

    A missing side is the mirror of the other one, event by event.
    """
    entries = systematics_of(source.config, source.sample, source.region, "Weight")
    columns = {name: text for name, (_, _, text) in weight_columns(source).items()}
    if not columns:
        return {}
    found = source.weights(columns)
    nominal = None
    result = {}
    for entry in entries:
        up = found[f"weight of '{entry.name}', up"]
        if entry.down is None:
            if nominal is None:
                nominal = source.weights({"weight": source.weight or "1"})["weight"]
            down = 2 * nominal - up
        else:
            down = found[f"weight of '{entry.name}', down"]
        result[entry.modifier_name] = (up, down)
    return result


def systematics_of(
    config: AnalysisConfig, sample: SampleConfig, region: RegionConfig, *types: str
) -> list[SystematicConfig]:
    """Return the systematics of some types that affect a sample in a region.

    Their parameters have the names that they have there.
    """
    return [
        dataclasses.replace(
            entry, modifier_name=modifier_of(entry, sample=sample.name, region=region.name)
        )
        for entry in config.systematics
        if entry.type in types and sample.name in entry.samples and region.name in entry.regions
    ]


def factors(entry: SystematicConfig) -> tuple[float, float]:
    """Return the factors on the yield at +1 and -1 of a normalisation."""
    up = (entry.up or Side()).normalization or 0.0
    down = -up if entry.down is None else entry.down.normalization or 0.0
    return 1.0 + up, 1.0 + down


def as_array(values: np.ndarray | float) -> Any:
    """Return numbers of the statistical part's precision."""
    return jnp.asarray(values, float)
