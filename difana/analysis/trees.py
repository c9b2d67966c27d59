"""Boosted decision trees: what an analysis would use without networks, for comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from difana._errors import InputError
from difana.analysis.templates import ObservedSample, observe_by
from difana.data import Inputs, Sample, check_inputs, is_signal

TREES = "boosted trees, best bins"
FILE = "trees.json"
_ROUNDS, _PATIENCE = 2000, 50
_SETTINGS = {
    "tree_method": "hist",
    "max_depth": 4,
    "eta": 0.1,
    "base_score": 0.0,
    "nthread": 1,  # sums in one order: a run that is repeated gives the same bytes
    "verbosity": 0,
    "disable_default_eval_metric": True,
}


@dataclasses.dataclass(frozen=True)
class BoostedTrees:
    """Trained trees; no derivatives, so they are never the observable of an analysis.

    Attributes:
        text: The trees in the JSON format of XGBoost: numbers, no code.
        rounds: Their number.
        held_out: Balanced cross-entropy on held-out events.
        edges: Bin edges; empty where there are none.
        status: ``ok``, or why there are no bins.
    """

    text: str
    rounds: int
    held_out: float
    edges: tuple[float, ...] = ()
    status: str = "ok"

    def __call__(self, features: Float[ArrayLike, "events features"]) -> np.ndarray:
        """Return the logits ``[events]`` of features.

        Raises:
            InputError: If the trees cannot be read, or were made for other features.
        """
        xgboost = _xgboost()
        try:
            booster = xgboost.Booster(model_file=bytearray(self.text.encode()))
            return booster.predict(_matrix(features), output_margin=True)
        except xgboost.core.XGBoostError as error:
            said = str(error).strip().splitlines()[-1]
            raise InputError(f"the boosted trees cannot be applied: {said}") from error


def check_trees(samples: Sequence[Sample]) -> None:
    """Refuse to train trees where that cannot work, before anything else is trained.

    Raises:
        InputError: If XGBoost is not installed, or there are no features.
    """
    _xgboost()
    if not samples or np.shape(samples[0].nominal.features)[1] == 0:
        raise InputError("boosted trees (Training: Trees) need Features: they see no particles")


def train_trees(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    poi: str | Sequence[str] = "mu",
    seed: int = 0,
) -> BoostedTrees:
    r"""Train gradient-boosted trees on the cross-entropy of nominal events.

    Both classes count the same, as for networks (`difana.losses.cross_entropy`). Leaves are found
    by Newton steps with the gradient :math:`w (\sigma(f) - y)` and the curvature
    :math:`|w| \sigma(f)(1 - \sigma(f))`: negative weights enter with their sign where the optimum
    is decided, and no step turns uphill. The number of trees is the best one on held-out events.

    Args:
        train: Samples to train on, each standing for its full yield; of particles, features alone.
        validation: Held-out samples.
        poi: What it multiplies is signal.
        seed: Seed of XGBoost.

    Raises:
        InputError: If XGBoost is not installed, there are no features, or signal or background has
            no positive sum of weights.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("xgboost")
        >>> import jax.numpy as jnp
        >>> from difana.data import Events
        >>> def sample(name, x, **kwargs):
        ...     return Sample(Events(jnp.full((40, 1), x), jnp.ones(40)), name=name, **kwargs)
        >>> both = [sample("s", 1.0, normfactors=("mu",)), sample("b", -1.0)]
        >>> found = train_trees(both, both)
        >>> signal, background = found(np.array([[1.0], [-1.0]]))
        >>> bool(signal > 3 and background < -3)
        True
    """
    check_trees(train)
    xgboost = _xgboost()
    for part in (train, validation):
        check_inputs(part)
    fitted, held_out = (_Classes(part, poi) for part in (train, validation))
    booster = xgboost.train(
        {**_SETTINGS, "seed": seed},
        _matrix(fitted.features),
        num_boost_round=_ROUNDS,
        obj=lambda margin, _: fitted.derivatives(margin),
        evals=[(_matrix(held_out.features), "validation")],
        custom_metric=lambda margin, _: ("entropy", held_out.entropy(margin)),
        early_stopping_rounds=_PATIENCE,
        verbose_eval=False,
    )
    rounds = booster.best_iteration + 1
    text = booster[:rounds].save_raw("json").decode()
    return BoostedTrees(text, rounds, float(booster.best_score))


def observe_trees(trees: BoostedTrees, samples: Sequence[Sample]) -> tuple[ObservedSample, ...]:
    """Return what the trees make of the samples and of all their variations."""

    def scores(parts: Sequence[Any]) -> np.ndarray:
        own = [part.features if isinstance(part, Inputs) else part for part in parts]
        return trees(np.concatenate(own))

    return observe_by(scores, samples)


class _Classes:
    """Nominal events of two classes, both with the same sum of weights."""

    def __init__(self, samples: Sequence[Sample], poi: str | Sequence[str]) -> None:
        self.features = np.concatenate([np.asarray(s.nominal.features) for s in samples])
        sizes = [len(s.nominal) for s in samples]
        self.signal = np.repeat([is_signal(s, poi) for s in samples], sizes)
        self.weights = np.concatenate([np.asarray(s.nominal.weights, float) for s in samples])
        for name, own in (("signal", self.signal), ("background", ~self.signal)):
            total = float(self.weights[own].sum())
            if not total > 0:
                raise InputError(
                    f"boosted trees: the weights of the {name} add up to {total:.6g}; both classes "
                    f"need events of positive yield (signal has the free factor '{poi}')"
                )
            self.weights[own] *= 0.5 * len(self.weights) / total

    def derivatives(self, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and a bound on the curvature by event."""
        p = 0.5 * (1 + np.tanh(0.5 * np.asarray(margin, float)))
        return self.weights * (p - self.signal), np.abs(self.weights) * p * (1 - p)

    def entropy(self, margin: np.ndarray) -> float:
        """Return the balanced cross-entropy of logits."""
        terms = np.logaddexp(0.0, np.where(self.signal, -margin, margin).astype(float))
        return float(np.mean(self.weights * terms))


def _matrix(features: Float[ArrayLike, "events features"]) -> Any:
    return _xgboost().DMatrix(np.asarray(features, np.float32))


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        text = "XGBoost is not installed: pip install 'difana[trees]', or leave out Training: Trees"
        raise InputError(text) from error
    return xgboost
