"""The observable that keeps the information on a signal when nuisance parameters are profiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network, PyTree
from difana.analysis.linear_limit import linear_information
from difana.analysis.score_information import inverse_of, joint_information
from difana.data import Sample
from difana.likelihood import Channel, Parameter
from difana.losses import ScorePlan
from difana.losses.classify.efficient_score import version
from difana.nn import MeanOf

_LEAST, _MOST = -20.0, 10.0  # logarithms of signal over background beyond are not believed


class EfficientScore(eqx.Module):
    r"""A network of log ratios, read as the efficient score of the parameters of interest.

    With the scores of all parameters at the reference point,

    .. math::
        t_\mu(x) = \frac{\lambda_s}{\lambda_b + \mu_0 \lambda_s}, \qquad
        t_k(x) = \tfrac12 \ln\frac{\lambda(x; +1_k)}{\lambda(x; -1_k)}, \qquad
        I = \sum_\text{events} w\, t\, t^T + \mathrm{diag}(0, 1, \dots, 1),

    the efficient score is the score of :math:`\mu` minus its projection on those of the nuisances:

    .. math:: e_\mu(x) = \sum_k \frac{(I^{-1})_{\mu k}}{(I^{-1})_{\mu\mu}}\, t_k(x).

    It keeps, to first order in :math:`\mu` and the nuisances, all the information on :math:`\mu`
    that is left when the nuisances are profiled. Called, it returns
    :math:`\operatorname{arcsinh}(c\, e_\mu)`, one column a parameter of interest: monotonic, and of
    one scale in the bulk and in the tail.

    Attributes:
        nets: The networks; the mean of their outputs counts.
        offsets: Logarithms of the ratios of the yields, ``[outputs]``.
        rates: Half the logarithm of the factors at +1 and -1 of the parameters that only scale,
            ``[scaled, processes]``, background processes first, then one column a signal.
        mix: Rows of the inverse information, normalised, ``[pois, parameters]``.
        scale: The factor in the arcsinh, ``[pois]``.
        information: The matrix I, ``[parameters, parameters]``.
        plan: What each output means (static).
    """

    nets: tuple[Network, ...]
    offsets: Float[np.ndarray, " outputs"]
    rates: Float[np.ndarray, "scaled processes"]
    mix: Float[np.ndarray, "pois parameters"]
    scale: Float[np.ndarray, " pois"]
    information: Float[np.ndarray, "parameters parameters"]
    plan: ScorePlan = eqx.field(static=True)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the scores."""
        return (*self.plan.pois, *self.plan.nuisances)

    @property
    def uncertainties(self) -> Float[np.ndarray, " pois"]:
        """Expected uncertainties of the parameters of interest without any binning, ``[pois]``."""
        covariance = np.linalg.inv(np.asarray(self.information, np.float64))
        return np.sqrt(np.diag(covariance)[: len(self.plan.pois)])

    def outputs(self, inputs: PyTree) -> Float[Array, "events outputs"]:
        """Return the mean outputs of the networks; the first is a logit of signal."""
        return MeanOf(self.nets)(inputs)

    def logits(self, inputs: PyTree) -> Float[Array, "events outputs"]:
        """Return the mean outputs of the networks with the ratios of the yields put in."""
        mean = self.outputs(inputs)
        return mean + jax.lax.stop_gradient(jnp.asarray(self.offsets, mean.dtype))

    def scores(self, inputs: PyTree) -> Float[Array, "events parameters"]:
        """Return the scores of all parameters."""
        signal, processes, weighted, moved = self.plan.split(self.logits(inputs))
        ratio = jnp.exp(jnp.clip(signal, _LEAST, _MOST))
        total = 1 + self.plan.strength * jnp.sum(ratio, axis=-1, keepdims=True)
        fractions = jax.nn.softmax(processes, axis=-1) if self.plan.processes else 1.0
        fractions = jnp.concatenate(
            [jnp.broadcast_to(fractions / total, (total.shape[0], self._backgrounds)),
             self.plan.strength * ratio / total], axis=-1
        )  # fmt: skip
        scaled = fractions @ jax.lax.stop_gradient(jnp.asarray(self.rates, total.dtype)).T
        return jnp.concatenate([ratio / total, weighted / 2, moved / 2, scaled], axis=-1)

    def __call__(self, inputs: PyTree) -> Float[Array, "events pois"]:
        """Return the observable, one column a parameter of interest."""
        scores = self.scores(inputs)
        mix = jax.lax.stop_gradient(jnp.asarray(self.mix, scores.dtype))
        scale = jax.lax.stop_gradient(jnp.asarray(self.scale, scores.dtype))
        return jnp.arcsinh(scale * (scores @ mix.T))

    @property
    def _backgrounds(self) -> int:
        return max(len(self.plan.processes), 1)


