"""CLs+b and CLb of toys: difana against pyhf's own fits, main and auxiliary data fluctuated.

    python benchmarks/toys_agreement.py [--number 10000] [--pyhf 1000] [--seeds 0 1] [--write]

Five models with few events. pyhf 0.7.6 cannot rank toys under numpy 2.4, so its statistic
(``pyhf.infer.test_statistics.qmu_tilde``) is evaluated here on data drawn by ``pdf.sample`` at the
conditional fits, main and auxiliary alike. Difana's statistic is computed on those toys, too:
``other side`` counts the toys that the two rank differently against the data, which no fluctuation
explains; ``failed`` counts the toys that pyhf's optimiser gives up. The record grows row by row.
"""

from __future__ import annotations

import argparse
import contextlib
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
from scipy.stats import poisson

import difana
from difana.infer import fit, qmu, toys
from difana.likelihood import Model, from_workspace

RESULT = Path(__file__).parent / "results" / "toys_agreement.md"
_TIE = 1e-6


def workspace(
    signal: list, background: list, observed: list, modifiers: list, own: list = ()
) -> dict[str, Any]:
    """Return a workspace of one channel."""
    mu = {"name": "mu", "type": "normfactor", "data": None}
    samples = [
        {"name": "signal", "data": signal, "modifiers": [mu, *own]},
        {"name": "background", "data": background, "modifiers": modifiers},
    ]
    return {
        "channels": [{"name": "SR", "samples": samples}],
        "observations": [{"name": "SR", "data": observed}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }


def norm(hi: float, lo: float, name: str = "norm") -> dict[str, Any]:
    """Return a normsys."""
    return {"name": name, "type": "normsys", "data": {"hi": hi, "lo": lo}}


def shape(*sizes: float) -> dict[str, Any]:
    """Return a shapesys."""
    return {"name": "unc", "type": "shapesys", "data": list(sizes)}


def stat(*sizes: float) -> dict[str, Any]:
    """Return a staterror."""
    return {"name": "stat", "type": "staterror", "data": list(sizes)}


MODELS = {
    "counting, 30 % normalisation": workspace([4.0], [1.5], [2.0], [norm(1.3, 0.7)]),
    "counting, Poisson control region": workspace([3.0], [2.0], [1.0], [shape(1.0)]),
    "two bins, shapesys": workspace([3.0, 1.0], [1.0, 4.0], [1.0, 5.0], [shape(0.5, 1.2)]),
    "two bins, staterror": workspace([2.0, 3.0], [3.0, 1.0], [3.0, 1.0], [stat(0.6, 0.4)]),
    "signal and background normalisation": workspace(
        [5.0], [2.5], [3.0], [norm(1.2, 0.8)], [norm(1.15, 0.85, "acceptance")]
    ),
}


class Toys(NamedTuple):
    """pyhf's toys of one hypothesis."""

    data: np.ndarray  # [toys, data]
    statistic: np.ndarray  # [toys], NaN where the fit failed
    observed: float

    @property
    def reached(self) -> np.ndarray:
        """True for toys whose statistic is at least the observed one."""
        return self.statistic >= self.observed - _TIE

    def share(self) -> tuple[float, float]:
        """Return the share of toys at least as large as the data, with its error."""
        reached = self.reached[np.isfinite(self.statistic)]
        share, number = float(reached.mean()), reached.size
        return share, float(np.sqrt(max(share * (1 - share), 1 / number) / number))


def theirs(spec: dict[str, Any], number: int, seed: int) -> tuple[list[str], list[Toys]]:
    """Return the names of pyhf's auxiliary data, and its toys of the two hypotheses, fitted."""
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-9))
    book = pyhf.Workspace(spec)
    model = book.model()
    data, config = book.data(model), model.config
    settings = (config.suggested_init(), config.suggested_bounds(), config.suggested_fixed())
    statistic = pyhf.infer.test_statistics.qmu_tilde
    observed = float(statistic(1.0, data, model, *settings))
    np.random.seed(seed)  # noqa: NPY002 (pyhf draws from it)
    found = []
    for mu in (1.0, 0.0):
        at = pyhf.infer.mle.fixed_poi_fit(mu, data, model, *settings)
        samples = np.asarray(model.make_pdf(pyhf.tensorlib.astensor(at)).sample((number,)))
        values = np.full(number, np.nan)
        for i, sample in enumerate(samples):
            with contextlib.suppress(pyhf.exceptions.FailedMinimization):
                values[i] = float(statistic(1.0, sample, model, *settings))
        found.append(Toys(samples, values, observed))
    names = []
    for name in config.auxdata_order:
        size = config.param_set(name).n_parameters
        names += (
            [name] if config.param_set(name).is_scalar else [f"{name}[{i}]" for i in range(size)]
        )
    return names, found


