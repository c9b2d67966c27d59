"""Taggers side by side: AUC, accuracy, rejection, parameters, FLOPs, seconds.

    python benchmarks/taggers.py landscape --jets FOLDER [--seeds 0 1 2 3 4] [--write]
    python benchmarks/taggers.py pythia --jets FOLDER [--train 20000] [--write]

``landscape``: 2000 jets of the top-tagging landscape set (``tl_pf_vectors.npy``, ...), the first
1500 for training. ``pythia``: ``top.parquet`` and ``qcd.parquet`` of ``difana generate``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from difana.metrics import background_rejection, roc_auc
from difana.nn import taggers as t
from difana.train import Training, fit_tagger

RESULTS = Path(__file__).with_name("results")
WHAT = {
    "landscape": "2000 jets of the top-tagging landscape set",
    "pythia": "Jets of `difana generate top` and `qcd` (550 to 650 GeV), default detector",
}

# name: network, particles, options of the training
SMALL = {
    "ImageCNN": (lambda **o: t.ImageCNN(2, widths=(8, 16), hidden=(32,), pixels=16, **o), 64, {}),
    "PFN": (lambda **o: t.PFN(2, **o), 64, {}),
    "ParticleNet-Lite": (lambda **o: t.ParticleNet(2, **t.LITE, **o), 48, {}),
    "Transformer (12k)": (lambda **o: t.Transformer(2, width=32, heads=2, blocks=1, **o), 48, {}),
    "LLoCa-Transformer (15k)": (
        lambda **o: t.LLoCaTransformer(2, width=32, heads=2, blocks=1, hidden=16, **o), 48, {}),
    "L-GATr-slim-nano": (lambda **o: t.LGATrSlim(2, **t.SLIM_NANO, **o), 48, {}),
    "PELICAN-nano": (lambda **o: t.PELICAN(2, **t.NANO, **o), 48, {"learning_rate": 5e-3}),
    "LorentzNet (width 24)": (lambda **o: t.LorentzNet(2, width=24, blocks=3, **o), 40, {}),
}  # fmt: skip


def landscape(folder):
    """Return momenta, mask and labels."""
    vectors, mask, labels = (
        np.load(folder / f"tl_{name}.npy") for name in ("pf_vectors", "pf_mask", "labels")
    )
    mask = mask[:, 0] > 0
    p = np.moveaxis(vectors, 1, 2)[..., [3, 0, 1, 2]]
    return np.where(mask[..., None], p, 0).astype(np.float32), mask, labels


def pythia(folder, number):
    """Return measured momenta, mask and labels of as many jets of both kinds."""
    from difana.data.generate.pythia import detect, read_generated

    found = []
    for label, name in enumerate(("qcd", "top")):
        events = read_generated(
            folder / f"{name}.parquet", max_particles=80, entry_stop=number // 2
        )
        seen = jax.jit(detect)(events.inputs, key=jax.random.key(label))
        order = jnp.argsort(-seen.particles[..., 0], axis=1)
        x = jnp.take_along_axis(seen.particles, order[..., None], axis=1)[..., :4]
        there = jnp.take_along_axis(seen.mask, order, axis=1)
        p = jnp.where(there[..., None], t.four_momenta(x), 0)
        found.append((np.asarray(p), np.asarray(there), np.full(len(p), label)))
    p, mask, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.random.default_rng(0).permutation(len(labels))
    return p[order], mask[order], labels[order]


def flops(net, particles):
    """Return floating-point operations of one jet, as the compiler counts them."""
    x = jax.ShapeDtypeStruct((1, particles, 4), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, particles), bool)
    cost = jax.jit(lambda x, m: net(x, m)).lower(x, mask).compile().cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def scores(net, p, mask, size=200):
    run = jax.jit(lambda p, mask: (lambda out: out[:, 1] - out[:, 0])(net(p, mask)))
    parts = [run(p[i : i + size], mask[i : i + size]) for i in range(0, len(p), size)]
    return np.concatenate([np.asarray(part) for part in parts])


def judge(name, data, *, train, seed, epochs, batch):
    """Train one tagger; return its figures on the rest of the jets."""
    make, particles, own = SMALL[name]
    p, mask, labels = (array[:, :particles] if array.ndim > 1 else array for array in data)
    net = make(key=jax.random.key(seed))
    weights = nnx.state(net, nnx.Param)
    options = {"epochs": epochs, "batch_size": batch, "learning_rate": 2e-3, "patience": None,
               "average": 0.99, "held_out": 0.1}  # fmt: skip
    begin = time.perf_counter()
    result = fit_tagger(
        net, jnp.asarray(p[:train]), labels[:train], key=jax.random.key(1000 + seed),
        training=Training(**{**options, **own}), progress_bar=False, augment=t.rotated,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    found, true = scores(result.trainable, p[train:], mask[train:]), labels[train:]
    figures = {
        "auc": float(roc_auc(found, true)),
        "accuracy": float(np.mean((found > 0) == true)),
        "r50": float(background_rejection(found, true, efficiency=0.5)),
        "r30": float(background_rejection(found, true, efficiency=0.3)),
        "seconds": seconds,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(weights)),
        "flops": flops(result.trainable, particles),
        "particles": particles,
    }
    print(name, seed, {k: round(v, 4) for k, v in figures.items()}, flush=True)
    return figures


def table(found):
    """Return the rows of the record, best AUC last."""

    def shown(rows, key, digits):
        values = np.array([row[key] for row in rows])
        spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
        return f"{values.mean():.{digits}f}{spread}"

    heads = ["tagger", "parameters", "MFLOP a jet", "particles", "AUC", "accuracy",
             "1/eps_B at eps_S = 0.5", "at 0.3", "seconds of training"]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    order = sorted(found, key=lambda name: np.mean([row["auc"] for row in found[name]]))
    for name in order:
        rows = found[name]
        lines.append(
            f"| {name} | {rows[0]['parameters']:,} | {rows[0]['flops'] / 1e6:.1f} |"
            f" {rows[0]['particles']} | {shown(rows, 'auc', 4)} | {shown(rows, 'accuracy', 3)} |"
            f" {shown(rows, 'r50', 0)} | {shown(rows, 'r30', 0)} |"
            f" {np.median([row['seconds'] for row in rows]):.0f} |"
        )
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=("landscape", "pythia"))
    parser.add_argument("--jets", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--train", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--only", nargs="+", default=list(SMALL))
    parser.add_argument("--write", action="store_true", help="write the record")
    options = parser.parse_args()
    if options.data == "landscape":
        data, train, epochs, batch = landscape(options.jets), 1500, 40, 64
    else:
        train = options.train or 20_000
        data, epochs, batch = pythia(options.jets, train + 10_000), 8, 128
    epochs = options.epochs or epochs
    found = {
        name: [
            judge(name, data, train=train, seed=seed, epochs=epochs, batch=batch)
            for seed in options.seeds
        ]
        for name in options.only
    }
    seeds = " ".join(map(str, options.seeds))
    command = f"python benchmarks/taggers.py {options.data} --jets FOLDER --seeds {seeds}"
    size = f"{train} jets in training (10 % of them held out), {len(data[2]) - train} for the"
    text = [
        f"## {options.data.capitalize()}",
        "",
        f"`{command}`; jax {jax.__version__}, {jax.default_backend()}.",
        "",
        f"{WHAT[options.data]}; {size} figures; momenta",
        f"alone, turned about the axes; {epochs} epochs, batches of {batch}, Adam, cosine; the",
        "spread is that of seeds (start, held-out jets, batches).",
        "",
        *table(found),
        "",
    ]
    print("\n".join(text))
    if options.write:
        path = RESULTS / f"taggers_{options.data}.md"
        path.write_text("\n".join(["# Taggers side by side", "", *text]), encoding="utf-8")


if __name__ == "__main__":
    main()