def efficient_score_of(
    nets: Network | Sequence[Network],
    samples: Sequence[Sample],
    *,
    plan: ScorePlan,
    parameters: Sequence[Parameter] = (),
) -> EfficientScore:
    """Return the efficient score from networks trained with `difana.losses.efficient_score`.

    Args:
        nets: One network, or those of an ensemble.
        samples: Events, each sample standing for its full yield, that give the ratios of the
            yields and the information; not those of the test split.
        plan: The plan of the training.
        parameters: Settings, as in ``build_model``: a nuisance may be free (``constraint="none"``),
            fixed, or have another width than one.

    Raises:
        InputError: If a yield is not positive, or the information has no inverse: two parameters
            do the same.

    Example:
        >>> from difana.data import Events, Normalisation
        >>> x = jnp.linspace(-3, 3, 2000)[:, None]
        >>> def gauss(mean): return Events(x, jnp.exp(-((x[:, 0] - mean) ** 2) / 2))
        >>> lumi = Normalisation(up=1.1, down=1 / 1.1, name="lumi")
        >>> samples = [Sample(gauss(1.0), name="s", normfactors=("mu",)),
        ...            Sample(gauss(0.0), (lumi,), name="b")]
        >>> exact = efficient_score_of(lambda x: x - 0.5, samples, plan=ScorePlan.of(samples))
        >>> exact.parameters, exact(x).shape
        (('mu', 'lumi'), (2000, 1))
    """
    raw = dataclasses.replace(
        blank_score(nets, plan), offsets=_offsets(samples, plan), rates=_rates(samples, plan)
    )
    names, matrix = joint_information([raw], [samples], parameters)
    covariance = inverse_of(matrix, names)
    number = len(plan.pois)
    mix = covariance[:number] / np.diag(covariance)[:number, None]
    yields = {s.name: _total(s.nominal.weights) for s in samples}
    background = sum(yields[s.name] for s in plan.background(samples))
    scale = [
        background / sum(yields[s.name] for s in samples if poi in s.normfactors)
        for poi in plan.pois
    ]
    return dataclasses.replace(raw, mix=mix, scale=np.array(scale), information=matrix)


def blank_score(nets: Network | Sequence[Network], plan: ScorePlan) -> EfficientScore:
    """Return an efficient score of which only the networks mean something, to be filled.

    Args:
        nets: One network, or those of an ensemble.
        plan: What each output means.
    """
    size, pois = len(plan.pois) + len(plan.nuisances), len(plan.pois)
    return EfficientScore(
        (nets,) if callable(nets) else tuple(nets),
        offsets=np.zeros(plan.outputs),
        rates=np.zeros((len(plan.scaled), max(len(plan.processes), 1) + pois)),
        mix=np.zeros((pois, size)),
        scale=np.ones(pois),
        information=np.zeros((size, size)),
        plan=plan,
    )


