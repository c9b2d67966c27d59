"""Fits of random ill-conditioned models: how many converge, and to which minimum; pyhf on the same.

    python benchmarks/robustness.py [--number 1000] [--pyhf 100] [--write]

Tiny or missing signals, empty bins, one-sided and degenerate nuisances, huge and vanishing
uncertainties, mu at its bound. A fit counts as wrong if its status says ok although a longer search
from other starts finds a likelihood better by 1e-4.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import difana
from difana.infer import fit_from_several, trustworthy
from difana.infer.fit import fit
from difana.likelihood import (
    Channel,
    HistoSys,
    Model,
    NormFactor,
    NormSys,
    ShapeSys,
    StatError,
    Template,
    build_model,
    to_workspace,
)

RESULT = Path(__file__).parent / "results" / "robustness.md"
BINS = 3


def numbers_of(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw the numbers of one model."""
    background = 10 ** rng.uniform(-1, 3, (2, BINS)) * (rng.random((2, BINS)) > 0.1)
    signal = 10 ** rng.uniform(-6, 2) * rng.random(BINS) * (rng.random(BINS) > 0.2)
    up, down = 1 + rng.normal(0, 0.3, (2, BINS)), 1 + rng.normal(0, 0.3, (2, BINS))
    one_sided = rng.random() < 0.3
    shape = background[0] * np.abs(up[0]), background[0] * (1 if one_sided else np.abs(down[0]))
    same = rng.random() < 0.2  # two nuisances that do the same
    other = shape if same else (background[1] * np.abs(up[1]), background[1] * np.abs(down[1]))
    mu = rng.choice([0.0, 0.0, 1.0, 3.0])
    mean = background.sum(axis=0) + mu * signal
    return {
        "signal": signal,
        "background": background,
        "shape": np.stack(shape),
        "other": np.stack(other),
        "norm": np.exp(rng.normal(0, 0.4, 2) * np.array([1, -1])),
        "stat": background[0] * 10 ** rng.uniform(-3, 0, BINS),
        "uncorrelated": background[1] * 10 ** rng.uniform(-3, 0, BINS),
        "observed": rng.poisson(mean * rng.choice([1.0, 0.5, 2.0])).astype(float),
    }


def model_of(n: dict) -> Model:
    """Build the model; the numbers may be traced."""
    first = (
        HistoSys(n["shape"][0], n["shape"][1], "shape"),
        NormSys(n["norm"][0], n["norm"][1], "norm"),
        StatError(n["stat"], "stat"),
    )
    second = (HistoSys(n["other"][0], n["other"][1], "other"), ShapeSys(n["uncorrelated"], "unc"))
    samples = (
        Template(n["signal"], (NormFactor("mu"),), name="signal"),
        Template(n["background"][0], first, name="first"),
        Template(n["background"][1], second, name="second"),
    )
    return build_model([Channel(samples, name="SR")])


@eqx.filter_jit
def fits(numbers: dict, starts: jax.Array) -> tuple[jax.Array, ...]:
    """Fit all models from the usual start and from others."""

    def one(n: dict, alphas: jax.Array) -> tuple[jax.Array, ...]:
        model = model_of(n)
        data = model.data(n["observed"])
        result = fit(model, data)
        places = np.array([model.index(name) for name in ("mu", "shape", "norm", "other")])
        other = jax.vmap(lambda a: fit(model, data, init=model.init.at[places].set(a)))(alphas)
        best = jnp.min(jnp.where(jnp.isfinite(other.half_deviance), other.half_deviance, jnp.inf))
        several = fit_from_several(model, data, key=jax.random.key(0), number=8)
        depth, good = several.best.half_deviance, trustworthy(several.status)
        # for a vmap: the property `unique` leaves JAX
        unique = jnp.all(several.agreeing() | ~good)
        best = jnp.minimum(best, jnp.where(jnp.isfinite(depth), depth, jnp.inf))
        return (
            result.half_deviance, result.status, best, result.steps, result.params,
            depth, several.best.status, unique,
        )  # fmt: skip

    return jax.vmap(one, in_axes=(0, None))(numbers, starts)


