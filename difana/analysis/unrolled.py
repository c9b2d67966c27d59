"""Two observables binned together: slices of the second one, in each the first one."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ConfigError
from difana._typing import PyTree
from difana.analysis.efficient_score import EfficientScore
from difana.analysis.templates import in_chunks
from difana.data import Sample
from difana.losses import ScorePlan

CLASSIFIER = "cross-entropy"
_GAP = 1.0  # between slices, in units of the arcsinh of the score


class Unrolled(eqx.Module):
    r"""The efficient score in slices of a second observable, as one number.

    With the efficient score :math:`e \in [e_0, e_1]` (folded in at the ends) and the slice
    :math:`k = 0, 1, \dots` in which the second observable lies,

    .. math:: z = e - e_0 + k\, (e_1 - e_0 + 1),

    so that bins of :math:`z` are two-dimensional bins: each slice has edges of its own. A slice
    where a nuisance parameter does most constrains it in the same fit.

    Attributes:
        score: The efficient score.
        cuts: Boundaries of the slices, in the second observable, ``[slices - 1]``.
        ends: :math:`e_0` and :math:`e_1`.
        second: The second observable: ``cross-entropy``, or the parameter whose score it is
            (static).
    """

    score: EfficientScore
    cuts: Float[np.ndarray, " cuts"]
    ends: Float[np.ndarray, "2"]
    second: str = eqx.field(static=True)

    @property
    def breaks(self) -> Float[np.ndarray, " cuts"]:
        """Where a new slice begins, in the unrolled observable."""
        low, high = np.asarray(self.ends, float)
        return (high - low + _GAP) * (1 + np.arange(len(self.cuts))) - _GAP / 2

    def __call__(self, inputs: PyTree) -> Float[Array, "events 1"]:
        """Return the unrolled observable."""
        first = self.score(inputs)[:, 0]
        low, high = (jnp.asarray(end, first.dtype) for end in self.ends)
        second = second_observable(self.score, inputs, self.second)
        slices = jnp.searchsorted(jnp.asarray(self.cuts, first.dtype), second).astype(first.dtype)
        unrolled = jnp.clip(first, low, high) - low + slices * (high - low + _GAP)
        return unrolled[:, None]


def second_observable(score: EfficientScore, inputs: PyTree, name: str) -> Float[Array, " events"]:
    """Return the logit of signal, or the score of one nuisance parameter."""
    if name == CLASSIFIER:
        return score.outputs(inputs)[:, 0]
    return score.scores(inputs)[:, score.parameters.index(name)]


def check_second(name: str, plan: ScorePlan) -> None:
    """Refuse a second observable that the efficient score does not know.

    Raises:
        ConfigError: If it is neither ``cross-entropy`` nor a nuisance parameter.

    Example:
        >>> check_second("jes", ScorePlan(("mu",), (), (), ("jes",), (), 0.0))
    """
    if name not in (CLASSIFIER, *plan.nuisances):
        known = ", ".join((CLASSIFIER, *plan.nuisances))
        raise ConfigError(f"no second observable '{name}': there are {known}")


def unroll(
    score: EfficientScore, samples: Sequence[Sample], *, second: str, slices: int
) -> Unrolled:
    """Return the efficient score in slices of equal background of a second observable.

    Args:
        score: The efficient score.
        samples: Events that give the slices; not those of the test split.
        second: ``cross-entropy``, or a nuisance parameter.
        slices: Number of slices.

    Raises:
        ConfigError: If there is no such observable, or it has too few distinct values.
    """
    check_second(second, score.plan)

    @eqx.filter_jit
    def both(inputs: PyTree) -> Array:
        own = second_observable(score, inputs, second)
        return jnp.stack([score(inputs)[:, 0], own], axis=1)

    seen = {s.name: in_chunks(both, s.nominal.inputs) for s in samples}
    background = score.plan.background(samples)
    x = np.concatenate([seen[s.name][:, 1] for s in background])
    weights = np.concatenate([np.asarray(s.nominal.weights, float) for s in background])
    order = np.argsort(x)
    share = np.cumsum(np.maximum(weights[order], 0.0))
    places = np.searchsorted(share, share[-1] * np.arange(1, slices) / slices)
    cuts = np.unique(x[order][places].astype(np.float32))
    if len(cuts) < slices - 1:
        raise ConfigError(
            f"'{second}' has too few distinct values for {slices} slices: ask for fewer (Slices), "
            "or choose another second observable"
        )
    first = np.concatenate([own[:, 0] for own in seen.values()])
    ends = np.array([first.min(), first.max()], np.float32)
    return Unrolled(score, cuts, ends, second)
