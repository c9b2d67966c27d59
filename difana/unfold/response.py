"""The response matrix: how truth bins are seen in bins of the detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from difana._errors import InputError
from difana._numerics import safe_divide, segment_sums
from difana.hist._checks import aligned, cast_edges, check_edges, shown_edges
from difana.unfold.problem import UnfoldingProblem


class Response(eqx.Module):
    r"""Binned view of a problem; N-dimensional bins are flattened in C order.

    Attributes:
        matrix: :math:`R_{ji} = P(\mathrm{reco}\ j \mid \mathrm{truth}\ i)`, ``[reco, truth]``;
            column sums are the efficiencies.
        prior: Simulated truth yields, ``[truth]``.
        fakes: Simulated yields at detector level without truth inside the edges, ``[reco]``.
        data: Measured yields, ``[reco]``.
        data_variances: Their variances, ``[reco]``.
        background: Background yields, ``[reco]``.
        background_variances: Their variances, ``[reco]``.
        edges: Truth-level edges, one array an axis.
        prior_variances: Variances of the simulated truth yields, ``[truth]``; None if not known.
        names: Names of the truth-level axes (static).
    """

    matrix: Float[Array, "reco truth"]
    prior: Float[Array, " truth"]
    fakes: Float[Array, " reco"]
    data: Float[Array, " reco"]
    data_variances: Float[Array, " reco"]
    background: Float[Array, " reco"]
    background_variances: Float[Array, " reco"]
    edges: tuple[Float[Array, " _edges"], ...]
    names: tuple[str, ...] = eqx.field(static=True, default=())
    prior_variances: Float[Array, " truth"] | None = None

    @property
    def efficiency(self) -> Float[Array, " truth"]:
        """Probability of a truth event to be reconstructed inside the edges."""
        return jnp.sum(self.matrix, axis=0)

    def fold(self, truth: Float[Array, " truth"]) -> Float[Array, " reco"]:
        """Return the yields expected in the detector, fakes and background included."""
        return self.matrix @ truth + self.fakes + self.background


def response(
    problem: UnfoldingProblem,
    *,
    gen_edges: Sequence | Float[ArrayLike, " gen_edges"],
    reco_edges: Sequence | Float[ArrayLike, " reco_edges"],
) -> Response:
    r"""Return the response matrix of a problem and its binned data.

    .. math::
        R_{ji} = \frac{\sum_{e \in (j, i)} w^{reco}_e}{\sum_{e \in i} w^{gen}_e}

    Events beyond the edges of a level count as failing that level: truth outside is a fake, reco
    outside is missed. Differentiable in the weights.

    Args:
        problem: The inputs.
        gen_edges: Truth-level edges, or a list of them, one a column.
        reco_edges: Detector-level edges, or a list of them.

    Returns:
        The binned problem.

    Raises:
        InputError: If numbers of edges and columns differ, or a truth bin holds no events.

    Example:
        >>> import numpy as np
        >>> from difana.unfold import unfolding_problem
        >>> z = np.array([0.5, 0.5, 1.5, 1.5])
        >>> problem = unfolding_problem(z, z, z, pass_reco=np.array([True, False, True, True]))
        >>> response(problem, gen_edges=[0, 1, 2], reco_edges=[0, 1, 2]).matrix.tolist()
        [[0.5, 0.0], [0.0, 1.0]]
    """
    rows, columns = _edges(gen_edges, problem.gen, "gen"), _edges(reco_edges, problem.reco, "reco")
    truth, in_truth = _bins(problem.gen, rows)
    detector, in_detector = _bins(problem.reco, columns)
    in_truth, in_detector = in_truth & problem.pass_gen, in_detector & problem.pass_reco
    gen_size, reco_size = (int(np.prod([len(e) - 1 for e in x])) for x in (rows, columns))

    def fill(index: Array, weights: Array, size: int) -> Array:
        return segment_sums(weights, index, size)

    prior = fill(truth, jnp.where(in_truth, problem.gen_weights, 0.0), gen_size)
    if not isinstance(prior, Tracer) and np.any(np.asarray(prior) <= 0):
        raise InputError(
            f"truth bin {int(np.argmax(np.asarray(prior) <= 0))} holds no simulated yield: merge"
            " it with its neighbour"
        )
    squares = fill(truth, jnp.where(in_truth, problem.gen_weights**2, 0.0), gen_size)
    both = jnp.where(in_truth & in_detector, problem.reco_weights, 0.0)
    joint = fill(detector * gen_size + truth, both, reco_size * gen_size)
    fakes = jnp.where(in_detector & ~in_truth, problem.reco_weights, 0.0)

    def measured(events: Any, weights: Any) -> tuple[Array, Array]:
        if events is None:
            return jnp.zeros(reco_size, prior.dtype), jnp.zeros(reco_size, prior.dtype)
        index, inside = _bins(events, columns)
        kept = jnp.where(inside, weights, 0.0)
        return fill(index, kept, reco_size), fill(index, kept**2, reco_size)

    data, data_variances = measured(problem.data, problem.data_weights)
    bkg, bkg_variances = measured(problem.background, problem.background_weights)
    matrix = safe_divide(joint.reshape(reco_size, gen_size), prior[None, :])
    return Response(
        matrix, prior, fill(detector, fakes, reco_size), data, data_variances, bkg, bkg_variances,
        shown_edges(tuple(rows), tuple(jnp.asarray(row, float) for row in rows)),
        problem.names, squares,
    )  # fmt: skip


def _edges(edges: Any, events: Array, name: str) -> list[Array]:
    several = isinstance(edges, list | tuple) and len(edges) > 0 and np.ndim(edges[0]) == 1
    rows = [check_edges(row, name=f"{name}_edges", keep=True)
            for row in (edges if several else [edges])]  # fmt: skip
    columns = events.shape[1] if events.ndim == 2 else 0
    if len(rows) != columns:
        raise InputError(f"{len(rows)} arrays of {name}_edges for {columns} {name} columns")
    return rows


def _bins(events: Array, edges: Sequence[Array]) -> tuple[Array, Array]:
    """Return the flat bin of each event and whether it lies inside the edges."""
    index, inside = jnp.zeros(len(events), jnp.int32), jnp.ones(len(events), bool)
    events, edges = aligned(events, tuple(edges))
    events = jax.lax.stop_gradient(jnp.asarray(events))
    for axis, given in enumerate(edges):
        row, column = cast_edges(given, events.dtype), events[:, axis]
        found = jnp.searchsorted(row, column, side="right") - 1
        inside &= (column >= row[0]) & (column <= row[-1])
        index = index * (len(row) - 1) + jnp.clip(found, 0, len(row) - 2)
    return index, inside
