"""The model behind every likelihood loss."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
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
    """Return the model of a batch: the trained channel first, then the fixed ones."""
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


def status_aux(value: Array, status: Array) -> dict[str, Array]:
    """Return what every likelihood loss reports beside its value."""
    return {"value": value, "status": jnp.asarray(status)}
