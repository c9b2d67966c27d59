"""Whether a network is given the same kind of inputs by all events of an analysis."""

from __future__ import annotations

from collections.abc import Sequence

from difana._errors import InputError
from difana.data.events import Events
from difana.data.samples import Sample


def check_inputs(samples: Sequence[Sample]) -> None:
    """Check that the network is given the same kind of inputs by all samples and variations.

    Only shapes and names are read, so it costs nothing and works inside ``jit``.

    Raises:
        InputError: If particles are missing in one of them, or features, particles or channels
            differ in number or in name. Names the sample.
    """
    tables = [
        (f"sample '{sample.name}'{where}", events)
        for sample in samples
        for where, events in (
            ("", sample.nominal),
            *(
                (f", variation '{variation.name}' {side}", events)
                for variation in sample.variations
                for side, events in variation.tables().items()
            ),
        )
    ]
    (first, wanted), *others = tables
    for where, events in others:
        for what, mine, theirs in (
            ("consists of", _kind(events), _kind(wanted)),
            ("has the columns", events.columns, wanted.columns),
            ("has the particle channels", events.particle_columns, wanted.particle_columns),
        ):
            if mine and theirs and mine != theirs:
                raise InputError(
                    f"{where} {what} {_said(mine)}, {first} {_said(theirs)}: a network is given "
                    "the same by all; read all with the same columns, particles and max_particles"
                )


def _kind(events: Events) -> str:
    features = f"{events.features.shape[-1]} features"
    if events.particles is None:
        return f"{features} without particles"
    particles, channels = events.particles.shape[-2:]
    return f"{features} and {particles} particles of {channels} channels"


def _said(value: object) -> str:
    return value if isinstance(value, str) else str(list(value))  # type: ignore[call-overload]
