"""Flows of difana, flowjax, bijx and zuko: test log-likelihood and speed, on the same data.

python benchmarks/flows.py --peer flowjax=ENV/bin/python --peer bijx=... --peer zuko=... [--write]

Each peer runs in an environment of its own. All have coupling layers with rational-quadratic
splines of 8 bins on [-6, 6] and conditioners 64-64 (silu), Adam with gradients of norm one at most,
a cosine of the rate, 20 % held out, the best epoch kept. Data are standardised for all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import equinox as eqx
import flows_peer
import jax
import jax.numpy as jnp
import numpy as np
import optax

from difana.flows import coupling_flow, fit_flow
from difana.train import Training

HERE = Path(__file__).parent
LHCO = Path(os.environ.get("DIFANA_DATA", "/work/shared/data")) / "lhco"


class Difana:
    """The same methods as the peers."""

    def __init__(self, dims, given, layers, hidden):
        rng = np.random.default_rng(0)
        x, c = rng.normal(size=(1000, dims)), rng.normal(size=(1000, given)) if given else None
        self.options = {"layers": layers, "hidden": hidden, "key": jax.random.key(0)}
        self.flow = coupling_flow(x, c, **self.options)
        leaves = jax.tree.leaves(eqx.filter(self.flow, self.flow.trained()))
        self.parameters = sum(leaf.size for leaf in leaves)

    def fit(self, x, c, settings, seed):
        training = Training(
            epochs=settings["epochs"], batch_size=settings["batch"], patience=None,
            learning_rate=settings["rate"],
        )  # fmt: skip
        flow = coupling_flow(x, c, **self.options)
        self.flow = fit_flow(flow, x, c, key=jax.random.key(seed), training=training).flow

    def log_prob(self, x, c=None):
        return np.asarray(self.flow.log_prob(jnp.asarray(x), None if c is None else jnp.asarray(c)))

    def sample(self, number):
        return np.asarray(self.flow.sample(key=jax.random.key(1), samples=number))

    def step(self, x):
        x, flow = jnp.asarray(x), self.flow
        rows = flow.columns.forward(x)[0], flow.context.prepared(None, len(x)), jax.random.key(0)
        leaves, rest = eqx.partition(flow, flow.trained())
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))

        @eqx.filter_jit
        def update(leaves, state):
            gradient = jax.grad(lambda one: eqx.combine(one, rest).losses(*rows).mean())(leaves)
            updates, state = optimizer.update(gradient, state)
            return eqx.apply_updates(leaves, updates), state

        now = [leaves, optimizer.init(leaves)]

        def once():
            now[:] = update(*now)
            jax.block_until_ready(jax.tree.leaves(now[0]))

        return once


def eight_gaussians(rng, events):
    angle = rng.integers(0, 8, events) * np.pi / 4
    centre = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return centre + 0.2 * rng.normal(size=(events, 2)), None


def two_moons(rng, events):
    side = rng.integers(0, 2, events)
    angle = np.pi * rng.random(events)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.where(side[:, None] == 1, np.array([1.0, 0.5]) - x, x)
    return x + 0.1 * rng.normal(size=(events, 2)), side[:, None].astype(float)


def lhco(rng, events):
    rows = np.concatenate([np.load(LHCO / f"innerdata_{part}.npy") for part in ("train", "test")])
    rows = rows[rows[:, -1] == 0][:, :-1]  # QCD: m_jj, m_J1, m_J2 - m_J1, tau21 of both
    return rows[rng.permutation(len(rows))[:events]], None


def data(settings) -> dict[str, np.ndarray]:
    out, makers = {}, {"8 Gaussians": eight_gaussians, "two moons": two_moons, "LHCO": lhco}
    for name in settings["fits"]:
        x, c = makers[name](np.random.default_rng(1), 2 * settings["events"])
        half = settings["events"]
        x = (x - x[:half].mean(0)) / x[:half].std(0)
        for label, part in (("", slice(half)), ("_test", slice(half, None))):
            out[f"{name}{label}_x"] = x[part].astype(np.float32)
            if c is not None:
                out[f"{name}{label}_c"] = c[part].astype(np.float32)
    return out


def run(settings, peers) -> dict:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("data.npz", "settings.json", "result.json")]
        np.savez(files[0], **data(settings))
        files[1].write_text(json.dumps(settings))
        for name, python in {"difana": sys.executable, **peers}.items():
            script = __file__ if name == "difana" else HERE / "flows_peer.py"
            command = [python, str(script), name, *map(str, files)]
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
            found[name] = json.loads(files[2].read_text())
            print(name, json.dumps(found[name]), flush=True)
    return found


def report(found, settings, command) -> str:
    how = (
        f"Fits: {settings['events']} events, as many to test; 5 layers, {settings['epochs']} epochs"
        f" of batches of {settings['batch']}, rate {settings['rate']} on a cosine; mean over"
        f" {settings['seeds']} seeds. Errors: of the test events; half the spread of the seeds."
    )
    where = f"`{command}`; jax {jax.__version__}, cpu, 2 cores shared with other work: read ratios."
    lines = [
        "# Flows: test log-likelihood and speed against flowjax, bijx and zuko", "", where, "",
        how, "",
        "| data | library | parameters | test log-likelihood | spread | fit with first call [s] |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in settings["fits"]:
        for library, one in found.items():
            if name not in one["fits"]:
                lines.append(f"| {name} | {library} | - | takes no condition | - | - |")
                continue
            rows = np.array(one["fits"][name]["rows"])
            spread = (rows[:, 0].max() - rows[:, 0].min()) / 2
            lines.append(
                f"| {name} | {library} {one['version']} | {one['fits'][name]['parameters']} |"
                f" {rows[:, 0].mean():.4f} +- {rows[:, 1].mean():.4f} | {spread:.4f} |"
                f" {np.median(rows[:, 2]):.1f} |"
            )
    speed = settings["speed"]
    how = (
        f"Speed: {speed['layers']} layers, {speed['dims']} columns, {speed['rows']} rows at once; a"
        f" step of training (gradient and Adam) on {speed['batch']} rows. Thousand rows a second of"
        " CPU time of the process (which other work on the machine hardly changes), a second of the"
        " clock, and seconds of the first call."
    )
    names = ("log_prob", "sample", "training")
    lines += [
        "", how, "",
        "| library | parameters" + "".join(f" | {n}: CPU | clock | first" for n in names) + " |",
        "|---" * 11 + "|",
    ]  # fmt: skip
    for library, one in found.items():
        s = one["speed"]
        cells = [
            f"{rows / s[what][2] / 1e3:.1f} | {rows / s[what][1] / 1e3:.1f} | {s[what][0]:.1f}"
            for what, rows in (
                ("log_prob", speed["rows"]), ("sample", s["draws"]), ("step", speed["batch"])
            )
        ]  # fmt: skip
        lines.append(f"| {library} {one['version']} | {s['parameters']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "difana":
        result = flows_peer.main("difana", Difana)
        Path(sys.argv[4]).write_text(json.dumps(result))
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", action="append", default=[], help="library=python")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--fits", nargs="*", default=["8 Gaussians", "two moons", "LHCO"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    chosen = {
        "fits": options.fits, "events": options.events,
        "epochs": options.epochs, "batch": 250, "rate": 2e-3, "seeds": options.seeds,
        "steps": options.epochs * int(0.8 * options.events / 250),
        "speed": {"rows": options.rows, "dims": 16, "layers": 10, "batch": options.rows // 10},
    }  # fmt: skip
    results = run(chosen, dict(peer.split("=", 1) for peer in options.peer))
    text = report(results, chosen, "python benchmarks/flows.py --peer ... --write")
    print(text)
    if options.write:
        (HERE / "results" / "flows.md").write_text(text)
