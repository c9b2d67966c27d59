"""The model behind every likelihood loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from jaxtyping import Array, Float

from difana._typing import Network
from difana.data import Sample
from difana.hist import Shares
from difana.likelihood import (
    Channel,
    Model,
    Parameter,
    TemplateSums,
    build_model,
    channel_from_events,
)


class ModelOptions(TypedDict, total=False):
    """What :func:`model_of` takes besides bins and sums, and whatever is made of its models."""

    poi: str
    channel: str
    others: Sequence[Channel]
    parameters: Sequence[Parameter]
    staterror: bool
    relative: bool
    chunk: int | None


def model_of(
    net: Network,
    batch: Sequence[Sample],
    *,
    edges: Float[Array, " edges"] | Shares,
    bandwidth: Float[Array, ""] | float | None,
    poi: str = "mu",
    channel: str = "SR",
    others: Sequence[Channel] = (),
    parameters: Sequence[Parameter] = (),
    staterror: bool = True,
    relative: bool = False,
    chunk: int | None = None,
    values: TemplateSums | None = None,
) -> Model:
    """Return the model of a batch: the trained channel first, then the fixed ones.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        batch: Samples that stand for the full yields.
        edges: Bin edges in units of the first observable, or a binning of one's own.
        bandwidth: Kernel width of the soft histogram; None for hard bins.
        poi: Name of the parameter of interest.
        channel: Name of the trained channel.
        others: Further, fixed channels.
        parameters: Settings of parameters, as in ``build_model``.
        staterror: Include the statistical uncertainty of the simulation.
        relative: The bandwidth is in units of the width of each bin.
        chunk: Events handled at once; None for all.
        values: Sums of the full sample, see ``full_sample_sums``.
    """
    trained = channel_from_events(
        net,
        batch,
        edges=edges,
        bandwidth=bandwidth,
        name=channel,
        staterror=staterror,
        relative=relative,
        chunk=chunk,
        values=values,
    )
    return build_model((trained, *others), poi=poi, parameters=parameters)
