"""A flow whose weights have a distribution: the density gets an error bar."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana._options import real_number, whole_number
from difana._typing import PyTree
from difana.flows.fit import checked_rows, clipped, mapped_rows
from difana.flows.flow import Flow
from difana.flows.protocol import AbstractFlow
from difana.flows.replicas import FlowReplicas
from difana.train import AbstractOneTraining, Step, Training, TrainResult, Weighted, train_rows


class BayesianFlow(AbstractFlow):
    r"""Independent normal distributions of all trained weights; made by ``fit_bayesian_flow``.

    Attributes:
        mean: The flow with the mean weights.
        log_spread: Logarithms of the standard deviations, a leaf for each trained one.
    """

    mean: Flow
    log_spread: PyTree

    def draw(self, key: PRNGKeyArray) -> Flow:
        """Return a flow with weights drawn from their distribution; differentiable."""
        means, rest = eqx.partition(self.mean, self.mean.trained())
        leaves, structure = jax.tree.flatten(means)
        drawn = [
            m + jnp.exp(s) * jax.random.normal(one, m.shape, m.dtype)
            for m, s, one in zip(
                leaves, jax.tree.leaves(self.log_spread), jax.random.split(key, len(leaves)),
                strict=True,
            )
        ]  # fmt: skip
        return eqx.combine(jax.tree.unflatten(structure, drawn), rest)

    def draws(self, *, key: PRNGKeyArray, number: int = 20) -> FlowReplicas:
        """Return so many flows; the spread of ``each`` is the error of the density."""
        keys = jax.random.split(key, whole_number("number", number, least=2))
        own = jax.vmap(lambda one: eqx.filter(self.draw(one), self.mean.trained()))(keys)
        return FlowReplicas(eqx.combine(own, eqx.filter(self.mean, self.mean.trained(),
                                                        inverse=True)))  # fmt: skip

    def log_prob(
        self, x: Float[Array, "events dims"], given: Any = None
    ) -> Float[Array, " events"]:
        r"""Return :math:`\ln p(x \mid c)` with the mean weights."""
        return self.mean.log_prob(x, given)

    def sample(
        self, given: Any = None, *, key: PRNGKeyArray, samples: int = 1
    ) -> Float[Array, "*rows dims"]:
        """Return draws with the mean weights; those of all weights are of ``draws``."""
        return self.mean.sample(given, key=key, samples=samples)

    def divergence(self, prior: float) -> Float[Array, ""]:
        r"""Return the Kullback-Leibler divergence from normal weights of width ``prior``.

        .. math::
            \sum_j \ln\frac{\sigma_0}{\sigma_j} + \frac{\sigma_j^2 + m_j^2}{2 \sigma_0^2} -
            \frac12
        """
        means = jax.tree.leaves(eqx.filter(self.mean, self.mean.trained()))
        parts = [
            jnp.sum((jnp.exp(2 * s) + m * m) / (2 * prior**2) - s + float(np.log(prior)) - 0.5)
            for m, s in zip(means, jax.tree.leaves(self.log_spread), strict=True)
        ]
        return jnp.sum(jnp.stack(parts))


class BayesianFlowResult(AbstractOneTraining):
    """A trained Bayesian flow.

    Attributes:
        flow: The flow.
        loss: Lowest held-out loss.
        training: The record of the training.
    """

    flow: BayesianFlow
    loss: Float[Array, ""]
    training: TrainResult


def fit_bayesian_flow(
    flow: Flow,
    x: Float[Array, "events dims"],
    given: Any = None,
    *,
    key: PRNGKeyArray,
    weights: Float[Array, " events"] | None = None,
    training: Training = Training(),
    prior: float = 1.0,
    spread: float = 1e-2,
    progress_bar: bool = False,
) -> BayesianFlowResult:
    r"""Return the distribution of the weights of a flow that explains the events best.

    .. math::
        L = -\frac{\sum_i w_i \ln p_\theta(x_i \mid c_i)}{\sum_i w_i} +
        \frac{1}{N} \mathrm{KL}\big[q(\theta), N(0, \sigma_0)\big], \qquad \theta \sim q

    the negative evidence bound an event, with :math:`N` the effective number of events and new
    weights drawn in each step.

    Args:
        flow: Where the means start, e.g. a trained flow.
        x: Values, ``[events, dims]``.
        given: Contexts, as the flow was made for.
        key: Random key.
        weights: Weights of the events, none negative.
        training: Options of the training.
        prior: Width :math:`\sigma_0` of the weights before the events are seen.
        spread: Standard deviation of the weights at the start.
        progress_bar: Show a bar.

    Returns:
        The flow.

    Raises:
        ConfigError: If an option makes no sense.
        InputError: As ``fit_flow``, and for negative weights.

    References:
        arXiv:2104.04543 (Bayesian INN of events).
    """
    real_number("prior", prior, above=0)
    real_number("spread", spread, above=0)
    values, context, w = checked_rows(x, given, weights)
    if (w < 0).any():
        raise InputError("negative weights: they have no likelihood, of which a posterior could be")
    rows, _ = mapped_rows(flow, values, context, key)
    number = float(w.sum() ** 2 / (w * w).sum())
    means = eqx.filter(flow, flow.trained())
    start = BayesianFlow(flow, jax.tree.map(lambda m: jnp.full_like(m, np.log(spread)), means))

    def loss(one: BayesianFlow, batch: Weighted, step: Step) -> tuple[Array, dict]:
        drawn = one.draw(jax.random.fold_in(step.key, 1))
        mapped, prepared = batch.rows
        each = drawn.losses(mapped, prepared, step.key)
        data = jnp.sum(batch.weights * each) / jnp.sum(batch.weights)
        return data + one.divergence(prior) / number, {}

    found = train_rows(
        loss, start, rows, key=key, weights=w.astype(np.float32), training=training,
        transform=clipped, stage="Bayesian flow", progress_bar=progress_bar,
        trained=eqx.tree_at(
            lambda one: (one.mean, one.log_spread), jax.tree.map(lambda _: False, start),
            (flow.trained(), jax.tree.map(lambda _: True, start.log_spread)),
        ),
    )  # fmt: skip
    return BayesianFlowResult(found.trainable, jnp.asarray(found.best_metric), found)