def by_pyhf(n: dict, optimiser: str) -> float:
    """Return twice the nll of pyhf's fit above ours of a perfect description, NaN if it fails."""
    import pyhf

    pyhf.set_backend("numpy", optimiser)
    model = model_of({key: jnp.asarray(value) for key, value in n.items()})
    data = model.data(n["observed"])
    workspace = pyhf.Workspace(to_workspace(model, data))
    codes = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
    peer = workspace.model(modifier_settings=codes)
    try:
        params, _ = pyhf.infer.mle.fit(workspace.data(peer), peer, return_fitted_val=True)
    except Exception:
        return float("nan")
    order = {name: i for i, name in enumerate(model.parameters)}
    mine = np.asarray(model.init).copy()
    for name in peer.config.par_order:
        values = params[peer.config.par_slice(name)]
        keys = [name] if name in order else [f"{name}[{i}]" for i in range(len(values))]
        mine[[order[key] for key in keys]] = values
    return float(model.half_deviance(jnp.asarray(mine), data))


def main() -> None:
    """Fit everything and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--pyhf", type=int, default=100)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    difana.enable_x64()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(1)
    drawn = [numbers_of(rng) for _ in range(args.number)]
    stacked = {key: jnp.asarray(np.stack([n[key] for n in drawn])) for key in drawn[0]}
    starts = jnp.asarray(np.column_stack([rng.uniform(0, 5, 4), rng.normal(0, 1.5, (4, 3))]))
    value, status, best, steps, params, depth, deep_status, unique = (
        np.asarray(x) for x in fits(stacked, starts)
    )
    ok = np.asarray(trustworthy(status))
    finite = np.isfinite(value) & np.isfinite(params).all(axis=1)
    deeper = best < value - 1e-4
    deep_ok = np.asarray(trustworthy(deep_status))
    still = best < depth - 1e-4
    lines = [
        "# Robustness: random ill-conditioned models",
        "",
        (
            f"`python benchmarks/robustness.py --number {args.number} --pyhf {args.pyhf}`; load "
            f"{os.getloadavg()[0]:.1f}."
        ),
        "",
        "| fitter | models | status ok | not finite | ok, but a deeper minimum exists (> 1e-4) |",
        "|---|---|---|---|---|",
        (
            f"| difana (median {np.median(steps):.0f}, largest {steps.max()} steps) "
            f"| {len(value)} | {ok.mean():.1%} | {(~finite).sum()} | {(ok & deeper).sum()} |"
        ),
        (
            f"| difana, fit_from_several (8 starts; says for {(~unique).sum()} models that there "
            f"are several minima) | {len(depth)} | {deep_ok.mean():.1%} | "
            f"{(~np.isfinite(depth)).sum()} | {(deep_ok & still).sum()}, "
            f"{(deep_ok & still & unique).sum()} of them unnoticed |"
        ),
    ]
    deepest = np.minimum(value, best)
    for optimiser in ("scipy", "minuit"):
        found = np.array([by_pyhf(n, optimiser) for n in drawn[: args.pyhf]])
        good = np.isfinite(found)
        above = good & (found > deepest[: args.pyhf] + 1e-4)
        below = good & (found < deepest[: args.pyhf] - 1e-4)
        lines.append(
            f"| pyhf numpy/{optimiser} | {args.pyhf} | {good.mean():.1%} | {(~good).sum()} | "
            f"{above.sum()} (deeper than every fit of difana: {below.sum()}) |"
        )
    wrong = (ok & deeper)[: args.pyhf].sum()
    lines += ["", f"difana on the same {args.pyhf} models: {wrong} with a deeper minimum."]
    print("\n".join(lines))
    if args.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
