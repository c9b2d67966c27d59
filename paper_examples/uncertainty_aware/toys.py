"""Coverage of the profiled intervals: pseudo-experiments, analysed anew at each angle.

python paper_examples/uncertainty_aware/toys.py [--methods nominal aware] [--toys 1000] [--write]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from rotating import BACKGROUND, SIGNAL, STEP, TRUTHS, gaussians, rotate
from run import HERE, signal_edges, train_one
from scipy.interpolate import CubicSpline

import difana
from difana.analysis import NuisanceScan, nuisance_scan, profiled_interval, refined_scan
from difana.data import Sample
from difana.infer import Status
from difana.nn import Parametrised

LEVELS = (0.6827, 0.95)
FINER = 20  # steps between two values, templates and data interpolated by splines
DEFAULT = ("nominal", "aware", "exact")
FIXED = ("nominal", "augmented", "adversarial", "pivot")


class Same(eqx.Module):
    """A network that does not know the nuisance."""

    net: Callable

    def __call__(self, value: jax.Array) -> Callable:
        """Return the network, whatever the value."""
        return self.net


class Aware(eqx.Module):
    """A network that is told the nuisance."""

    net: Callable

    def __call__(self, value: jax.Array) -> Callable:
        """Return the network at a value."""
        return Parametrised(self.net, value[None])


@eqx.filter_jit
def _places(nets: Callable, x: jax.Array, edges: jax.Array, values: jax.Array) -> jax.Array:
    """Return the bin of each event for the network of each value, ``[values, events]``."""
    inner = edges[1:-1]

    def one(value: jax.Array) -> jax.Array:
        return jnp.searchsorted(inner, nets(value)(x)[:, 0]).astype(jnp.uint8)

    return jax.lax.map(one, values)


def experiments(
    places: dict[str, np.ndarray], *, bins: int, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the counts of pseudo-experiments, ``[number, values, bins]``.

    Each is a Poisson number of events of the pool; one and the same events fill the histograms of
    all values.
    """
    found = []
    for _ in range(number):
        total: Any = 0
        for name, mean in (("signal", SIGNAL), ("background", BACKGROUND)):
            place = places[name]
            drawn = rng.integers(place.shape[1], size=rng.poisson(mean))
            own = place[:, drawn] + np.arange(len(place))[:, None] * bins
            total = total + np.bincount(own.ravel(), minlength=len(place) * bins)
        found.append(total.reshape(-1, bins))
    return np.stack(found)


@eqx.filter_jit
def _intervals(scan: NuisanceScan, data: jax.Array, centers: jax.Array) -> Any:
    """Return the intervals of all pseudo-experiments at both levels, one after the other."""

    def one(toy: tuple[jax.Array, jax.Array]) -> Any:
        own = eqx.tree_at(lambda s: (s.data, s.center), scan, toy)
        return [profiled_interval(own, level=level) for level in LEVELS]

    return jax.lax.map(one, (data, centers))