def on_their_toys(model: Model, data: Any, names: list[str], found: Toys) -> np.ndarray:
    """Return which of pyhf's toys reach the observed statistic by difana's fits."""
    own = [model.parameters[i] for i in model.structure.constrained]
    order = [*range(model.bins), *(model.bins + names.index(name) for name in own)]
    return reached(model, data, found.data[:, order])


def reached(model: Model, data: Any, toys: np.ndarray) -> np.ndarray:
    """Return which data vectors reach the observed statistic."""
    statistic = eqx.filter_jit(
        lambda m, rows: jax.lax.map(lambda row: qmu(m, row, mu=1.0).value, rows, batch_size=256)
    )
    values = np.asarray(statistic(model, jnp.asarray(toys)))
    return values >= float(statistic(model, data[None])[0]) - _TIE


class Row(NamedTuple):
    """One number of both, with its error, and how their fits of the same toys compare."""

    what: str
    ours: tuple[float, float]
    theirs: tuple[float, float]
    other_side: int
    failed: int

    @property
    def difference(self) -> float:
        """The difference in units of its error."""
        return (self.ours[0] - self.theirs[0]) / np.hypot(self.ours[1], self.theirs[1])

    def line(self, name: str, seed: int) -> str:
        """Return the row of the table."""
        cells = [f"{value:.4f} +- {error:.4f}" for value, error in (self.ours, self.theirs)]
        numbers = [f"{self.difference:+.1f}", str(self.other_side), str(self.failed)]
        return f"| {' | '.join([name, str(seed), self.what, *cells, *numbers])} |"


def compare(name: str, *, number: int, pyhf_number: int, seed: int) -> list[Row]:
    """Return CLs+b and CLb of a model."""
    model, data = from_workspace(MODELS[name])
    place = list(MODELS).index(name) + 100 * seed
    result = toys(model, data, mu=1.0, number=number, key=jax.random.key(place))
    ours = [(result.clsb, result.clsb_error), (result.clb, result.clb_error)]
    names, found = theirs(MODELS[name], pyhf_number, place)
    rows = []
    for what, a, they in zip(("CLs+b", "CLb"), ours, found, strict=True):
        failed = np.isnan(they.statistic)
        other = (on_their_toys(model, data, names, they) != they.reached) & ~failed
        rows.append(Row(what, a, they.share(), int(other.sum()), int(failed.sum())))
    return rows


def exact(name: str) -> list[float]:
    """Return CLs+b and CLb of a model of counts alone, summed over all data that matter.

    The probabilities of all but 1e-7 of the counts, main and auxiliary, times whether difana's
    statistic reaches the observed one.
    """
    model, data = from_workspace(MODELS[name])
    poi, found = model.parameters[model.poi_index], []
    for mu in (1.0, 0.0):
        means = np.asarray(model.expected(fit(model, data, fixed={poi: mu}).params))
        ranges = [np.arange(*poisson.interval(1 - 1e-8, mean), dtype=float) for mean in means]
        grid = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(means))
        weights = np.prod(poisson.pmf(grid, means), axis=1)
        chosen = weights > 1e-13
        found.append(float(np.sum(weights[chosen] * reached(model, data, grid[chosen]))))
    return found


def main() -> None:
    """Compare and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=10000)
    parser.add_argument("--pyhf", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    difana.enable_x64()
    warnings.simplefilter("ignore")
    lines = [
        "# Toys: difana against pyhf",
        "",
        (
            f"`python benchmarks/toys_agreement.py --pyhf {args.pyhf} --seeds "
            f"{' '.join(map(str, args.seeds))}`; {args.number} toys of a hypothesis by difana, "
            f"{args.pyhf} by pyhf 0.7.6, main and auxiliary data fluctuated. `other side`: toys of "
            "pyhf that difana's fits rank differently against the data; `failed`: left out by pyhf."
        ),
        "",
        "| model | seed | | difana | pyhf | difference / error | other side | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for seed in args.seeds:
        for name in MODELS:
            rows = compare(name, number=args.number, pyhf_number=args.pyhf, seed=seed)
            lines += [row.line(name, seed) for row in rows]
            print("\n".join(lines[-2:]), flush=True)
            if args.write:
                RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
