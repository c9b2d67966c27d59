"""The recipe of ``difana run``: efficient score and descent, beside cross-entropy."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def train_limit(one: Any, net: Any) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """Return the network and edges that the recipe chooses on validation events, and facts.

    Candidates: cross-entropy, the efficient score (both in searched bins), and the descent on the
    expected limit from the score.

    Args:
        one: The analysis of a seed and size, see ``run.Analysis``.
        net: The network of cross-entropy.
    """
    from difana.analysis import optimise

    found = optimise(
        *one.splits[:2],
        network=one.network,
        training=one.training,
        key=jax.random.fold_in(one.key, 1),
        parameters=one.parameters,
        progress_bar=False,
        baseline=net,
    )
    facts = {
        "validation": {own.name: round(float(np.exp(own.metric)), 5) for own in found.candidates},
        "candidates": {
            own.name: round(one.judged(own.net, own.edges, 2), 5) for own in found.candidates
        },
        "chosen": found.chosen,
        "status": found.status,
    }
    return found.net, np.asarray(found.edges), facts
