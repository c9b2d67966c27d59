"""What every unfolding method returns: weighted truth-level events, or a truth-level histogram."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from difana._errors import InputError, nearest
from difana._numerics import safe_divide, safe_sqrt
from difana._result import AbstractResult
from difana.hist import Histogram, check_edges, hard_histogram
from difana.unfold.status import UnfoldStatus

Observables = str | Sequence[str] | Float[ArrayLike, " events"]
"""Name of an observable, several of them, or one number an event."""


class AbstractUnfolded(AbstractResult):
    """An unfolded result: something that can be histogrammed with its covariance."""

    bits = UnfoldStatus

    @abc.abstractmethod
    def histogram(
        self, observable: Observables | None = None, edges: Sequence | ArrayLike | None = None
    ) -> UnfoldedHistogram:
        """Return the unfolded distribution with its full covariance."""


class UnfoldedHistogram(AbstractUnfolded):
    r"""A truth-level histogram with its covariance.

    Attributes:
        status: Bits of ``UnfoldStatus``.
        edges: One array of edges an axis, in the units of the observable.
        values: Yields, one dimension an axis.
        covariance: Covariance of the flattened yields (C order), ``[bins, bins]``.
        names: Names of the axes (static).
        condition: Condition number of the system that was solved; None if none was.
        rank: Its rank: what is missing to the number of bins is that of the simulation.

    Example:
        >>> import jax.numpy as jnp
        >>> h = UnfoldedHistogram(
        ...     status=jnp.asarray(0), edges=(jnp.array([0.0, 1.0, 2.0]),),
        ...     values=jnp.array([4.0, 9.0]), covariance=jnp.array([[4.0, 3.0], [3.0, 9.0]]),
        ...     names=("pt",),
        ... )
        >>> h.errors.tolist(), h.correlation[0, 1].item(), h.message
        ([2.0, 3.0], 0.5, 'ok')
    """

    status: Int[Array, ""]
    edges: tuple[Float[Array, " _edges"], ...]
    values: Float[Array, "*bins"]
    covariance: Float[Array, "flat flat"]
    names: tuple[str, ...] = eqx.field(static=True, default=())
    condition: Float[Array, ""] | None = None
    rank: Int[Array, ""] | None = None

    @property
    def errors(self) -> Float[Array, "*bins"]:
        """Standard deviations, in the shape of the values."""
        return safe_sqrt(jnp.diagonal(self.covariance)).reshape(self.values.shape)

    @property
    def correlation(self) -> Float[Array, "flat flat"]:
        """Correlation matrix of the flattened yields; zero where a variance is zero."""
        sigma = jnp.ravel(self.errors)
        return safe_divide(self.covariance, sigma[:, None] * sigma[None, :])

    def histogram(
        self, observable: Observables | None = None, edges: Sequence | ArrayLike | None = None
    ) -> UnfoldedHistogram:
        r"""Return the histogram projected on an axis and merged to coarser bins.

        With the 0/1 matrix :math:`M` of merged bins, values are :math:`M n`, covariance
        :math:`M V M^T`.

        Args:
            observable: Name of one axis; None keeps all.
            edges: New edges of that axis, each one of the old edges; None keeps them.

        Raises:
            InputError: For an unknown axis, or edges that do not increase or are not among those
                of the axis.
        """
        if observable is None and edges is None:
            return self
        if not isinstance(observable, str) or observable not in self.names:
            raise InputError(
                f"no axis {observable!r} among {list(self.names)}: a binned result knows only"
                " its own axes"
            )
        axis = self.names.index(observable)
        old = np.asarray(self.edges[axis])
        new = old if edges is None else np.asarray(check_edges(edges))
        if not all(np.isclose(old, edge, rtol=1e-12).any() for edge in new):
            raise InputError(
                f"the edges {new.tolist()} of '{observable}' are not among those it was unfolded"
                f" with, {old.tolist()}: merge bins, or unfold again"
            )
        centres = (old[1:] + old[:-1]) / 2
        merge = (centres > new[:-1, None]) & (centres < new[1:, None])
        matrix = np.ones((1, 1))
        for index, size in enumerate(self.values.shape):
            matrix = np.kron(matrix, merge if index == axis else np.ones((1, size)))
        dense = jnp.asarray(matrix, self.values.dtype)
        return UnfoldedHistogram(
            status=self.status,
            edges=(jnp.asarray(new),),
            values=dense @ jnp.ravel(self.values),
            covariance=dense @ self.covariance @ dense.T,
            names=(observable,),
        )

    def to_histogram(self) -> Histogram:
        """Return the yields with their variances as the ``Histogram`` of the other rooms."""
        return Histogram(self.edges, self.values, self.errors**2, self.names)


class UnfoldedEvents(AbstractUnfolded):
    """Truth-level events with unfolded weights: an unbinned measurement.

    Attributes:
        status: Bits of ``UnfoldStatus``.
        observables: Truth-level observables, ``[events, observables]``.
        weights: Unfolded weights, truth weight included; zero outside the fiducial region.
        replicas: Weights of replicas by kind (``"bootstrap"``, ``"ensemble"``), each
            ``[replicas, events]``; the spread within a kind is one source of uncertainty.
        variations: Weights after a systematic variation of one standard deviation, by name.
        fiducial: True inside the fiducial region.
        names: Names of the observables (static).
        units: Their units (static).
        metadata: Pairs of key and text that travel with the result (static).

    Example:
        >>> import jax.numpy as jnp
        >>> events = UnfoldedEvents(
        ...     status=jnp.asarray(0), observables=jnp.array([[0.5], [1.5]]),
        ...     weights=jnp.array([2.0, 3.0]), variations={}, fiducial=jnp.array([True, True]),
        ...     replicas={"bootstrap": jnp.array([[1.0, 3.0], [3.0, 3.0], [2.0, 3.0]])},
        ...     names=("pt",),
        ... )
        >>> h = events.histogram("pt", [0.0, 1.0, 2.0])
        >>> h.values.tolist(), h.errors.tolist()
        ([2.0, 3.0], [1.0, 0.0])
    """

    status: Int[Array, ""]
    observables: Float[Array, "events *observables"]
    weights: Float[Array, " events"]
    replicas: dict[str, Float[Array, "_replicas events"]]
    variations: dict[str, Float[Array, " events"]]
    fiducial: Bool[Array, " events"]
    names: tuple[str, ...] = eqx.field(static=True, default=())
    units: tuple[str, ...] = eqx.field(static=True, default=())
    metadata: tuple[tuple[str, str], ...] = eqx.field(static=True, default=())

    def histogram(
        self, observable: Observables | None = None, edges: Sequence | ArrayLike | None = None
    ) -> UnfoldedHistogram:
        r"""Return the unfolded distribution with its full covariance.

        .. math::
            V = \sum_{kinds} \frac{1}{R - 1} \sum_r (n_r - \bar n)(n_r - \bar n)^T
            + \sum_{variations} (n_v - n)(n_v - n)^T

        Events beyond the outer edges are dropped. A kind of no more replicas than bins sets
        ``FEW_REPLICAS``.

        Args:
            observable: Name, a sequence of names (one dimension each), or one number an event.
            edges: Edges ``[bins + 1]``, or one array a name.

        Raises:
            InputError: For an unknown observable or wrong edges.
        """
        if edges is None:
            raise InputError("edges are needed to histogram events")
        columns, names = self._columns(observable)
        several = isinstance(edges, list | tuple) and len(edges) > 0 and np.ndim(edges[0]) == 1
        rows: list = list(edges) if several else [edges]  # pyright: ignore[reportArgumentType]
        if len(rows) != columns.shape[1]:
            raise InputError(f"{len(rows)} arrays of edges for {columns.shape[1]} observables")

        def fill(weights: Array) -> Array:
            chosen = jnp.where(self.fiducial, weights, 0.0)
            return hard_histogram(columns, chosen, rows, flow="drop").contents

        nominal = hard_histogram(
            columns, jnp.where(self.fiducial, self.weights, 0.0), rows, flow="drop"
        )
        values = nominal.contents
        covariance = jnp.zeros((values.size, values.size), values.dtype)
        status = self.status
        for weights in self.replicas.values():
            filled = jax.lax.map(fill, weights).reshape(len(weights), -1)
            moved = filled - jnp.mean(filled, axis=0)
            covariance += moved.T @ moved / max(len(weights) - 1, 1)
            if len(weights) <= values.size:
                status = status | int(UnfoldStatus.FEW_REPLICAS)
        for weights in self.variations.values():
            shift = jnp.ravel(fill(weights) - values)
            covariance += shift[:, None] * shift
        if not self.replicas and not self.variations:
            status = status | int(UnfoldStatus.NO_COVARIANCE)
        status = status | jnp.where(jnp.any(values < 0), int(UnfoldStatus.NEGATIVE), 0)
        return UnfoldedHistogram(
            status=status, edges=nominal.edges, values=values, covariance=covariance, names=names
        )

    def with_replicas(self, **replicas: Float[Array, "_replicas events"]) -> UnfoldedEvents:
        """Return the result with more kinds of replicas, ``kind=[replicas, events]``."""
        for kind, weights in replicas.items():
            if jnp.shape(weights)[1:] != self.weights.shape:
                raise InputError(
                    f"replicas '{kind}' have shape {jnp.shape(weights)}, not (replicas,"
                    f" {len(self.weights)})"
                )
        return eqx.tree_at(
            lambda result: result.replicas, self, {**self.replicas, **replicas},
            is_leaf=lambda node: isinstance(node, Mapping),
        )  # fmt: skip

    def _columns(self, observable: Observables | None) -> tuple[Array, tuple[str, ...]]:
        if observable is None:
            observable = list(self.names) if self.names else self.observables[:, 0]
        if isinstance(observable, str):
            observable = [observable]
        if isinstance(observable, list | tuple) and isinstance(observable[0], str):
            for name in observable:
                if name not in self.names:
                    raise InputError(
                        f"no observable '{name}' among {list(self.names)}."
                        f"{nearest(str(name), self.names)}"
                    )
            found = [self.names.index(str(name)) for name in observable]
            return self.observables[:, jnp.asarray(found)], tuple(map(str, observable))
        column = jnp.asarray(observable)
        if column.shape != self.weights.shape:
            raise InputError(
                f"the observable has shape {column.shape}; give one number for each of the"
                f" {len(self.weights)} events"
            )
        return column[:, None], ("",)
