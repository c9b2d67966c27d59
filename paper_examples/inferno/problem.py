"""The benchmarks of INFERNO: nuisances, events, and the uncertainty from hard bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from difana.data import Sample
from difana.data.generate import inferno
from difana.infer import profile_interval
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    Parameter,
    Template,
    build_model,
    channel_from_logits,
)

SIGNAL = 50.0
"""Expected signal events: mu = 1."""

STEPS = {"r": 0.2, "lambda": 0.5}
"""Units of the nuisances: distance of the templates."""


class Benchmark(NamedTuple):
    """Which nuisances there are, and how they are constrained.

    Attributes:
        nuisances: Names among r, lambda, b.
        widths: Width of the constraint in units of the parameter; None for a free one.
    """

    nuisances: tuple[str, ...]
    widths: dict[str, float | None]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Settings for the model: the widths in units of the templates."""
        return tuple(
            Parameter(name, constraint="none")
            if self.widths[name] is None
            else Parameter(name, sigma=self.widths[name] / STEPS[name])
            for name in self.nuisances
            if name in STEPS
        )


_WIDTHS = {"r": 0.4, "lambda": 1.0, "b": 100.0}
BENCHMARKS = {
    "B0": Benchmark((), {}),
    "B1": Benchmark(("r",), {"r": None}),
    "B2": Benchmark(("r", "lambda"), {"r": None, "lambda": None}),
    "B3": Benchmark(("r", "lambda"), _WIDTHS),
    "B4": Benchmark(("r", "lambda", "b"), _WIDTHS),
}


def generate(key: jax.Array, *, events: int) -> tuple[Sample, Sample]:
    """Return all nuisances in units of the templates, in float32."""
    samples = inferno(
        key=key, events=events, shift=STEPS["r"], rate=STEPS["lambda"], normalisation=0.1
    )
    return jax.tree.map(lambda x: x.astype(jnp.float32), samples)


def select(samples: Sequence[Sample], benchmark: str) -> tuple[Sample, ...]:
    """Return the samples with the nuisances of one benchmark."""
    names = BENCHMARKS[benchmark].nuisances
    return tuple(
        Sample(
            sample.nominal,
            tuple(v for v in sample.variations if v.name in names),
            name=sample.name,
            normfactors=sample.normfactors,
        )
        for sample in samples
    )


class Binned(eqx.Module):
    """A score in bins: the largest output is the bin of an event.

    Attributes:
        net: The score, ``[events, features] -> [events, 1]``.
        edges: Edges of the bins; the outer ones do not matter.
    """

    net: Callable
    edges: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return 1 for the bin of each event and 0 for the others."""
        score, inside = self.net(x)[:, 0], self.edges[1:-1]
        place = jnp.searchsorted(inside.astype(score.dtype), score, side="right")
        return jax.nn.one_hot(place, len(inside) + 1)


@eqx.filter_jit
def _counts(nets: Callable, samples: tuple[Sample, ...]) -> list[jax.Array]:
    def one(net: Callable) -> list[jax.Array]:
        channel = channel_from_logits(net, samples, temperature=None, staterror=False)
        signal, background = channel.templates
        shapes = [m for m in background.modifiers if isinstance(m, HistoSys)]
        sides = [side for m in shapes for side in (m.hi, m.lo)]
        return [signal.values, background.values, *sides]

    return eqx.filter_vmap(one)(nets)


def templates(
    nets: Sequence[Callable], samples: Sequence[Sample], *, chunk: int = 10_000
) -> np.ndarray:
    """Return hard yields of every network, ``[nets, templates, bins]``.

    Templates: signal, background, and background with r and lambda up and down.
    """
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves) if eqx.is_array_like(leaves[0]) else leaves[0], *nets
    )
    events = len(samples[0].nominal)
    total: np.ndarray | float = 0.0
    for start in range(0, events - chunk + 1, chunk):
        part = jax.tree.map(
            lambda x, a=start: x[a : a + chunk] if np.ndim(x) else x, tuple(samples)
        )
        total = total + np.stack(_counts(stacked, part), axis=1)
    return total / (events // chunk) * (events / chunk)


def model_of(yields: np.ndarray, benchmark: str):
    """Return the model of one network's templates: quadratic between them, linear beyond."""
    signal, background, *sides = yields
    shapes = {
        name: HistoSys(up, down, name)
        for name, up, down in zip(STEPS, sides[::2], sides[1::2], strict=True)
    }
    kinds = {**shapes, "b": NormSys(1.1, 0.9, "b")}
    setting = BENCHMARKS[benchmark]
    modifiers = tuple(kinds[name] for name in setting.nuisances)
    kept = signal + background > 0  # a bin that no event reaches says nothing
    channel = Channel(
        (
            Template(signal, (NormFactor("mu"),), name="signal"),
            Template(background, modifiers, name="background"),
        ),
        name="SR",
    )
    channel = jax.tree.map(lambda x: np.asarray(x)[kept] if np.ndim(x) else x, channel)
    return build_model(
        [channel], parameters=setting.parameters, interpolation={"histosys": "code2"}
    )


def uncertainty(yields: np.ndarray, benchmark: str) -> float:
    """Return sigma(s): half the width of the profiled likelihood at a rise of 1/2."""
    model = model_of(yields, benchmark)
    found = profile_interval(model, model.expected(model.init), "mu", level=0.682689492137086)
    if not found.ok:
        raise RuntimeError(f"{benchmark}: {found.message}")
    return SIGNAL * float(found.upper - found.lower) / 2
