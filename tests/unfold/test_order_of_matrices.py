"""Binned methods factorise one matrix after the other: two at once can hang two cores."""

from __future__ import annotations

from itertools import combinations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana.unfold import (
    bayes,
    compatibility,
    fit_truth,
    invert,
    response,
    unfolded_channel,
    unfolding_problem,
)

LAPACK = {"cholesky", "eigh", "lu", "qr", "svd", "triangular_solve"}
INLINED = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"}


def bodies(equation):
    """Return the programs inside an operation: of a loop, a branch, a call."""
    found = jax.tree.leaves(
        list(equation.params.values()), is_leaf=lambda p: hasattr(p, "jaxpr") or hasattr(p, "eqns")
    )
    return [getattr(p, "jaxpr", p) for p in found if hasattr(p, "jaxpr") or hasattr(p, "eqns")]


def factorises(equation):
    """Return whether an operation hands a batch of matrices to LAPACK."""
    if equation.primitive.name in LAPACK:
        return bool(np.prod(equation.invars[0].aval.shape[:-2]) > 1)
    return any(factorises(e) for body in bodies(equation) for e in body.eqns)


def side_by_side(jaxpr):
    """Return pairs of such operations of which neither waits for the other."""
    nodes = []

    def walk(jaxpr, inputs):
        before = dict(zip(jaxpr.invars, inputs, strict=True))

        def get(variable):
            return frozenset() if hasattr(variable, "val") else before.get(variable, frozenset())

        for equation in jaxpr.eqns:
            needed = [get(v) for v in equation.invars]
            if equation.primitive.name in INLINED:
                outputs = walk(bodies(equation)[0], needed)
            else:
                waits = frozenset().union(*needed)
                if factorises(equation):
                    nodes.append((equation.primitive.name, waits))
                    waits |= {len(nodes) - 1}
                outputs = [waits] * len(equation.outvars)
            before.update(zip(equation.outvars, outputs, strict=True))
        return [get(v) for v in jaxpr.outvars]

    walk(jaxpr, [frozenset()] * len(jaxpr.invars))
    return [(a, b) for (i, (a, _)), (_, (b, waits)) in combinations(enumerate(nodes), 2)
            if i not in waits]  # fmt: skip


@pytest.fixture(scope="module")
def binned():
    rng = np.random.default_rng(0)
    gen = rng.normal(size=500)
    reco = gen + rng.normal(0, 0.3, 500)
    return response(
        unfolding_problem(gen, reco, reco[:300]),
        gen_edges=np.linspace(-2, 2, 5), reco_edges=np.linspace(-2, 2, 9),
    )  # fmt: skip


METHODS = {
    "bayes": bayes,
    "invert": invert,
    "with a penalty": lambda r: invert(r, strength=0.1),
    "with a covariance": lambda r: invert(r, data_covariance=jnp.diag(r.data + 1)),
    "fit_truth": lambda r: fit_truth(r)[0],
    "compatibility": lambda r: compatibility(invert(r), r.prior),
    "unfolded_channel": lambda r: unfolded_channel(invert(r), [])[1],
}


@pytest.mark.parametrize("method", METHODS)
def test_toys_of_a_response(method, binned):
    numbers, rest = eqx.partition(binned, eqx.is_inexact_array)
    toys = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), numbers)

    def one(toy):
        return eqx.filter(METHODS[method](eqx.combine(toy, rest)), eqx.is_array)

    def total(toys):
        leaves = jax.tree.leaves(jax.vmap(one)(toys))
        return sum(jnp.sum(leaf) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact))

    assert not side_by_side(jax.make_jaxpr(jax.vmap(one))(toys).jaxpr)
    if method in ("bayes", "invert", "with a penalty"):
        assert not side_by_side(jax.make_jaxpr(jax.grad(total))(toys).jaxpr)


def test_what_stands_side_by_side_is_found():
    rows = jnp.stack([jnp.eye(3)] * 4)
    root = jnp.linalg.cholesky
    both = jax.make_jaxpr(lambda a, b: root(a) + root(b))(rows, rows)
    assert side_by_side(both.jaxpr) == [("cholesky", "cholesky")]
    assert not side_by_side(jax.make_jaxpr(lambda a, b: root(root(a) + b))(rows, rows).jaxpr)
