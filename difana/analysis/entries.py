"""The entries of an analysis file as frozen dataclasses: particles, regions, samples, factors."""

from __future__ import annotations

import dataclasses

from difana.analysis.options import BINS
from difana.config import (
    BOUNDS,
    EDGES,
    EXPRESSION,
    NUMBER,
    choice,
    expressions,
    filled,
    integer,
    key,
    lists_by_name,
    number,
    or_word,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParticlesConfig:
    """The particles of an event that the network is given beside the features."""

    channels: tuple[tuple[str, str], ...] = key(
        "numbers of a particle: jagged branches, or expressions of them by name",
        expressions(listed=True),
    )
    maximum: int = key(
        "most particles of an event that are kept",
        integer(1, 10_000, "the padded events would not fit into the memory"),
    )
    order_by: str | None = key(
        "channel, e.g. pt, by which particles are sorted: the largest are kept; the first channel "
        "if left out",
        default=None,
    )

    @property
    def leading(self) -> str:
        """The channel whose largest values are kept."""
        return self.order_by or self.channels[0][0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionConfig:
    """One region: a trained one, or one with a fixed variable and binning."""

    name: str = key("name of the region")
    filter: str | None = key(
        "expression that is true for events of the region", EXPRESSION, default=None
    )
    observable: str | None = key(
        "a trained network: at least one region has it", choice("network"), default=None
    )
    poi: str | None = key(
        "of several POIs the one that the efficient score is for in this region; the first that "
        "acts there if left out",
        name="POI",
        default=None,
    )
    categories: tuple[tuple[str, tuple[str, ...]], ...] = key(
        "classes of one network, by name, with the samples of each: an event goes to the category "
        "of the largest output, and each category is a region (SR_ggF) with bins of its own",
        lists_by_name("categories"),
        default=(),
    )
    bins: int | str | None = key(
        "number of bins of the network in this region; that of Training if left out",
        or_word("auto", BINS),
        default=None,
    )
    variable: str | None = key(
        "observable of a fixed region, of branches and feature names", EXPRESSION, default=None
    )
    binning: tuple[float, ...] | None = key("bin edges of the Variable", EDGES, default=None)
    flow: str = key(
        "what becomes of events outside Binning: lost, or put into the edge bins",
        choice("drop", "fold"),
        default="drop",
    )
    where: str = filled(compare=False)
    parent: str = filled("")
    category: int = filled(-1)

    @property
    def written(self) -> str:
        """The region of the file that it is, or is a category of."""
        return self.parent or self.name

    @property
    def trained(self) -> bool:
        """Whether the network is its observable."""
        return self.variable is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """One process, or the observed events."""

    name: str = key("name of the sample")
    files: tuple[str, ...] = key("file, glob or list of these", default=())
    tree: str | None = key("tree, if not the one of General", default=None)
    weight: str = key("event weight", EXPRESSION, default="1")
    filter: str | None = key("further selection", EXPRESSION, default=None)
    regions: tuple[str, ...] = key("regions in which it is expected; all if left out", default=())
    signal: bool = key("whether it is signal", default=False)
    data: bool = key("whether it holds observed events", default=False)
    from_data: bool = key(
        "a background made of observed events of a control region: no luminosity; Weight is the "
        "transfer factor",
        default=False,
    )
    region_filters: tuple[tuple[str, str], ...] = key(
        "expressions by region that stand for its Filter, for this sample",
        expressions("regions"),
        default=(),
    )
    subtract: tuple[str, ...] = key(
        "simulated samples that are subtracted from the observed events of FromData", default=()
    )
    where: str = filled(compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormFactorConfig:
    """One free factor."""

    name: str = key("name of the free factor")
    samples: tuple[str, ...] = key("samples it multiplies")
    nominal: float | None = key(
        "starting value; 1 if left out, 0 of a POI that is one of several", NUMBER, default=None
    )
    bounds: tuple[float, ...] = key("range in fits", BOUNDS, default=(0.0, 10.0))
    regions: tuple[str, ...] = key("regions in which it acts; all if left out", default=())
    where: str = filled(compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruningConfig:
    """What is left out of the final templates: too small to matter."""

    shape: float = key(
        "smallest relative change of a bin, beside that of the yield, that is kept",
        number(least=0.0, below=1.0),
        default=0.0,
    )
    normalization: float = key(
        "smallest relative change of the yield of a sample that is kept",
        number(least=0.0, below=1.0),
        default=0.0,
    )
