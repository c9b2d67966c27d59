"""Every published workspace: CLs and limits of difana against pyhf at a tight tolerance.

    python benchmarks/agreement.py [--data PATH] [--workspace FILE ...] [--points 3] [--write]

pyhf tests mu = 1 and difana's six limits (observed and five expected), where its CLs must be 0.05:
``CLs`` is the largest relative difference of the six CLs, ``limit`` the largest relative difference
of a limit, from the distance of pyhf's CLs from 0.05 and the slope there. pyhf fits with JAX and
SLSQP at a tolerance of 1e-12; where that fails (its gradients can be NaN), with numpy and Minuit.
Where the two disagree by more than 1e-6, the row says how much lower the better best fit is, and
for one nuisance what pyhf's own likelihood has on a grid. The record grows with every row.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULT = HERE / "results" / "agreement.md"
NOTES = """
multichan_coupledhistosys: the nominal yield of one bin lies far outside both variations, and the
likelihood has two minima. pyhf stops in the worse one; its likelihood on a grid has difana's CLs.

sbottom_500_400_60: the expected signal is excluded by ten standard deviations (limit 0.07). At
mu = 1 the profile likelihood has two minima, at JET_JER_EffectiveNP_2 = 1.16 and -1.19, and difana
stops in the worse one: CLs 2.55e-23 for 2.78e-23. Started at pyhf's minimum, it stays there.
`infer.fit_from_several` looks for such minima; the limits agree.

C1N2_Wh_hbb_500_0: at mu = 1 pyhf's tight scipy stops 0.0027 too high (2 nll 228.33478); its minuit
finds 228.33209, which is difana's minimum. CLs is 1.3e-4 there; the limits agree.
"""
CODES = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}


def validation_spec(path: Path) -> dict[str, Any] | None:
    """Return a workspace of a file of pyhf's validation in its old short form."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    return raw if "channels" in raw and "measurements" in raw else None


