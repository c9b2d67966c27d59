"""The cross-entropies that teach a network the scores of all parameters of an analysis."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from difana._errors import ConfigError, InputError, nearest
from difana._numerics import safe_divide
from difana._options import whole_number
from difana._typing import Network
from difana.data import Given, Sample, Variant, is_signal, joined
from difana.losses.step import Step


@dataclasses.dataclass(frozen=True)
class ScorePlan:
    r"""Which output of a network learns what.

    The outputs are, in this order: one for each parameter of interest (its signal against the
    other processes), one for each background process if some parameter only scales processes
    (then their fractions are enough), one for each nuisance parameter that changes shapes.

    Attributes:
        pois: Parameters of interest.
        processes: Processes whose fractions are learned; empty if nobody needs them.
        weighted: Nuisance parameters that change weights only.
        moved: Nuisance parameters that move events: another pass of the network for each side.
        scaled: Nuisance parameters and free factors that only scale processes.
        strength: Signal strength at which the scores are taken: 0 for limits, 1 for measurements.
    """

    pois: tuple[str, ...]
    processes: tuple[str, ...]
    weighted: tuple[str, ...]
    moved: tuple[str, ...]
    scaled: tuple[str, ...]
    strength: float = 0.0

    @classmethod
    def of(
        cls, samples: Sequence[Sample], *, pois: Sequence[str] = ("mu",), strength: float = 0.0
    ) -> ScorePlan:
        """Return the plan for samples with their variations and free factors.

        Raises:
            ConfigError: If a parameter of interest scales nothing, or the strength is negative.
            InputError: If there is no background.

        Example:
            >>> from difana.data import Events, Normalisation, Transformation
            >>> events = Events(jnp.ones((2, 1)), jnp.ones(2))
            >>> scale = Transformation(function=lambda x, alpha: x + alpha, name="scale")
            >>> lumi = Normalisation(up=1.1, down=0.9, name="lumi")
            >>> samples = [Sample(events, name="s", normfactors=("mu",)),
            ...            Sample(events, (scale, lumi), name="b")]
            >>> plan = ScorePlan.of(samples)
            >>> plan.moved, plan.scaled, plan.outputs
            (('scale',), ('lumi',), 2)
        """
        pois = tuple(pois)
        if isinstance(strength, bool) or not 0 <= strength < float("inf"):
            raise ConfigError(f"strength = {strength}: the scores are taken at 0 or above, e.g. 1")
        factors = tuple(dict.fromkeys(name for s in samples for name in s.normfactors))
        for poi in pois:
            if poi not in factors:
                raise ConfigError(f"no sample has the free factor '{poi}'.{nearest(poi, factors)}")
        background = _background(samples, pois)
        if not background:
            raise InputError(
                f"all samples are signal ({', '.join(pois)}): scores need a background"
            )
        # at zero strength the signal and its uncertainties do not enter
        seen = samples if strength > 0 else background
        variations = [v for sample in seen for v in sample.variations]
        names = tuple(dict.fromkeys(v.name for v in variations))
        moving = {v.name for v in variations if v.moves or v.tables()}
        weighing = {v.name for v in variations if v.factors() is None} - moving
        moved = tuple(n for n in names if n in moving)
        weighted = tuple(n for n in names if n in weighing)
        free = {f for s in seen for f in s.normfactors if f not in pois}
        scaled = tuple(n for n in (*names, *sorted(free)) if n not in moved and n not in weighted)
        processes = tuple(s.name for s in background) if scaled and len(background) > 1 else ()
        return cls(pois, processes, weighted, moved, tuple(dict.fromkeys(scaled)), float(strength))

    @property
    def nuisances(self) -> tuple[str, ...]:
        """Names of all parameters that are profiled, in the order of the scores."""
        return (*self.weighted, *self.moved, *self.scaled)

    @property
    def outputs(self) -> int:
        """Number of outputs the network must have."""
        first = len(self.pois) + len(self.processes)
        return first + len(self.weighted) + len(self.moved)

    def background(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples that no parameter of interest scales."""
        return _background(samples, self.pois)

    def reference(self, samples: Sequence[Sample]) -> list[tuple[Sample, float]]:
        """Return what is there where the scores are taken, with the factor on its weights."""
        background = self.background(samples)
        factors = [1.0 if any(s is b for b in background) else self.strength for s in samples]
        return [(s, f) for s, f in zip(samples, factors, strict=True) if f > 0]

    def split(self, outputs: Float[Array, "events outputs"]) -> tuple[Array, Array, Array, Array]:
        """Return the outputs for signals, processes, weighted and moved nuisances."""
        ends = [len(self.pois), len(self.pois) + len(self.processes)]
        ends.append(ends[-1] + len(self.weighted))
        return tuple(jnp.split(outputs, ends, axis=-1))  # pyright: ignore[reportReturnType]