def coverage_of(
    nets: Callable,
    pool: tuple[Sample, ...],
    edges: np.ndarray,
    *,
    truth: float,
    number: int,
    seed: int,
    reach: int = 8,
) -> dict[str, float]:
    """Return coverage and bias of the profiled intervals at one true angle, mu = 1.

    Templates and pseudo-experiments are of the same pool, so that the statistics of the simulation
    are out of play. ``nets`` maps a value of the nuisance to the network.
    """
    values = truth + STEP * np.arange(-reach, reach + 1)
    cuts = jnp.asarray(edges, jnp.float32)
    per_value = isinstance(nets, Aware)
    scan = nuisance_scan(
        nets if per_value else nets(jnp.zeros(())),
        pool,
        nuisance="z",
        values=values,
        edges=cuts,
        per_value=per_value,
        truth=truth,
        staterror=False,
    )
    asimov = np.asarray(scan.data)
    places = {
        sample.name: np.asarray(
            _places(
                nets,
                rotate(sample.nominal.features, jnp.asarray(truth, jnp.float32)),
                cuts,
                jnp.asarray(values, jnp.float32),
            )
        )
        for sample in pool
    }
    rng = np.random.default_rng(seed)
    counts = experiments(places, bins=len(edges) - 1, number=number, rng=rng)
    assert np.allclose(counts.mean(axis=0), asimov, atol=8 * np.sqrt(asimov.max() / number))
    centers = truth + rng.standard_normal(number)  # the auxiliary measurement
    exact = refined_scan(scan, factor=FINER)
    data = CubicSpline(values, counts, axis=1)(np.asarray(exact.values))
    found = _intervals(exact, jnp.asarray(data), jnp.asarray(centers))
    row: dict[str, float] = {"toys": number}
    usual = ~int(Status.AT_BOUND)
    for level, result in zip(LEVELS, found, strict=True):
        lower, upper = np.asarray(result.lower), np.asarray(result.upper)
        row[f"{100 * level:.0f} %"] = float(np.mean((lower <= 1) & (upper >= 1)))
    first = found[0]
    best, angle = np.asarray(first.value), np.asarray(first.nuisance)
    row |= {
        "bias": float(best.mean() - 1),
        "spread": float(best.std()),
        "sigma": float(np.asarray(first.sigma).mean()),
        "angle_spread": float((0.5 * (angle - truth)).std()),
        "at_edge": float(np.mean((np.asarray(first.status) & ~usual) != 0)),
        "failed": float(np.mean((np.asarray(first.status) & usual) != 0)),
    }
    return row


def run(
    *,
    methods: tuple[str, ...] = DEFAULT,
    truths: tuple[str, ...] = ("pi/4", "3pi/8", "pi/2"),
    number: int = 1000,
    steps: int = 2000,
    events: int = 100_000,
    pool_events: int = 300_000,
    members: int = 1,
    hidden: tuple[int, ...] = (64, 64),
    keep: Path | None = None,
) -> dict[str, Any]:
    """Train networks, draw pseudo-experiments at the true angles, and count."""
    keys = jax.random.split(jax.random.key(100), 3)
    train, pool = gaussians(keys[0], events=events), gaussians(keys[1], events=pool_events)
    found: dict[str, Any] = {}
    if keep is not None and keep.exists():
        found = json.loads(keep.read_text())
    for method in methods:
        if method in found:
            continue
        options = {"members": members, "steps": steps, "batch_size": 500, "hidden": hidden}
        nets = train_one(method, train, key=keys[2], bins=10, **options)
        own: dict[str, list] = {}
        for seed, net in enumerate(nets):
            at = Same(net) if method in FIXED else Aware(net)
            edges = signal_edges(at(jnp.zeros(())), train, bins=10)
            for name in truths:
                row = coverage_of(
                    at,
                    pool,
                    edges,
                    truth=STEP * TRUTHS[name],
                    number=number,
                    seed=seed,
                )
                own.setdefault(name, []).append(row)
                numbers = "  ".join(f"{k}: {v:.4g}" for k, v in row.items())
                print(f"{method:>12} {name:>5}  {numbers}", flush=True)
        found[method] = own
        if keep is not None:
            keep.write_text(json.dumps(found) + "\n")
    return found


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = (*FIXED, "aware", "exact")
    parser.add_argument(
        "--methods", nargs="+", choices=known, default=("nominal", "aware", "exact")
    )
    parser.add_argument("--toys", type=int, default=1000)
    parser.add_argument("--members", type=int, default=1, help="seeds")
    parser.add_argument("--keep", type=Path, help="results so far, to go on after a kill")
    parser.add_argument("--write", action="store_true", help="write into expected.json")
    arguments = parser.parse_args()
    difana.enable_x64()
    found = run(
        methods=tuple(arguments.methods),
        number=arguments.toys,
        members=arguments.members,
        keep=arguments.keep,
    )
    if arguments.write:
        path = HERE / "expected.json"
        expected = json.loads(path.read_text()) | {"coverage": found}
        path.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
