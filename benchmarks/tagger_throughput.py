"""Forward pass and training step of taggers beside their originals in torch, in one run.

    python benchmarks/tagger_throughput.py --peer torch-env/bin/python [--events 256] [--write]

Both get two threads; first call, then the median of the following ones. The environment of the peer
needs torch, weaver-core, lgatr and lloca.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from difana.nn import batch_statistics, training_mode
from difana.nn.taggers import LGATrSlim, LLoCaTransformer, ParticleNet, ParticleTransformer

HERE = Path(__file__).parent
MAKE = {
    "particle_net": lambda key: ParticleNet(2, key=key),
    "particle_transformer": lambda key: ParticleTransformer(2, key=key),
    "lgatr_slim": lambda key: LGATrSlim(2, spurions=False, key=key),
    "lloca": lambda key: LLoCaTransformer(2, spurions=False, key=key),
}


def own(name: str, events: int, particles: int, repeats: int) -> dict:
    """Return the figures of one network of difana."""
    sys.path.insert(0, str(HERE))
    rng = np.random.default_rng(0)
    shape = (events, particles)
    pt, eta, phi = (
        rng.exponential(20, shape) + 1,
        rng.normal(0.3, 0.3, shape),
        rng.normal(1, 0.3, shape),
    )
    p = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], -1)
    energy = np.sqrt((p**2).sum(-1) + 0.14**2)
    x = jnp.asarray(np.concatenate([energy[..., None], p], -1), jnp.float32)
    mask, labels = jnp.ones(shape, bool), jnp.arange(events) % 2
    net = jax.jit(MAKE[name])(jax.random.key(0))
    optimizer = optax.adam(1e-3)
    weights, rest = nnx.split(net, nnx.Param, ...)[1:]
    graph = nnx.split(net, nnx.Param, ...)[0]
    state = optimizer.init(weights)

    @jax.jit
    def forward(weights, rest, x):
        return nnx.merge(graph, weights, rest)(x, mask)

    @jax.jit
    def step(weights, rest, state, x):
        def loss(weights):
            net = training_mode(nnx.merge(graph, weights, rest))
            out = net(x, mask)
            entropy = optax.softmax_cross_entropy_with_integer_labels(out, labels)
            return entropy.mean(), batch_statistics(net)

        (value, _), slope = jax.value_and_grad(loss, has_aux=True)(weights)
        change, state = optimizer.update(slope, state, weights)
        return value, optax.apply_updates(weights, change), state

    found = {}
    calls = {
        "forward": lambda: jax.block_until_ready(forward(weights, rest, x)),
        "step": lambda: jax.block_until_ready(step(weights, rest, state, x)),
    }
    for key, function in calls.items():
        begin = time.perf_counter()
        function()
        found[f"{key}_first"] = time.perf_counter() - begin
        each = []
        for _ in range(repeats):
            begin = time.perf_counter()
            function()
            each.append(time.perf_counter() - begin)
        found[key] = float(np.median(each))
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(weights))
    return found


def child(command: list[str]) -> dict:
    """Return what a process of its own prints last: memory is that of one network."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Time all networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="python of an environment with the originals")
    parser.add_argument("--own", help=argparse.SUPPRESS)
    parser.add_argument("--events", type=int, default=256)
    parser.add_argument("--particles", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(MAKE))
    parser.add_argument("--write", action="store_true", help="write the record")
    options = parser.parse_args()
    if options.own:
        job = json.loads(options.own)
        print(json.dumps(own(job["name"], job["events"], job["particles"], job["repeats"])))
        return
    rows = []
    for name in options.only:
        for particles in options.particles:
            job = json.dumps({"name": name, "events": options.events, "particles": particles,
                              "repeats": options.repeats})  # fmt: skip
            figures = {"difana": child([sys.executable, __file__, "--own", job])}
            if options.peer:
                script = str(HERE / "_tagger_peers.py")
                figures["torch"] = child([options.peer, script, "times", job])
            for which, f in figures.items():
                ratios = [figures["torch"][k] / f[k] if "torch" in figures else 1.0
                          for k in ("forward", "step")]  # fmt: skip
                rows.append(
                    f"| {name} | {options.events} x {particles} | {which} | {f['parameters']:,} |"
                    f" {f['forward_first']:.2f} | {f['forward']:.3f} | {ratios[0]:.2f} |"
                    f" {f['step_first']:.2f} | {f['step']:.3f} | {ratios[1]:.2f} |"
                    f" {f['memory']:.1f} |"
                )
                print(rows[-1], flush=True)
    heads = ["network", "jets x particles", "program", "parameters", "forward, first call [s]",
             "forward [s]", "x torch", "step, first call [s]", "step [s]", "x torch",
             "memory [GiB]"]  # fmt: skip
    command = "`python benchmarks/tagger_throughput.py --peer torch-env/bin/python --write`"
    text = [
        "# Throughput of taggers beside their originals in torch",
        "",
        f"{command}; jax {jax.__version__}, {jax.default_backend()}, two cores.",
        "",
        "Published sizes; medians; a step is forward, backward and Adam. Peak memory of a process.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *rows,
        "",
    ]
    print("\n".join(text))
    if options.write:
        (HERE / "results" / "tagger_throughput.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