def jointly(
    scores: Sequence[EfficientScore],
    samples: Sequence[Sequence[Sample]],
    parameters: Sequence[Parameter] = (),
) -> tuple[EfficientScore, ...]:
    """Return the efficient scores of several regions that are fitted together.

    Their information is the sum over the regions; its inverse, over the parameters of all, mixes
    the scores of each: a nuisance that one measures costs the others nothing.

    Args:
        scores: The scores of the regions, each made of its own events.
        samples: Events of each region that give its information; not those of the test split.
        parameters: Settings, as in `efficient_score_of`.

    Raises:
        InputError: If the information has no inverse.
    """
    if len(scores) == 1:
        return tuple(scores)
    names, matrix = joint_information(scores, samples, parameters)
    covariance = inverse_of(matrix, names)
    found = []
    for score in scores:
        own = [names.index(name) for name in score.parameters]
        pois = own[: len(score.plan.pois)]
        mix = covariance[np.ix_(pois, own)] / np.diag(covariance)[pois][:, None]
        found.append(dataclasses.replace(score, mix=mix))
    return tuple(found)


def unbinned_uncertainty(
    scores: Sequence[EfficientScore],
    samples: Sequence[Sequence[Sample]],
    others: Sequence[Channel] = (),
    *,
    parameters: Sequence[Parameter] = (),
    poi: str | None = None,
) -> float:
    """Return the uncertainty of a parameter of interest without bins, to first order.

    Args:
        scores: The observables of the trained regions.
        samples: Events of each that give the information; those of the test split for a fair
            comparison.
        others: Further channels, which constrain the nuisances, too.
        parameters: Settings, as in `efficient_score_of`.
        poi: The parameter; the first one if left out.
    """
    names, matrix = joint_information(scores, samples, parameters)
    pois = dict.fromkeys(name for score in scores for name in score.plan.pois)
    matrix += linear_information(others, names, poi=tuple(pois))
    place = 0 if poi is None else names.index(poi)
    return float(np.sqrt(np.linalg.inv(matrix)[place, place]))


def _total(weights: Any) -> float:
    return float(np.sum(np.asarray(weights, np.float64)))


def _side(sample: Sample, name: str, side: int) -> float:
    """Return the yield at +1 (side 0) or -1 (side 1) of one nuisance parameter."""
    return _total(version(sample, name, side).weights)


def _offsets(samples: Sequence[Sample], plan: ScorePlan) -> Float[np.ndarray, " outputs"]:
    """Return the logarithms of the ratios of the yields that the classes were normalised by."""
    background = plan.background(samples)
    total = sum(_total(s.nominal.weights) for s in background)
    ratios = [
        sum(_total(s.nominal.weights) for s in samples if poi in s.normfactors) / total
        for poi in plan.pois
    ]
    by_name = {s.name: _total(s.nominal.weights) for s in background}
    ratios += [by_name[name] for name in plan.processes]
    for name in (*plan.weighted, *plan.moved):
        up, down = (
            sum(f * _side(s, name, side) for s, f in plan.reference(samples)) for side in (0, 1)
        )
        ratios.append(up / down)
    if not (np.isfinite(ratios).all() and np.min(ratios) > 0):
        raise InputError("a yield is not positive: scores are logarithms of ratios of yields")
    return np.log(ratios)


def _rates(samples: Sequence[Sample], plan: ScorePlan) -> Float[np.ndarray, "scaled processes"]:
    """Return what each scaling parameter does to the logarithm of the yield of each process."""
    background = plan.background(samples)
    groups = [[s] for s in background] if plan.processes else [background]
    groups += [[s for s in samples if poi in s.normfactors] for poi in plan.pois]
    rates = np.zeros((len(plan.scaled), len(groups)))
    for k, name in enumerate(plan.scaled):
        for p, group in enumerate(groups):
            logs = [
                1.0
                if name in s.normfactors
                else 0.5 * np.log(_side(s, name, 0) / _side(s, name, 1))
                for s in group
            ]
            rates[k, p] = np.average(logs, weights=[_total(s.nominal.weights) for s in group])
    return rates
