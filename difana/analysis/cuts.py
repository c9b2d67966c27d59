"""Cuts whose values are trained: soft ones in the training, hard ones in the templates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from difana._errors import InputError
from difana._typing import Network, PyTree
from difana.analysis.options import CutOptions
from difana.data import Given, Sample, ShiftedEvents, features_of, is_signal
from difana.hist import soft_cut

_SOFT = 0.1  # width of a cut at the start of the training, in units of the spread of its variable


class WithCuts(eqx.Module):
    r"""A network behind cuts: an observable of events that pass, and what decides on that.

    The weight of an event is multiplied by

    .. math:: c(x) = \prod_j \sigma\left(\pm\frac{x_j - t_j}{h_j}\right)
              \quad\text{or, hard,}\quad \prod_j \Theta(\pm(x_j - t_j)),

    with the inputs as each variation moves them, so that systematics move events across the cut.

    Attributes:
        net: The network; its outputs are those of all events.
        thresholds: Values of the cuts, in units of their variables, ``[cuts]``.
        columns: Columns of the variables among the features (static).
        sides: What each keeps: ``above`` (and at) its value, or ``below`` (static).

    Example:
        >>> net = WithCuts(lambda x: x, jnp.array([1.0]), columns=(0,), sides=("above",))
        >>> net.kept(jnp.array([[0.5], [1.0], [2.0]])).tolist()
        [0.0, 1.0, 1.0]
        >>> net.kept(jnp.array([[0.5], [1.0], [2.0]]), widths=[0.5]).round(2).tolist()
        [0.27, 0.5, 0.88]
    """

    net: Network
    thresholds: Float[Array | np.ndarray, " cuts"]
    columns: tuple[int, ...] = eqx.field(static=True)
    sides: tuple[Any, ...] = eqx.field(static=True)

    def __call__(self, inputs: PyTree) -> Float[Array, "events outputs"]:
        """Return the outputs of the network."""
        return self.net(inputs)

    def kept(
        self, inputs: Given, *, widths: Sequence[Any] | None = None
    ) -> Float[Array, " events"]:
        """Return what is kept of each event: 0 or 1, or with widths something between."""
        features = features_of(inputs)
        found = jnp.ones(features.shape[0], features.dtype)
        for i, (column, side) in enumerate(zip(self.columns, self.sides, strict=True)):
            x = features[:, column]
            value = jnp.asarray(self.thresholds[i], x.dtype)
            if widths is None:
                own = (x >= value if side == "above" else x < value).astype(x.dtype)
            else:
                own = soft_cut(x, value, slope=jnp.asarray(1 / widths[i], x.dtype), keep=side)
            found = found * own
        return found


@dataclasses.dataclass(frozen=True)
class CutScales:
    """The units of the training of cuts.

    Attributes:
        widths: Softness at the start, in units of the variables.
        spreads: Standard deviations of the variables; values move in units of these.
    """

    widths: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()


def behind_cuts(net: Network, cuts: Sequence[CutOptions], columns: Sequence[str]) -> Network:
    """Return a network behind cuts at their starting values; as it is if there are none.

    Args:
        net: The network.
        cuts: The cuts.
        columns: Names of the features.
    """
    if not cuts:
        return net
    places = tuple(list(columns).index(cut.variable) for cut in cuts)
    starts = jnp.asarray([cut.start for cut in cuts], jnp.float32)
    return WithCuts(net, starts, columns=places, sides=tuple(cut.side for cut in cuts))


def uncut(net: Network) -> Network:
    """Return the network without its cuts."""
    return net.net if isinstance(net, WithCuts) else net


def values_of(net: Network) -> tuple[float, ...]:
    """Return the values of the cuts of a network; none where there are none."""
    if not isinstance(net, WithCuts):
        return ()
    return tuple(float(value) for value in np.asarray(net.thresholds))


def cut_scales(cuts: Sequence[CutOptions], samples: Sequence[Sample]) -> CutScales:
    """Return the units in which cuts are trained; every sample counts the same.

    Args:
        cuts: The cuts.
        samples: Training samples.

    Raises:
        InputError: If a variable has one value only, or the cuts let no signal or no background
            pass at their starting values.
    """
    columns = samples[0].nominal.columns
    spreads = []
    for cut in cuts:
        place = columns.index(cut.variable)
        parts = [np.asarray(sample.nominal.features[:, place], np.float64) for sample in samples]
        mean = np.mean([part.mean() for part in parts])
        spread = float(np.sqrt(np.mean([np.mean((part - mean) ** 2) for part in parts])))
        if not spread > 0:
            raise InputError(f"{cut.where}: the cut variable '{cut.variable}' is {mean:g} in all "
                             "events: it cuts nothing")  # fmt: skip
        spreads.append(spread)
    widths = [cut.width or _SOFT * own for cut, own in zip(cuts, spreads, strict=True)]
    return CutScales(tuple(widths), tuple(spreads))


def check_starts(
    net: Network, cuts: Sequence[CutOptions], samples: Sequence[Sample], *, pois: Sequence[str]
) -> None:
    """Refuse cuts that let no signal, or no background, pass where they start.

    Args:
        net: A network behind the cuts.
        cuts: The cuts.
        samples: Training samples.
        pois: Parameters of interest; what one of them multiplies is signal.

    Raises:
        InputError: Names the cuts and what is lost.
    """
    for what in ("signal", "background") if cuts else ():
        signal = [any(is_signal(s, poi) for poi in pois) for s in samples]
        own = [s.nominal for s, is_it in zip(samples, signal, strict=True)
               if is_it == (what == "signal")]  # fmt: skip
        if not any(passing(net, events.inputs).any() for events in own):
            listed = ", ".join(f"{cut.variable} {cut.side} {cut.start:g}" for cut in cuts)
            raise InputError(
                f"{cuts[0].where}: no event of the {what} passes the cuts at their Start "
                f"({listed}): choose another Start or Side"
            )


def passing(net: Network, inputs: Given) -> Bool[np.ndarray, " events"]:
    """Return which events pass the cuts of a network; all where it has none."""
    if not isinstance(net, WithCuts):
        return np.ones(features_of(inputs).shape[0], bool)
    return np.asarray(_kept(net.thresholds, net.columns, net.sides, inputs)) > 0


@eqx.filter_jit
def _kept(thresholds: Any, columns: tuple[int, ...], sides: tuple[str, ...], inputs: Any) -> Array:
    return WithCuts(_nothing, thresholds, columns, sides).kept(inputs)


def _nothing(inputs: PyTree) -> Any:
    return inputs


def cut_samples(
    net: Network, samples: Sequence[Sample], *, widths: Sequence[Any] | None = None
) -> tuple[Sample, ...]:
    """Return the samples with the weights that the cuts of a network leave to their events.

    Each variation is cut where it moves the events to; normalisations stay what they are. Inside
    ``jit`` differentiable in the values of the cuts, if there are widths.

    Args:
        net: A network; one without cuts leaves the samples as they are.
        samples: The samples.
        widths: Softness of each cut; None for hard cuts.

    Example:
        >>> from difana.data import Events
        >>> net = WithCuts(lambda x: x, jnp.array([1.0]), columns=(0,), sides=("below",))
        >>> sample = Sample(Events(jnp.array([[0.5], [1.5]]), jnp.ones(2)), name="s")
        >>> cut_samples(net, [sample])[0].nominal.weights.tolist()
        [1.0, 0.0]
    """
    if not isinstance(net, WithCuts):
        return tuple(samples)

    def kept(inputs: Given, weights: Array) -> Array:
        share = net.kept(inputs, widths=widths)
        return weights * share.astype(weights.dtype)

    found = []
    for sample in samples:
        nominal, variations = sample.nominal, []
        for variation in sample.variations:
            rows = variation.variants(nominal)
            if not rows:
                variations.append(variation)
            elif all(row.sees(nominal) for row in rows):
                own = variation.mapped(lambda _, events: events,
                                       lambda _, w, x=nominal.inputs: kept(x, w))  # fmt: skip
                variations.append(own)
            else:
                inputs = [row.inputs for row in rows]
                up, down = (
                    row.events.with_inputs(x).with_weights(kept(x, row.weights))
                    for row, x in zip(rows, inputs, strict=True)
                )
                variations.append(ShiftedEvents(up=up, down=down, name=variation.name))
        weights = kept(nominal.inputs, nominal.weights)
        found.append(dataclasses.replace(
            sample, nominal=nominal.with_weights(weights), variations=tuple(variations)
        ))  # fmt: skip
    return tuple(found)


def labels_of(net: Network) -> Any:
    """Return which optimiser moves which part of a network: ``net``, or ``cuts``."""
    if not isinstance(net, WithCuts):
        return "net"
    labels: Any = ("net", "cuts")
    return eqx.tree_at(lambda own: (own.net, own.thresholds), net, labels)


def in_units_of(scales: Sequence[CutScales], updates: PyTree) -> PyTree:
    """Return the updates of the values of cuts of all regions, in units of their spreads."""
    leaves, structure = jax.tree.flatten(updates)
    pairs = zip(leaves, [own.spreads for own in scales], strict=True)
    moved = [own * np.asarray(spreads).astype(own.dtype) for own, spreads in pairs]
    return jax.tree.unflatten(structure, moved)
