"""The histogram every room passes on: edges, yields and their variances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_divide


class Traits(NamedTuple):
    """Traits of a UHI axis: neither circular nor discrete."""

    circular: bool = False
    discrete: bool = False


class Axis:
    """A UHI axis: a sequence of pairs of edges.

    Attributes:
        edges: The bin edges as a NumPy array ``[bins + 1]``.
        traits: UHI traits.
        name: Name of the observable, for plots.

    Example:
        >>> axis = Axis([0.0, 1.0, 3.0])
        >>> len(axis), axis[1]
        (2, (1.0, 3.0))
    """

    def __init__(self, edges: Float[np.ndarray, " edges"], name: str = "") -> None:
        self.edges = np.asarray(edges)
        self.traits = Traits()
        self.name = name
        self.label = name

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.edges) - 1

    def __getitem__(self, index: int) -> tuple[float, float]:
        """Return the edges of one bin."""
        bins = range(len(self))
        return float(self.edges[bins[index]]), float(self.edges[bins[index] + 1])

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Go over the pairs of edges."""
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Return True for an axis with the same edges."""
        return isinstance(other, Axis) and np.array_equal(self.edges, other.edges)

    def __hash__(self) -> int:
        """Return a hash of the edges."""
        return hash(self.edges.tobytes())


class Histogram(eqx.Module):
    """Weighted yields in bins, a frozen PyTree that may be traced.

    It implements the UHI ``PlottableHistogram`` protocol, so ``mplhep`` and ``hist`` take it.

    Attributes:
        edges: One array of bin edges ``[bins + 1]`` an axis.
        contents: Sums of weights, one dimension an axis.
        squares: Sums of squared weights, the variances of ``contents``.
        names: Names of the axes (static); empty strings where unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> edges, sums = jnp.array([0.0, 1.0, 2.0]), jnp.array([6.0, 2.0])
        >>> h = Histogram((edges,), sums, jnp.array([2.0, 4.0]))
        >>> h.counts().tolist(), h.density().tolist()
        ([18.0, 1.0], [0.75, 0.25])
    """

    edges: tuple[Float[Array, " edges"], ...]
    contents: Float[Array, "*bins"]
    squares: Float[Array, "*bins"]
    names: tuple[str, ...] = eqx.field(static=True, default=())

    def values(self) -> Float[Array, "*bins"]:
        """Return the sums of weights: NumPy outside jit, traced inside."""
        return _numpy(self.contents)

    def variances(self) -> Float[Array, "*bins"]:
        """Return the sums of squared weights: NumPy outside jit, traced inside."""
        return _numpy(self.squares)

    def counts(self) -> Float[Array, "*bins"]:
        r"""Return the effective numbers of events, :math:`(\sum w)^2 / \sum w^2`."""
        return _numpy(safe_divide(self.contents**2, self.squares))

    def density(self) -> Float[Array, "*bins"]:
        """Return the contents divided by their sum and by the volumes of the bins."""
        volume = jnp.ones((), self.contents.dtype)
        for edges in self.edges:
            # NumPy edges may be finer than the numbers of JAX
            widths = np.diff(edges) if isinstance(edges, np.ndarray) else jnp.diff(edges)
            volume = volume[..., None] * jnp.asarray(widths, volume.dtype)
        return _numpy(safe_divide(self.contents, volume * jnp.sum(self.contents)))

    @property
    def kind(self) -> str:
        """The UHI kind: bins hold counts, not means."""
        return "COUNT"

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The UHI axes (outside jit)."""
        names = self.names or ("",) * len(self.edges)
        return tuple(
            Axis(np.asarray(edges), name) for edges, name in zip(self.edges, names, strict=True)
        )

    @property
    def total(self) -> Float[Array, ""]:
        """The sum of all bins."""
        return jnp.sum(self.contents)

    def __add__(self, other: Histogram) -> Histogram:
        """Return the sum of two histograms of the same shape; the edges are those of the first.

        Raises:
            InputError: If the numbers of bins differ.
        """
        if self.contents.shape != other.contents.shape:
            raise InputError(
                f"cannot add histograms of shapes {self.contents.shape} and {other.contents.shape};"
                " fill both with the same edges"
            )
        contents, squares = self.contents + other.contents, self.squares + other.squares
        return Histogram(self.edges, contents, squares, self.names)

    def scaled(self, factor: Float[Array, ""] | float) -> Histogram:
        """Return the histogram of events whose weights are all multiplied by ``factor``."""
        return Histogram(self.edges, self.contents * factor, self.squares * factor**2, self.names)

    def project(self, *axes: int) -> Histogram:
        """Return the histogram summed over all axes but ``axes``, in their given order.

        Raises:
            InputError: If an axis does not exist or stands twice.
        """
        known = range(len(self.edges))
        if not axes or len(set(axes)) != len(axes) or not set(axes) <= set(known):
            raise InputError(
                f"cannot project on axes {axes}; choose among {list(known)}, each once"
            )
        gone = tuple(axis for axis in known if axis not in axes)
        order = [sorted(axes).index(axis) for axis in axes]
        contents, squares = (
            jnp.transpose(jnp.sum(sums, axis=gone), order) for sums in (self.contents, self.squares)
        )
        names = tuple(self.names[axis] for axis in axes) if self.names else ()
        return Histogram(tuple(self.edges[axis] for axis in axes), contents, squares, names)

    def to_hist(self) -> Any:
        """Return a ``hist.Hist`` with weighted storage; flow bins are empty.

        Example:
            >>> import jax.numpy as jnp
            >>> h = Histogram((jnp.array([0.0, 1.0]),), jnp.array([4.0]), jnp.array([2.0]))
            >>> float(h.to_hist().values()[0])
            4.0
        """
        import hist

        axes = [
            hist.axis.Variable(axis.edges, name=axis.name or f"axis{index}", label=axis.label)
            for index, axis in enumerate(self.axes)
        ]
        out = hist.Hist(*axes, storage=hist.storage.Weight())
        view: Any = out.view()
        view["value"], view["variance"] = np.asarray(self.contents), np.asarray(self.squares)
        return out

    @classmethod
    def from_uhi(cls, histogram: Any) -> Histogram:
        """Return the ``Histogram`` of any UHI histogram (hist, boost-histogram, uproot).

        Flow bins are left out; without variances the squares are the values (unweighted events).

        Args:
            histogram: An object with the ``PlottableHistogram`` protocol.

        Raises:
            InputError: If it is not a histogram of counts.

        Example:
            >>> import hist
            >>> full = hist.Hist.new.Reg(2, 0, 1, name="x").Weight().fill([0.1, 0.2, 0.9])
            >>> Histogram.from_uhi(full).values().tolist()
            [2.0, 1.0]
        """
        if not all(hasattr(histogram, part) for part in ("axes", "values", "variances", "kind")):
            raise InputError(
                f"{type(histogram).__name__} has no UHI protocol (axes, kind, values, variances);"
                " convert it to hist.Hist first"
            )
        if str(getattr(histogram.kind, "value", histogram.kind)) != "COUNT":
            raise InputError(f"a histogram of kind {histogram.kind} holds no yields; pass COUNT")
        values, variances = histogram.values(), histogram.variances()
        edges = tuple(jnp.asarray(_edges(axis)) for axis in histogram.axes)
        names = tuple(str(getattr(axis, "name", "") or "") for axis in histogram.axes)
        squares = values if variances is None else variances
        dtype = jnp.result_type(float)
        return cls(edges, jnp.asarray(values, dtype), jnp.asarray(squares, dtype), names)


def _numpy(values: Array) -> Any:
    """Return concrete numbers as NumPy, as the protocol asks; leave tracers alone."""
    return values if isinstance(values, Tracer) else np.asarray(values)


def _edges(axis: Any) -> Float[np.ndarray, " edges"]:
    """Return the edges of a UHI axis; a discrete one gets unit bins."""
    if axis.traits.discrete:
        return np.arange(len(axis) + 1, dtype=float)
    pairs = [axis[index] for index in range(len(axis))]
    return np.array([pairs[0][0], *(high for _, high in pairs)], dtype=float)
