"""CLs+b and CLb of toys: difana against pyhf's own fits, main and auxiliary data fluctuated.

    python benchmarks/toys_agreement.py [--number 10000] [--pyhf 1000] [--write]

Five models with few events. pyhf 0.7.6 cannot rank toys under numpy 2.4, so its statistic
(``pyhf.infer.test_statistics.qmu_tilde``) is evaluated here on data drawn by ``pdf.sample`` at the
conditional fits, main and auxiliary alike.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyhf

import difana
from difana.infer import toys
from difana.likelihood import from_workspace

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


def theirs(spec: dict[str, Any], number: int, seed: int) -> list[tuple[float, float]]:
    """Return CLs+b and CLb with their errors from pyhf's fits of its own toys."""
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-9))
    book = pyhf.Workspace(spec)
    model, data = book.model(), book.data(book.model())
    config = model.config
    settings = (config.suggested_init(), config.suggested_bounds(), config.suggested_fixed())
    statistic = pyhf.infer.test_statistics.qmu_tilde
    observed = float(statistic(1.0, data, model, *settings))
    np.random.seed(seed)  # noqa: NPY002 (pyhf draws from it)
    found = []
    for mu in (1.0, 0.0):
        at = pyhf.infer.mle.fixed_poi_fit(mu, data, model, *settings)
        samples = model.make_pdf(pyhf.tensorlib.astensor(at)).sample((number,))
        values = []
        for sample in np.asarray(samples):
            try:
                values.append(float(statistic(1.0, sample, model, *settings)))
            except pyhf.exceptions.FailedMinimization:
                continue
        share = float(np.mean(np.array(values) >= observed - _TIE))
        found.append((share, float(np.sqrt(max(share * (1 - share), 1 / number) / len(values)))))
    return found


def main() -> None:
    """Compare and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=10000)
    parser.add_argument("--pyhf", type=int, default=1000)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    difana.enable_x64()
    warnings.simplefilter("ignore")
    lines = [
        "# Toys: difana against pyhf",
        "",
        (
            f"`python benchmarks/toys_agreement.py --pyhf {args.pyhf}`; {args.number} toys of a "
            f"hypothesis by difana, {args.pyhf} by pyhf 0.7.6, main and auxiliary data fluctuated."
        ),
        "",
        "| model | | difana | pyhf | difference / error |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for seed, (name, spec) in enumerate(MODELS.items()):
        model, data = from_workspace(spec)
        result = toys(model, data, mu=1.0, number=args.number, key=jax.random.key(seed))
        ours = [(result.clsb, result.clsb_error), (result.clb, result.clb_error)]
        for what, a, b in zip(("CLs+b", "CLb"), ours, theirs(spec, args.pyhf, seed), strict=True):
            error = np.hypot(a[1], b[1])
            line = (
                f"| {name} | {what} | {a[0]:.4f} +- {a[1]:.4f} | {b[0]:.4f} +- {b[1]:.4f} | "
                f"{(a[0] - b[0]) / error:+.1f} |"
            )
            lines.append(line)
            print(line, flush=True)
    if args.write:
        RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