def _background(samples: Sequence[Sample], pois: Sequence[str]) -> list[Sample]:
    return [s for s in samples if not any(is_signal(s, poi) for poi in pois)]


def efficient_score(
    net: Network,
    batch: Sequence[Sample],
    step: Step | None = None,
    *,
    plan: ScorePlan,
    per_step: int | None = 4,
    process_weight: float = 0.1,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the sum of the cross-entropies whose optimum are the scores of all parameters.

    .. math::
        L = \sum_j H(S_j, B) + w_p H_\mathrm{processes}
            + \sum_k H(\lambda_{+1_k}, \lambda_{-1_k})

    :math:`H` is the balanced cross-entropy of two classes of events, each normalised to one: the
    signal of each parameter of interest against the background; the background processes among
    each other; all processes at +1 against all processes at -1 standard deviation of each
    nuisance parameter that changes shapes. At the optimum output *k* is the logarithm of the ratio
    of the normalised densities; with the logarithm of the ratio of the yields added and halved it
    is the score :math:`t_k = \partial \ln\lambda / \partial\alpha_k` to second order in the size
    of the variation. `difana.analysis.EfficientScore` makes the observable of them.

    Nuisances that change weights cost no pass of the network. Of those that move events,
    ``per_step`` are drawn at each step (their terms count accordingly more), one after the other
    in a loop that is recomputed in the reverse pass: neither memory nor graph grow with them.

    Args:
        net: Any callable PyTree with ``plan.outputs`` outputs.
        batch: Samples that stand for their full yields.
        step: Index and key of the step; None (validation) takes all nuisances.
        plan: Which output learns what.
        per_step: Moved nuisances at each step; None for all of them.
        process_weight: Weight of the term of the processes. They often are easy to tell apart, and
            would take the capacity of the network from what the limit depends on.

    Returns:
        The loss, and its parts ``{"signal", "processes", "nuisances"}`` (means over the outputs).

    Raises:
        InputError: If the network has another number of outputs.

    Reference: the efficient score of semiparametric statistics; INFERNO (arXiv:1806.04743) for
    the role of the profiled Fisher information.

    Example:
        >>> from difana.data import Events, WeightVariation
        >>> events = Events(jnp.zeros((4, 1)), jnp.ones(4))
        >>> shape = WeightVariation(name="shape", up=jnp.full(4, 1.1), down=jnp.full(4, 0.9))
        >>> batch = (Sample(events, name="s", normfactors=("mu",)),
        ...          Sample(events, (shape,), name="b"))
        >>> plan = ScorePlan.of(batch)
        >>> loss, parts = efficient_score(lambda x: jnp.zeros((len(x), 2)), batch, plan=plan)
        >>> round(float(loss), 4), round(float(parts["signal"]), 4)  # ln 2 each
        (1.3863, 0.6931)
    """
    events = [sample.nominal.inputs for sample in batch]
    sizes = [len(sample.nominal) for sample in batch]
    found = net(joined(events))
    if found.ndim != 2 or found.shape[1] != plan.outputs:
        raise InputError(
            f"the network gives {found.shape}: the plan needs {plan.outputs} outputs an event"
        )
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    outputs = dict(zip((s.name for s in batch), jnp.split(found, ends), strict=True))
    background = plan.background(batch)
    signal = jnp.stack(_signal_terms(outputs, batch, background, plan))
    parts = {"signal": signal}
    if plan.processes:
        parts["processes"] = _process_term(outputs, background, plan)[None]
    reference = plan.reference(batch)
    nuisances = []
    if plan.weighted:
        nuisances.append(_weighted_terms(outputs, reference, plan))
    if plan.moved:
        nuisances.append(_moved_terms(net, outputs, reference, step, plan, per_step))
    if nuisances:
        parts["nuisances"] = jnp.concatenate(nuisances)
    factors = {"processes": process_weight}
    value = sum(factors.get(name, 1.0) * jnp.sum(part) for name, part in parts.items())
    return jnp.asarray(value), {name: jnp.mean(part) for name, part in parts.items()}


def _entropy(up: tuple[Array, Array], down: tuple[Array, Array]) -> Float[Array, "*outputs"]:
    """Return the balanced cross-entropy of logits ``[events, ...]`` with weights alike."""
    found = 0.0
    for sign, (logits, weights) in ((-1.0, up), (1.0, down)):
        weights = jnp.broadcast_to(weights, logits.shape).astype(logits.dtype)
        loss = jnp.sum(weights * jax.nn.softplus(sign * logits), axis=0)
        found = found + 0.5 * safe_divide(loss, jnp.sum(weights, axis=0))
    return jnp.asarray(found)


def _signal_terms(outputs: dict, batch: Sequence, background: Sequence, plan: ScorePlan) -> list:
    terms = []
    for j, poi in enumerate(plan.pois):
        own = [s for s in batch if is_signal(s, poi)]
        sides = [
            (
                jnp.concatenate([outputs[s.name][:, j] for s in side]),
                jnp.concatenate([s.nominal.weights for s in side]),
            )
            for side in (own, background)
        ]
        terms.append(_entropy(*sides))
    return terms


def _process_term(outputs: dict, background: Sequence[Sample], plan: ScorePlan) -> Array:
    total = 0.0
    for i, sample in enumerate(background):
        logits = plan.split(outputs[sample.name])[1]
        logs = jax.nn.log_softmax(logits, axis=-1)[:, i]
        weights = sample.nominal.weights.astype(logs.dtype)
        total = total - safe_divide(jnp.sum(weights * logs), jnp.sum(weights))
    return jnp.asarray(total) / len(background)


def version(sample: Sample, name: str, side: int) -> Variant:
    """Return the events of a sample at +1 (side 0) or -1 (side 1) of one nuisance parameter.

    Where several variations have the name, their effects on the weights multiply.

    Example:
        >>> from difana.data import Events, Normalisation
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2))
        >>> norm = Normalisation(up=1.5, down=0.5, name="norm")
        >>> version(Sample(events, (norm,), name="b"), "norm", 1).weights.tolist()
        [0.5, 0.5]
    """
    nominal = sample.nominal
    found = Variant(name, (1.0, -1.0)[side], nominal, nominal.weights)
    factor = 1.0
    for variation in sample.variations:
        if variation.name != name:
            continue
        factors = variation.factors()
        if factors is not None:
            factor = factor * factors[side]
            continue
        own = variation.variants(nominal)[side]
        if own.sees(nominal):
            factor = factor * safe_divide(own.weights, nominal.weights, fill=1.0)
        else:
            found = own
    return found._replace(weights=found.weights * factor)


def _weighted_terms(outputs: dict, reference: Sequence, plan: ScorePlan) -> Array:
    """Return the terms of all weight nuisances at once: the network is not asked again."""
    logits = jnp.concatenate([plan.split(outputs[s.name])[2] for s, _ in reference])
    sides = []
    for side in (0, 1):
        columns = [
            jnp.concatenate([f * version(s, name, side).weights for s, f in reference])
            for name in plan.weighted
        ]
        sides.append((logits, jnp.stack(columns, axis=-1)))
    return _entropy(*sides)


def _moved_terms(
    net: Network,
    outputs: dict,
    reference: Sequence[tuple[Sample, float]],
    step: Step | None,
    plan: ScorePlan,
    per_step: int | None,
) -> Float[Array, " nuisances"]:
    """Return the terms of the nuisances that move events, each scaled by its chance to be drawn."""
    number = len(plan.moved)
    per_step = number if per_step is None else min(whole_number("per_step", per_step), number)
    if step is None or per_step == number:
        chosen, factor = jnp.arange(number), 1.0
    else:
        chosen = jax.random.permutation(step.key, number)[:per_step]
        factor = number / per_step
    longest = max(
        sum(len(version(s, name, side).weights) for s, _ in reference)
        for name in plan.moved
        for side in (0, 1)
    )
    branches = [
        partial(_moved_events, reference=reference, name=name, longest=longest)
        for name in plan.moved
    ]

    @partial(jax.checkpoint, prevent_cse=False)
    def term(index: Int[Array, ""]) -> Array:
        sides = lax.switch(index, branches) if number > 1 else branches[0]()
        found = []
        for inputs, weights in sides:
            logits = plan.split(net(inputs))[3]
            found.append((jnp.take(logits, index, axis=-1), weights))
        return _entropy(*found)

    return factor * lax.map(term, chosen)


def _moved_events(
    *, reference: Sequence[tuple[Sample, float]], name: str, longest: int
) -> list[tuple[Given, Array]]:
    """Return inputs and weights of all processes at +1 and at -1, filled up with weight zero."""
    sides: list[tuple[Given, Array]] = []
    for side in (0, 1):
        versions = [version(sample, name, side) for sample, _ in reference]
        inputs = joined([v.inputs for v in versions])
        weights = jnp.concatenate(
            [factor * v.weights for v, (_, factor) in zip(versions, reference, strict=True)]
        )
        missing = (0, longest - len(weights))
        filled = jax.tree.map(
            lambda leaf, n=missing: jnp.pad(leaf, [n] + [(0, 0)] * (leaf.ndim - 1), mode="edge"),
            inputs,
        )
        sides.append((filled, jnp.pad(weights, missing)))
    return sides