def workspaces(data: Path, others: list[str], points: int) -> Iterator[tuple[str, dict]]:
    """Yield names and workspaces."""
    from difana.likelihood import read_patchset, read_workspace, read_xml

    for top in sorted((data / "pyhf-validation").glob("*/config/**/*.xml")):
        text = top.read_text(encoding="utf-8")
        # pyhf, which reads the XML, knows no histograms of two dimensions
        if "<Combination" in text and not top.stem.endswith("2D"):
            yield f"{top.relative_to(data / 'pyhf-validation').parts[0]}/{top.stem}", read_xml(top)
    for path in sorted((data / "pyhf-validation").glob("*.json")):
        spec = validation_spec(path)
        if spec is not None and "bkg" not in path.stem:  # those lack a signal
            yield path.stem, spec
    for patch in sorted((data / "sbottom-RegionA").glob("patch*.json"))[:points]:
        spec = read_workspace(data / "sbottom-RegionA" / "BkgOnly.json", patches=[patch])
        yield patch.stem.removeprefix("patch."), spec
    patchset = read_patchset(data / "1Lbb" / "patchsets_v1.json.gz")
    names = list(patchset.names)
    for name in names[:: max(len(names) // points, 1)][:points]:
        yield name, patchset.apply(read_workspace(data / "1Lbb" / "workspace_v1.json.gz"), name)
    for path in others:
        yield Path(path).stem, read_workspace(path)


def optimisers() -> list[tuple[str, Any]]:
    """Return backends and tight optimisers of pyhf, the better first."""
    import pyhf

    scipy = pyhf.optimize.scipy_optimizer(tolerance=1e-12, maxiter=100_000)
    minuit = pyhf.optimize.minuit_optimizer(tolerance=1e-8, strategy=2, maxiter=1_000_000)
    return [("jax", scipy), ("numpy", minuit)]


def compare(name: str, spec: dict) -> str:
    """Return a row of the table, by the first optimiser of pyhf that does not fail."""
    import pyhf

    from difana._errors import ModelError

    for backend, optimiser in optimisers():
        pyhf.set_backend(backend, optimiser)
        try:
            return compared(name, spec, f"{backend}/{optimiser.name}")
        except pyhf.exceptions.FailedMinimization:
            continue
        except ModelError as error:  # background only
            return f"| {name} | | | | {str(error).split(':')[0]} | | |"
    return f"| {name} | | | | | pyhf fails | |"


def compared(name: str, spec: dict, setting: str) -> str:
    """Return a row of the table by the present optimiser of pyhf."""
    import equinox as eqx
    import numpy as np
    import pyhf

    from difana.infer import describe, hypotest, qmu, trustworthy, upper_limit
    from difana.likelihood import from_workspace

    model, data = from_workspace(spec)
    tested = eqx.filter_jit(lambda m, d: hypotest(m, d, mu=1.0))(model, data)
    limits = eqx.filter_jit(lambda m, d: upper_limit(m, d))(model, data)
    workspace = pyhf.Workspace(spec)
    theirs = workspace.model(modifier_settings=CODES)
    observed = workspace.data(theirs)
    found = np.array([float(limits.observed), *np.asarray(limits.expected)])
    bounds = theirs.config.suggested_bounds()  # a limit may lie beyond that of mu
    high = max(bounds[theirs.config.poi_index][1], 10 * float(found.max()))
    bounds[theirs.config.poi_index] = (0.0, high)

    def pyhf_cls(mu: float) -> np.ndarray:
        value, band = pyhf.infer.hypotest(
            mu,
            observed,
            theirs,
            par_bounds=bounds,
            test_stat="qtilde",
            return_expected_set=True,
        )
        return np.array([float(value), *map(float, band)])

    start = time.perf_counter()
    ours = np.array([float(tested.observed), *np.asarray(tested.expected)])
    at_one = pyhf_cls(1.0)
    cls = np.abs(ours / at_one - 1).max()
    worst = 0.0
    for i, limit in enumerate(found):
        near, step = pyhf_cls(limit)[i], 1e-3 * limit
        slope = (pyhf_cls(limit + step)[i] - pyhf_cls(limit - step)[i]) / (2 * step)
        worst = max(worst, abs((near - 0.05) / slope) / limit)
    seconds = time.perf_counter() - start
    remark = ""
    if max(cls, worst) > 1e-6:
        fits = pyhf.infer.mle
        options = {"par_bounds": bounds, "return_fitted_val": True}
        _, twice = fits.fit(observed, theirs, **options)
        _, held = fits.fixed_poi_fit(1.0, observed, theirs, **options)
        test = eqx.filter_jit(lambda m, d: qmu(m, d, mu=1.0))(model, data)
        remark = (
            f"; twice the nll of pyhf lies {float(twice) - 2 * float(test.free.nll):.3g} above "
            f"difana's in the best fit, {float(held) - 2 * float(test.conditional.nll):.3g} at mu "
            f"= 1; observed CLs: pyhf {at_one[0]:.3g}, difana {ours[0]:.3g}"
        )
        if sum(map(bool, theirs.config.suggested_fixed())) == theirs.config.npars - 2:
            found = _grid(theirs, observed)
            remark += f", without an optimiser (pyhf's likelihood on a grid) {found:.3f}"
    ok = bool(trustworthy(tested.status)) and bool(trustworthy(limits.status))
    status = "ok" if ok else describe(int(tested.status) | int(limits.status))
    return (
        f"| {name} | {len(model.parameters)} | {cls:.1e} | {worst:.1e} | {status}{remark} | "
        f"{setting} | {seconds:.0f} |"
    )


def _grid(theirs: Any, observed: Any) -> float:
    """Return the observed CLs of mu = 1 from pyhf's likelihood on a grid of its two parameters."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from scipy.stats import norm

    config = theirs.config
    (nuisance,) = (
        i for i, held in enumerate(config.suggested_fixed()) if not held and i != config.poi_index
    )
    init = jnp.asarray(config.suggested_init())
    values = jnp.linspace(*config.suggested_bounds()[nuisance], 4001)
    mus = np.linspace(0.0, 4.0, 401)

    def twice(mu: float, data: Any) -> np.ndarray:
        at = lambda x: init.at[config.poi_index].set(mu).at[nuisance].set(x)  # noqa: E731
        return -2 * np.asarray(jax.vmap(lambda x: theirs.logpdf(at(x), data)[0])(values))

    def q(data: Any) -> float:
        return np.nanmin(twice(1.0, data)) - min(np.nanmin(twice(mu, data)) for mu in mus)

    lowest = values[int(np.nanargmin(twice(0.0, observed)))]
    asimov = theirs.expected_data(init.at[config.poi_index].set(0.0).at[nuisance].set(lowest))
    q_data, q_asimov = q(observed), q(asimov)
    if q_data <= q_asimov:
        shift = np.sqrt(q_data) - np.sqrt(q_asimov)
    else:
        shift = (q_data - q_asimov) / (2 * np.sqrt(q_asimov))
    return float(norm.sf(shift + np.sqrt(q_asimov)) / norm.sf(shift))


def main() -> None:
    """Compare all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data/likelihoods")
    parser.add_argument("--workspace", action="append", default=[])
    parser.add_argument("--points", type=int, default=3, help="signal points of each patch set")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    from difana.cli import _setup

    _setup.start(fits=True)
    warnings.simplefilter("ignore")
    logging.disable()  # pyhf prints what its optimiser says
    lines = [
        "# Agreement with pyhf on published workspaces",
        "",
        (
            f"`python benchmarks/agreement.py --points {args.points}`. Largest relative "
            "differences of observed and expected CLs at mu = 1, and of the limits."
        ),
        "",
        "| workspace | parameters | CLs | limit | status of difana | pyhf | pyhf [s] |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name, spec in workspaces(args.data, args.workspace, args.points):
        lines.append(compare(name, spec))
        print(lines[-1], flush=True)
        if args.write:
            RESULT.write_text("\n".join(lines) + "\n" + NOTES, encoding="utf-8")


if __name__ == "__main__":
    main()
