"""A flow with fast samples that does what one with fast densities has learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from difana._errors import InputError
from difana._options import real_number
from difana.flows._body import Stack
from difana.flows.fit import FlowResult, clipped
from difana.flows.flow import Flow
from difana.train import Step, Training, Weighted, train_rows


def distil(
    teacher: Flow,
    given: Any = None,
    *,
    key: PRNGKeyArray,
    number: int = 20_000,
    hidden: Sequence[int] | None = None,
    balance: float = 0.5,
    training: Training = Training(),
    progress_bar: bool = False,
) -> FlowResult:
    r"""Return an inverse autoregressive flow that maps the same noise to the same events.

    .. math::
        L = \beta \left\langle |g_s(z) - g_t(z)|^2 \right\rangle +
        (1 - \beta) \left\langle |f_s(g_t(z)) - z|^2 \right\rangle

    with :math:`g` from noise to standardised columns, :math:`f` its inverse, t the teacher, s the
    student: a draw then costs one pass instead of one a column. No events are needed, and the
    teacher is asked once.

    Args:
        teacher: An autoregressive flow.
        given: Conditions of which it is asked, ``number`` rows or fewer, which then are repeated;
            None for a flow without.
        key: Random key.
        number: Draws of the teacher.
        hidden: Widths of the student's conditioners; None: those of the teacher.
        balance: :math:`\beta`.
        training: Options of the training.
        progress_bar: Show a bar.

    Returns:
        The student; its loss is the mean squared distance, in standard deviations.

    Raises:
        InputError: If the teacher is no autoregressive flow.

    References:
        arXiv:2110.11377 (CaloFlow II: the losses of x and z), arXiv:1711.10433.
    """
    real_number("balance", balance, least=0, most=1)
    body = teacher.body
    if not isinstance(body, Stack) or body.recipe.kind != "autoregressive":
        raise InputError("the teacher is no autoregressive flow: only its samples are slow")
    key_noise, key_net, key_fit = jax.random.split(key, 3)
    # the layers of an inverse flow act in the other order: so does each of its columns
    recipe = dataclasses.replace(
        body.recipe, kind="inverse_autoregressive",
        hidden=body.recipe.hidden if hidden is None else tuple(hidden),
    )  # fmt: skip
    student = eqx.tree_at(lambda flow: flow.body, teacher, recipe.make(key_net))
    noise = jax.random.normal(key_noise, (number, recipe.dims), jnp.float32)
    noise = body.from_normal(noise)
    prepared = teacher.context.prepared(given, number)
    prepared = jax.tree.map(lambda leaf: jnp.resize(leaf, (number, *leaf.shape[1:])), prepared)
    context = teacher.context.encoded(prepared).astype(jnp.float32)
    values = eqx.filter_jit(lambda one, z, c: one.inverse(z, c))(body, noise, context)

    def loss(flow: Flow, batch: Weighted, step: Step) -> tuple[Array, dict]:
        z, x, c = batch.rows
        near = jnp.sum((flow.body.inverse(z, c) - x) ** 2, axis=1)
        back = jnp.sum((flow.body.forward(x, c)[0] - z) ** 2, axis=1)
        each = balance * near + (1 - balance) * back
        return jnp.sum(batch.weights * each) / jnp.sum(batch.weights), {}

    marked = eqx.tree_at(
        lambda flow: flow.body, jax.tree.map(lambda _: False, student), student.trained().body
    )
    found = train_rows(
        loss, student, (noise, values, context), key=key_fit, training=training, transform=clipped,
        trained=marked, stage="student", progress_bar=progress_bar,
    )  # fmt: skip
    return FlowResult(found.trainable, jnp.asarray(found.best_metric), found)
