"""No room but ``train`` has a training loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import difana

ROOT = Path(difana.__file__).parent
GRADIENTS = {"grad", "value_and_grad", "filter_grad", "filter_value_and_grad"}
OPTIMIZERS = {"optimizer", "optimiser", "opt", "tx", "adam", "sgd"}


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def training(tree: ast.AST) -> Iterator[str]:
    """Yield what looks like a training: updates of weights, gradients inside of a loop."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = name_of(node.func)
            owner = name_of(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if called == "apply_updates" or (called == "update" and owner.lower() in OPTIMIZERS):
                yield f"line {node.lineno}: {owner}.{called}"
        if isinstance(node, ast.For | ast.While):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Call) and name_of(inner.func) in GRADIENTS:
                    yield f"line {inner.lineno}: {name_of(inner.func)} in a loop"


def test_no_training_outside_of_train():
    found = {
        str(path.relative_to(ROOT)): marks
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] != "train"
        and (marks := list(training(ast.parse(path.read_text()))))
    }
    assert found == {}
    assert list(training(ast.parse((ROOT / "train" / "step.py").read_text())))


def test_loops_of_all_kinds_would_be_seen():
    loops = (
        "for x in rows:\n    value, slope = jax.value_and_grad(loss)(w)",
        "while True:\n    w = w - 0.1 * jax.grad(loss)(w)",
        "def step(w, s):\n    return optax.apply_updates(w, self.optimizer.update(g, s)[0])",
        "def body(state, _):\n    return eqx.apply_updates(state, updates)",
    )
    assert all(list(training(ast.parse(loop))) for loop in loops)
    assert not list(training(ast.parse("jax.grad(loss)(w)\nd.update(a=1)\nfor x in y:\n    f(x)")))
