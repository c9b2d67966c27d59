"""What the optimisation can be told; the defaults are the recipe that works."""

from __future__ import annotations

import dataclasses
from typing import Any

from difana.config import (
    EVENTS,
    EXPRESSION,
    MOST_STEPS,
    NUMBER,
    choice,
    filled,
    integer,
    key,
    number,
    numbers,
    or_code,
    or_word,
    plain_by_name,
)
from difana.losses import OBJECTIVES

NETWORKS = ("mlp", "deep_sets", "point_transformer")
ACTIVATIONS = ("elu", "gelu", "leaky_relu", "relu", "silu", "softplus", "tanh")

_WIDTH = integer(1, 100_000, "the weights would not fit into the memory")
_WIDTHS = numbers(_WIDTH, least=0, most=100, rule=", the widths of the layers")
_LATENT = integer(2, 10_000, "the weights would not fit into the memory")
_NOT_NEGATIVE = number(least=0.0)
BINS = integer(2, 1000, "each bin needs simulated events of its own")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutOptions:
    """A cut on the events of the trained region, whose value is trained.

    Attributes:
        variable: A feature, or an expression of branches that the network does not see.
        start: Its value at the start.
        side: What is kept: events ``above`` (and at) the value, or ``below``.
        width: Softness at the start of the training, in units of the variable; a tenth of its
            standard deviation if left out.
        where: File and line.
    """

    variable: str = key(kind=EXPRESSION)
    start: float = key(kind=NUMBER)
    side: str = key(kind=choice("above", "below"), default="above")
    width: float | None = key(kind=number(above=0.0), default=None)
    where: str = filled("Cuts", compare=False)

    def __str__(self) -> str:
        """Return variable and side."""
        return f"{self.variable} {self.side}"


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """The network of an analysis.

    Attributes:
        type: ``mlp`` for features; with particles ``deep_sets`` (if left out) or
            ``point_transformer``; or code of yours, ``module:name``.
        hidden: Widths of the hidden layers; not of a transformer.
        activation: Name of the activation function; not of a transformer.
        latent: Width of what a particle becomes.
        blocks: Attention blocks of a transformer.
        options: What code of yours is given, beside ``features``, ``outputs`` and ``key``.
        columns: How many of the features it sees, the first ones; None for all.
    """

    hidden: tuple[int, ...] = key(kind=_WIDTHS, default=(64, 64, 64))
    activation: str = key(kind=choice(*ACTIVATIONS), default="silu")
    latent: int = key(kind=_LATENT, default=64)
    blocks: int = key(kind=integer(1, 100, "the weights would not fit into the memory"), default=2)
    type: str | None = key(kind=or_code(choice(*NETWORKS)), default=None)
    options: tuple[tuple[str, Any], ...] = key(kind=plain_by_name("names"), default=())
    columns: int | None = filled(None)


@dataclasses.dataclass(frozen=True)
class ConstraintOptions:
    """Conditions that the trained observable has to obey; None asks for nothing.

    Attributes:
        minimum_background: Expected background events wanted in each bin of the trained region.
        nuisance_width: Smallest uncertainty that the fit may leave to a nuisance parameter, in
            units of the one before the fit.
        nuisances: Names of these parameters; those of all systematics if left out.
        closure: Largest relative difference between the background that the training sees (soft
            bins) and that of the analysis (hard bins), in each bin.
        damping: Stiffness of the quadratic term of the Lagrangian.
        rate: Learning rate of the multipliers.
    """

    minimum_background: float | None = None
    nuisance_width: float | None = key(kind=number(above=0.0, below=1.0), default=None)
    nuisances: tuple[str, ...] = ()
    closure: float | None = None
    damping: float = 1.0
    rate: float = 0.1

    @property
    def active(self) -> bool:
        """Whether anything is asked for."""
        asked = (self.minimum_background, self.nuisance_width, self.closure)
        return any(value is not None for value in asked)


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How the network is trained: to classify first, then on the objective.

    Attributes:
        objective: A name of the table `difana.losses.OBJECTIVES`; or code of yours,
            ``module:name``.
        objective_poi: Of several parameters of interest the one that is trained for; the sum of
            the objectives of all if left out.
        start: What the descent starts from: ``score``, the efficient score, or ``cross-entropy``.
        bins: Number of bins of the observable; ``auto``: as many as held-out events confirm.
        seed: Seed of the weights, the batches and the split.
        members: Networks of an ensemble, whose outputs are averaged.
        pretrain_steps: Steps on cross-entropy, and on the scores.
        pretrain_batch: Events of each sample in a batch there.
        pretrain_rate: Learning rate of Adam there; it falls to zero.
        search: Binnings that the search for the best edges may score.
        steps: Steps on the objective; 0 for no descent.
        batch: Events of each sample in a batch there; the larger, the less biased.
        rate: Learning rate of Adam for the weights there.
        edge_rate: Learning rate of Adam for the bin edges there.
        cut_rate: Learning rate of Adam for the values of ``Cuts`` there, in units of the standard
            deviation of their variables.
        cross_entropy: Weight of the cross-entropy in the loss there: a regulariser.
        bandwidth: Kernel width at the start and at the end, in units of the median bin width.
        minimum_events: Effective simulated background events wanted in each bin.
        penalty: Weight of the penalty for less.
        validate_every: Steps between validations on held-out events, in hard bins.
        patience: Validations without a new best after which training stops.
        second_observable: ``cross-entropy`` or a nuisance parameter, whose score is binned beside
            the efficient score: one more candidate, of two-dimensional bins; None for none.
        slices: Number of slices of the second observable.
        trees: Compare with boosted trees; needs XGBoost (the extra ``trees``).
        constraints: Conditions that the trained observable has to obey.
    """

    objective: str = key(kind=or_code(choice(*OBJECTIVES)), default="expected_limit")
    objective_poi: str | None = key(name="ObjectivePOI", default=None)
    start: str = key(kind=choice("score", "cross-entropy"), default="score")
    bins: int | str = key(kind=or_word("auto", BINS), default="auto")
    seed: int = filled(0)
    members: int = key(kind=integer(1, 100, "each is a training of its own"), default=1)
    pretrain_steps: int = 1500
    pretrain_batch: int = key(kind=EVENTS, default=4000)
    pretrain_rate: float = 2e-3
    search: int = key(kind=integer(1, 1_000_000), default=300)
    steps: int = key(kind=integer(0, MOST_STEPS), default=100)
    batch: int = key(kind=EVENTS, default=10_000)
    rate: float = 1e-4
    edge_rate: float = 5e-3
    cut_rate: float = 0.02
    cross_entropy: float = key(kind=_NOT_NEGATIVE, default=1.0)
    bandwidth: tuple[float, float] = (0.3, 0.1)
    minimum_events: float = key(kind=_NOT_NEGATIVE, default=10.0)
    penalty: float = key(kind=_NOT_NEGATIVE, default=1.0)
    validate_every: int = 10
    patience: int = 15
    second_observable: str | None = None
    slices: int = key(kind=integer(2, 100, "each slice needs bins of its own"), default=3)
    trees: bool = False
    constraints: ConstraintOptions = ConstraintOptions()
