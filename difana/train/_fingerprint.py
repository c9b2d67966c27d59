"""What must be equal for a checkpoint to be continued."""

from __future__ import annotations

import json
import zlib
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from difana._typing import PyTree
from difana.data.batches import BatchSampler, key_words
from difana.train.checkpoint import pack_leaves
from difana.train.step import TrainState


def fingerprint_of(
    options: dict[str, Any], state: TrainState, sampler: BatchSampler, *, key: PRNGKeyArray
) -> dict[str, Any]:
    """Return JSON values that describe the training: options, key, leaves, samples."""
    initial = 0
    for vector in pack_leaves(state.trained).values():
        initial = zlib.crc32(vector.tobytes(), initial)
    facts = {
        **options,
        "key": key_words(key),
        "samples": {
            sample.name: f"{len(sample.nominal)} events, yield "
            f"{np.sum(np.asarray(sample.nominal.weights, np.float64)):.9g}"
            for sample in sampler.samples
        },
        "trained": _shapes(state.trained),
        "optimizer": _shapes(state.optimizer),
        **({} if state.memory is None else {"memory": _shapes(state.memory)}),
        "checksum of the initial trainable": initial,
    }
    return json.loads(json.dumps(facts))


def _shapes(tree: PyTree) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
