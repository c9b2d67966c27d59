"""Batch normalisation, dropout and averaged weights resume bit for bit after kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = '''
import os, signal, sys, threading
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np, optax
from flax import nnx
from difana import train
from difana.nn import batch_statistics, evaluation_mode, trainable, training_mode

STEPS, LAST = 12, 8
rng = np.random.default_rng(0)
x = rng.normal(size=(64, 2)).astype(np.float32)
rows = {"x": x, "y": (x[:, :1] * x[:, 1:] > 0).astype(np.float32)}

class Net(nnx.Module):
    def __init__(self, *, norm=False, drop=False):
        rngs = nnx.Rngs(0)
        # a bias before the norm has no gradient but rounding, which Adam would blow up
        self.first = nnx.Linear(2, 4, use_bias=not norm, rngs=rngs)
        self.last = nnx.Linear(4, 1, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.7, rngs=rngs) if norm else None
        self.drop = nnx.Dropout(0.3, rngs=rngs) if drop else None

    def __call__(self, x):
        x = self.first(x)
        x = x if self.norm is None else self.norm(x)
        x = jnp.tanh(x)
        return self.last(x if self.drop is None else self.drop(x))

def entropy(net, batch):
    return jnp.mean(optax.sigmoid_binary_cross_entropy(net(batch["x"]), batch["y"]))

def loss(net, batch, step, memory):
    net = training_mode(net, statistics=memory, key=step.key)
    return entropy(net, batch), {}, batch_statistics(net)

@jax.jit
def validate(net, memory):
    return entropy(evaluation_mode(net, statistics=memory), rows), {}

CASES = {
    (name, devices): options
    for devices in (1, 8)
    for name, options in {
        "norm": ({"norm": True}, {}), "drop": ({"drop": True}, {}), "mean": ({}, {"average": 0.9})
    }.items()
}

class Watcher:
    """Says where a training begins; in one to be killed it waits for the end behind LAST."""
    def __init__(self, arrived):
        self.arrived = arrived
    def start(self, *, stage, step):
        self.begin = step
    def log(self, record):
        if self.arrived is not None and record["step"] > LAST:
            self.arrived.set()
            threading.Event().wait()
    def close(self):
        pass

def run(case, folder, arrived=None):
    name, devices = case
    kind, options = CASES[case]
    net, watcher = Net(**kind), Watcher(arrived)
    result = train.minimise(
        loss, net, train.RowSampler(rows, key=jax.random.key(1), size=16), steps=STEPS,
        optimizer=optax.adam(0.05), key=jax.random.key(2), trained=trainable(net),
        memory=batch_statistics(net), validate=validate, validate_every=3, checkpoint=folder,
        checkpoint_every=4, logger=watcher, **options,
        mesh=None if devices == 1 else jax.make_mesh((devices,), ("rows",)),
    )
    leaves = jax.tree.leaves((result.last, result.trainable, result.memory))
    plain = [x for x in leaves if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return watcher.begin, b"".join(np.asarray(x).tobytes() for x in plain), result

assert jax.device_count() == 8
base = Path(sys.argv[1])
if sys.argv[2] == "kill":  # all trainings are in the middle when the process dies
    for case in CASES:
        arrived = threading.Event()
        folder = base / "{}-{}".format(*case)
        threading.Thread(target=run, args=(case, folder, arrived), daemon=True).start()
        assert arrived.wait(120)
    os.kill(os.getpid(), signal.SIGKILL)
ends = {}
for case in CASES:
    folder = base / "{}-{}".format(*case)
    begin, resumed, result = run(case, folder)
    first, whole, _ = run(case, base / "whole" / folder.name)
    same = resumed == whole
    same &= (folder / "history.jsonl").read_bytes() == (
        base / "whole" / folder.name / "history.jsonl").read_bytes()
    ends[case] = result.history[-1]["metric"]
    print(*case, begin, first, same)
for name in ("norm", "drop", "mean"):
    assert abs(ends[name, 1] - ends[name, 8]) < 1e-4, ends
assert len({round(end, 4) for end in ends.values()}) == 3, ends
'''


def test_kill_9_of_networks_with_norm_dropout_and_average(tmp_path):
    def run(mode):
        environment = os.environ | {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, "-c", SCRIPT, str(tmp_path), mode]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    killed = run("kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = run("resume")
    assert done.returncode == 0, done.stderr
    expected = [
        f"{name} {devices} 8 -1 True" for devices in (1, 8) for name in ("norm", "drop", "mean")
    ]
    assert done.stdout.splitlines() == expected
