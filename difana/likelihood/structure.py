"""The static part of a model: names and flat index arrays, hashable so that jit caches hit."""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np

KINDS = ("normfactor", "lumi", "normsys", "histosys", "staterror", "shapesys", "shapefactor")


@dataclasses.dataclass(frozen=True)
class ModifierLayout:
    """Where one modifier of one template keeps its numbers and its parameter(s)."""

    kind: str
    name: str
    start: int  # first entry in the flat arrays of its kind
    parameter: int  # first parameter


@dataclasses.dataclass(frozen=True)
class TemplateLayout:
    """Where one template keeps its rows."""

    name: str
    start: int
    modifiers: tuple[ModifierLayout, ...]

    @property
    def normfactors(self) -> tuple[str, ...]:
        """Names of the free factors on the yield."""
        return tuple(m.name for m in self.modifiers if m.kind == "normfactor")


@dataclasses.dataclass(frozen=True)
class ChannelLayout:
    """Where one channel keeps its bins."""

    name: str
    start: int
    bins: int
    templates: tuple[TemplateLayout, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """Names and indices of a model; equal content gives equal hash.

    A *row* is one bin of one template; a *block* one template. Arrays of entries are flat:
    ``histosys_row[i]`` is the row that entry ``i`` shifts and ``histosys_parameter[i]`` the
    parameter that steers it. ``factors[row]`` lists the parameters that multiply a row, padded
    with ``len(parameters)``, which stands for a constant one.
    """

    channels: tuple[ChannelLayout, ...]
    parameters: tuple[str, ...]  # one name an entry: "mu", "staterror_SR[0]"
    sets: tuple[tuple[str, int, int, str], ...]  # (name, first parameter, size, kind)
    poi: str | None
    row_bin: np.ndarray
    row_block: np.ndarray
    histosys_row: np.ndarray
    histosys_parameter: np.ndarray
    normsys_block: np.ndarray
    normsys_parameter: np.ndarray
    staterror_row: np.ndarray
    staterror_parameter: np.ndarray
    shapesys_row: np.ndarray
    shapesys_parameter: np.ndarray
    factors: np.ndarray
    constrained: np.ndarray  # parameter of each auxiliary datum
    poisson: np.ndarray  # True where that constraint is a Poisson one
    lognormal: np.ndarray  # True where it is log-normal
    correlated: np.ndarray  # constraints that share one correlation matrix
    private: np.ndarray  # [bins] a factor that acts in this bin only, or the number of parameters
    fixed: np.ndarray  # one a parameter: held by request
    interpolation: tuple[str, str] = ("code4", "code4p")  # of normsys and of histosys
    clip: bool = False  # additive shifts leave no negative yields of samples, see ``_clip``
    masked: np.ndarray = dataclasses.field(  # [bins] True where no fit looks; empty if nowhere
        default_factory=lambda: np.zeros(0, bool)
    )
    digest: str = ""

    def __post_init__(self) -> None:
        """Make the arrays read-only and fix the digest of the content."""
        sha = hashlib.sha256()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
                sha.update(f"{field.name}{value.shape}{value.dtype}".encode())
                sha.update(np.ascontiguousarray(value).tobytes())
            elif field.name != "digest":
                sha.update(repr(value).encode())
        object.__setattr__(self, "digest", sha.hexdigest())

    def __hash__(self) -> int:
        """Return a hash of the content."""
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        """Compare by content."""
        return isinstance(other, Structure) and self.digest == other.digest

    @functools.cached_property
    def constraint_of(self) -> np.ndarray:
        """The constraint of each parameter, or the number of constraints if it has none."""
        found = np.full(len(self.parameters), self.constrained.size, np.int32)
        found[self.constrained] = np.arange(self.constrained.size)
        return found

    @property
    def bins(self) -> int:
        """Number of bins of all channels."""
        return sum(channel.bins for channel in self.channels)

    @property
    def masked_channels(self) -> tuple[str, ...]:
        """Names of the channels that no fit looks at."""
        if not self.masked.size:
            return ()
        return tuple(c.name for c in self.channels if self.masked[c.start])

    @property
    def blocks(self) -> int:
        """Number of templates of all channels."""
        return sum(len(channel.templates) for channel in self.channels)


def with_poi(structure: Structure, poi: str) -> Structure:
    """Return the structure with another parameter of interest; fits never eliminate that one."""
    size = len(structure.parameters)
    taken = np.zeros(size, bool)
    for parameters in (
        structure.histosys_parameter,
        structure.normsys_parameter,
        structure.constrained[structure.lognormal],
        structure.constrained[structure.correlated],
        structure.parameters.index(poi),
    ):
        taken[parameters] = True
    private = private_factors(
        structure.factors, structure.row_bin, taken, bins=structure.bins, parameters=size
    )
    return dataclasses.replace(structure, poi=poi, private=private)


def private_factors(
    factors: np.ndarray,
    row_bin: np.ndarray,
    taken: np.ndarray,
    *,
    bins: int,
    parameters: int,
) -> np.ndarray:
    """Return for each bin one factor that acts in no other bin: fits eliminate it exactly.

    Args:
        factors: Parameters that multiply each row, padded with ``parameters``.
        row_bin: Bin of each row.
        taken: True for parameters that may not be eliminated.
        bins: Number of bins.
        parameters: Number of parameters.
    """
    row, column = np.nonzero(factors < parameters)
    owner, bin_of = factors[row, column], row_bin[row]
    low = np.full(parameters, bins)
    high = np.full(parameters, -1)
    np.minimum.at(low, owner, bin_of)
    np.maximum.at(high, owner, bin_of)
    uses = np.bincount(owner, minlength=parameters)
    pairs = np.unique(row.astype(np.int64) * parameters + owner)
    rows = np.bincount(pairs % parameters, minlength=parameters)
    good = ~taken & (low == high) & (uses == rows)  # in one bin, and once a row
    found = np.full(bins, parameters, np.int32)
    for parameter in np.flatnonzero(good)[np.argsort(uses[good], kind="stable")]:
        found[low[parameter]] = parameter  # the one with most rows is written last
    return found
