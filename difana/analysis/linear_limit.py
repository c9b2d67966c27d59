"""What a binning is worth to first order: microseconds a binning, for the search of bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from difana.analysis.interests import pois_of
from difana.data import is_signal
from difana.likelihood import Channel, HistoSys, NormFactor, NormSys, StatError

_FREE = 100.0  # variance of a free factor, in squares of its start: nothing is known of it
_QUANTILE = 1.959963984540054  # CLs at 95 %: half of the error probability lies above


class LinearLimit:
    r"""The expected limit of all binnings of a fine channel, with everything linear.

    The signal is estimated from bins b of which the others, the nuisances at one standard
    deviation, move by :math:`\delta_{kb}`:

    .. math::
        \sigma_\mu^{-2} = s^T C^{-1} s, \qquad
        C_{bc} = (b_b + \sigma_b^2)\,\delta_{bc} + \sum_k \delta_{kb} \delta_{kc},

    with :math:`\sigma_b` the statistical uncertainty of the simulation; the limit is
    :math:`1.96\,\sigma_\mu` (CLs). Sums over the cells of a bin, also those of the matrix, are
    differences of cumulative sums: a binning costs the same for any number of events and nuisances.

    Args:
        fine: The channel in fine cells; its bins are to be merged.
        others: Further channels, which constrain the nuisances, too.
        poi: Parameter of interest; what it multiplies is signal. Of several, each is profiled in
            the limits on the others, and the geometric mean of the limits counts.
        minimum: Effective simulated background events wanted in each bin; fewer cost
            :math:`(1 - n_b/n)^2`, as in `difana.losses.minimum_events`.

    Example:
        >>> from difana.likelihood import Template
        >>> s = Template(np.array([1.0, 3.0]), (NormFactor("mu"),), name="s")
        >>> b = Template(np.array([100.0, 100.0]), (NormSys(1.1, 1 / 1.1, "norm"),), name="b")
        >>> linear = LinearLimit(Channel((s, b), name="SR"), poi="mu")
        >>> one, two = np.exp(linear(np.array([[0, 2]]))), np.exp(linear(np.array([[0, 1, 2]])))
        >>> one.round(2).tolist(), two.round(2).tolist()
        ([11.63], [8.91])
    """

    def __init__(
        self,
        fine: Channel,
        others: Sequence[Channel] = (),
        *,
        poi: str | Sequence[str],
        minimum: float = 0.0,
    ) -> None:
        """Add up the cells."""
        self.size, self.minimum = len(np.asarray(fine.templates[0].values)), minimum
        signals, b, v, named = _cells((fine, *others), pois=pois_of(poi))
        s = np.stack([own for own in signals.values() if own.any()] or [np.zeros_like(b)])
        free = {m.name for c in (fine, *others) for t in c.templates for m in t.modifiers
                if isinstance(m, NormFactor)}  # fmt: skip
        moves = np.array([np.sqrt(_FREE if n in free else 1.0) * m for n, m in named.items()])
        moves = moves.reshape(len(named), len(b))
        self._rest = (s[:, self.size :].T, b[self.size :] + v[self.size :])
        self._signals = _summed(s[:, : self.size].T, axes=(0,))
        self._sums = [_summed(part[: self.size], axes=(0,)) for part in (b, v)]
        own, rest = moves[:, : self.size], moves[:, self.size :]
        self._inner = _summed(own.T @ own, axes=(0, 1))
        self._cross = _summed(own.T @ rest, axes=(0,))
        self._outer = rest.T @ rest
        self._least = 1e-12 * max(float(b.sum()), 1e-300)

    def sigmas(
        self, cuts: Int[np.ndarray, "trials edges"], *, simulation: bool = True
    ) -> Float[np.ndarray, "trials pois"]:
        """Return the uncertainties of the parameters of interest that move any cell.

        Args:
            cuts: Cells at which bins begin, from 0 to the number of cells.
            simulation: Count the statistical uncertainty of the simulation.
        """
        s, b, v = (np.diff(part[cuts], axis=1) for part in (self._signals, *self._sums))
        s = np.where((b > 0)[..., None], s, 0.0)  # a bin without simulated background says nothing
        inner = self._inner[cuts[:, :, None], cuts[:, None, :]]
        matrix = np.diff(np.diff(inner, axis=1), axis=2)
        variance = np.maximum(b + (v if simulation else 0.0), self._least)
        np.einsum("tbb->tb", matrix)[...] += variance
        if len(self._outer):
            cross = np.diff(self._cross[cuts], axis=1)
            other = self._outer + np.diag(np.maximum(self._rest[1], self._least))
            below = np.broadcast_to(other, (len(cuts), *other.shape))
            matrix = np.concatenate(
                [
                    np.concatenate([matrix, cross], axis=2),
                    np.concatenate([cross.transpose(0, 2, 1), below], axis=2),
                ],
                axis=1,
            )
            rest = np.broadcast_to(self._rest[0], (len(s), *self._rest[0].shape))
            s = np.concatenate([s, rest], axis=1)
        solved = np.linalg.solve(matrix, s)
        pois = range(s.shape[2])
        information = np.array(
            [[np.einsum("tb,tb->t", s[..., i], solved[..., j]) for j in pois] for i in pois]
        )
        if len(pois) == 1:
            return 1 / np.sqrt(np.maximum(information[0, 0], 1e-300))[:, None]
        tiny = 1e-12 * np.trace(information)[:, None, None] * np.eye(len(pois)) + 1e-300
        covariance = np.linalg.pinv(np.moveaxis(information, -1, 0) + tiny)
        return np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 1e-300))

    def sigma(
        self, cuts: Int[np.ndarray, "trials edges"], *, simulation: bool = True
    ) -> Float[np.ndarray, " trials"]:
        """Return the uncertainty of the leading parameter of interest."""
        return self.sigmas(cuts, simulation=simulation)[:, 0]

    def limit(self, cuts: Int[np.ndarray, "trials edges"]) -> Float[np.ndarray, " trials"]:
        """Return the expected limits, of several parameters of interest their geometric mean."""
        found = self.sigmas(cuts)
        mean = found[:, 0] if found.shape[1] == 1 else np.exp(np.mean(np.log(found), axis=1))
        return _QUANTILE * mean

    def poverty(self, cuts: Int[np.ndarray, "trials edges"]) -> Float[np.ndarray, " trials"]:
        """Return the penalty for bins of few simulated background events."""
        b, v = (np.diff(part[cuts], axis=1) for part in self._sums)
        some = v > 0
        effective = np.where(some, np.maximum(b, 0) ** 2 / np.where(some, v, 1.0), np.inf)
        effective = np.where((v > 0) | (b > 0), effective, 0.0)
        if not self.minimum:
            return np.zeros(len(cuts))
        return np.sum(np.maximum(1 - effective / self.minimum, 0) ** 2, axis=1)

    def __call__(self, cuts: Int[np.ndarray, "trials edges"]) -> Float[np.ndarray, " trials"]:
        """Return the logarithms of the limits, with the penalty for bins of few events."""
        return np.log(self.limit(cuts)) + self.poverty(cuts)

    def grow(self, most: int, *, start: Sequence[int] = ()) -> dict[int, tuple[int, ...]]:
        """Return good binnings with 2, 3, ... bins: the best edge is added, then all move.

        Args:
            most: Number of bins at which to end; fewer where the cells are used up.
            start: Inner cuts to start from.

        Returns:
            Inner cuts by number of bins.
        """
        cuts, found = tuple(start), {}
        while len(cuts) + 1 < min(most, self.size):
            cuts = self._settled(self._best_place(cuts))
            found[len(cuts) + 1] = cuts
        return found

    def full(self, cuts: Sequence[int]) -> Int[np.ndarray, "1 edges"]:
        """Return inner cuts with the ends, as `__call__` takes them."""
        return np.array([[0, *cuts, self.size]])

    def _best_place(self, others: Sequence[int]) -> tuple[int, ...]:
        """Return the cuts and the best further one."""
        places = np.setdiff1d(np.arange(1, self.size), others)
        ends = np.tile(np.array([0, *others, self.size]), (len(places), 1))
        trials = np.sort(np.concatenate([ends, places[:, None]], axis=1), axis=1)
        return tuple(map(int, trials[int(np.argmin(self(trials)))][1:-1]))

    def _settled(self, cuts: tuple[int, ...], sweeps: int = 2) -> tuple[int, ...]:
        """Move one edge after the other to its best place."""
        for _ in range(sweeps):
            before = cuts
            for i in range(len(cuts)):
                cuts = self._best_place((*cuts[:i], *cuts[i + 1 :]))
            if cuts == before:
                break
        return cuts


def linear_information(
    channels: Sequence[Channel], parameters: Sequence[str], *, poi: str | Sequence[str]
) -> Float[np.ndarray, "parameters parameters"]:
    r"""Return :math:`\sum_b \delta_{kb} \delta_{lb} / b_b`: what bins know without constraints.

    Args:
        channels: Channels.
        parameters: Names of the rows, the parameter of interest among them.
        poi: Parameter of interest.

    Example:
        >>> from difana.likelihood import Template
        >>> b = Template(np.array([100.0]), (NormSys(1.1, 1 / 1.1, "norm"),), name="b")
        >>> control = Channel((b,), name="CR")
        >>> linear_information([control], ["mu", "norm"], poi="mu").round(2).tolist()
        [[0.0, 0.0], [0.0, 0.91]]
    """
    if not channels:
        return np.zeros((len(parameters), len(parameters)))
    signals, b, _, moves = _cells(channels, pois=pois_of(poi))
    known = {**moves, **signals}
    rows = np.array([known.get(n, np.zeros_like(b)) for n in parameters])
    return (rows / np.where(b > 0, b, np.inf)) @ rows.T


def _cells(
    channels: Sequence[Channel], *, pois: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return signals, background, its variance, and what each nuisance moves it by."""
    ends = np.cumsum([0, *(len(np.asarray(c.templates[0].values)) for c in channels)])
    b, v = np.zeros(ends[-1]), np.zeros(ends[-1])
    signals = {name: np.zeros(ends[-1]) for name in pois}
    moves: dict[str, np.ndarray] = {}
    for channel, low, high in zip(channels, ends[:-1], ends[1:], strict=True):
        part = slice(low, high)
        for template in channel.templates:
            values = np.asarray(template.values, np.float64)
            if is_signal(template, pois):
                for name in pois:
                    if is_signal(template, name):
                        signals[name][part] += values
                continue
            b[part] += values
            for m in template.modifiers:
                if isinstance(m, StatError):
                    v[part] += np.asarray(m.uncertainty, np.float64) ** 2
                elif isinstance(m, HistoSys | NormSys | NormFactor):
                    move = moves.setdefault(m.name, np.zeros(ends[-1]))
                    move[part] += _move(m, values)
    return signals, b, v, moves


def _move(modifier: HistoSys | NormSys | NormFactor, values: np.ndarray) -> np.ndarray:
    """Return the change of yields by one standard deviation."""
    if isinstance(modifier, HistoSys):
        return (np.asarray(modifier.hi, np.float64) - np.asarray(modifier.lo, np.float64)) / 2
    if isinstance(modifier, NormSys):
        up, down = (float(np.asarray(side)) for side in (modifier.hi, modifier.lo))
        return values * (np.log(up / down) if min(up, down) > 0 else up - down) / 2
    return values


def _summed(cells: np.ndarray, *, axes: tuple[int, ...]) -> np.ndarray:
    """Return cumulative sums with a leading zero along some axes."""
    for axis in axes:
        cells = np.cumsum(cells, axis=axis)
        cells = np.concatenate([np.zeros_like(cells.take([0], axis)), cells], axis=axis)
    return cells
