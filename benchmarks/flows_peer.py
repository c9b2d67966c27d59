"""One of flowjax, bijx and zuko on the data of benchmarks/flows.py, in its own environment.

python benchmarks/flows_peer.py LIBRARY data.npz settings.json result.json
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path

import numpy as np

BINS, BOUND = 8, 6.0
DEPTH = 1  # blocks of the conditioners of bijx


class FlowJax:
    """flowjax: its coupling flow, and its own loop for the fits."""

    def __init__(self, dims, given, layers, hidden):
        import equinox as eqx
        import jax
        import jax.numpy as jnp
        from flowjax.bijections import RationalQuadraticSpline
        from flowjax.distributions import Normal
        from flowjax.flows import coupling_flow

        self.jax, self.eqx = jax, eqx
        self.flow = coupling_flow(
            jax.random.key(0), base_dist=Normal(jnp.zeros(dims)), cond_dim=given or None,
            transformer=RationalQuadraticSpline(knots=BINS - 1, interval=BOUND),  # inner knots
            flow_layers=layers, nn_width=hidden[0], nn_depth=len(hidden), nn_activation=jax.nn.silu,
        )  # fmt: skip
        leaves = jax.tree.leaves(eqx.filter(self.flow, eqx.is_inexact_array))
        self.parameters = sum(leaf.size for leaf in leaves)
        self._log = eqx.filter_jit(lambda f, x, c: f.log_prob(x, c))
        self._draw = eqx.filter_jit(lambda f, k, n: f.sample(k, (n,)))

    def fit(self, x, c, settings, seed):
        import optax
        from flowjax.train import fit_to_data

        data = x if c is None else (x, c)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule(settings)))
        self.flow, _ = fit_to_data(
            self.jax.random.key(seed), self.flow, data, optimizer=optimizer, val_prop=0.2,
            max_epochs=settings["epochs"], max_patience=settings["epochs"],
            batch_size=settings["batch"], show_progress=False,
        )  # fmt: skip

    def log_prob(self, x, c=None):
        return np.asarray(self._log(self.flow, x, c))

    def sample(self, number):
        return np.asarray(self._draw(self.flow, self.jax.random.key(1), number))

    def step(self, x):
        import optax
        import paramax

        eqx = self.eqx
        params, static = eqx.partition(
            self.flow, eqx.is_inexact_array, is_leaf=lambda n: isinstance(n, paramax.NonTrainable)
        )
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
        state = optimizer.init(params)

        @eqx.filter_jit
        def update(params, state):
            def loss(params):
                return -paramax.unwrap(eqx.combine(params, static)).log_prob(x).mean()

            gradient = self.jax.grad(loss)(params)
            updates, state = optimizer.update(gradient, state)
            return eqx.apply_updates(params, updates), state

        now = [params, state]

        def once():
            now[:] = update(*now)
            self.jax.block_until_ready(now[0])

        return once


class Bijx:
    """bijx: its coupling flow, which takes no condition; residual conditioners of one block."""

    def __init__(self, dims, given, layers, hidden):
        import bijx
        import jax
        import jax.numpy as jnp
        from flax import nnx

        self.jax, self.jnp, self.nnx = jax, jnp, nnx
        chain = bijx.coupling_flow(
            dims, lambda rngs: bijx.MonotoneRQSpline(BINS + 1, (), rngs=rngs), bias_mode="zeros",
            n_coupling_layers=layers, width=hidden[0], depth=DEPTH, rngs=nnx.Rngs(0),
            conditioner_activation=nnx.silu,
        )  # fmt: skip
        self.graph, self.state, self.rest = nnx.split(chain, nnx.Param, ...)
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state))
        self._log = jax.jit(self._density)

        @jax.jit
        def draw(state, z):
            u = (z + BOUND) / (2 * BOUND)  # its spline lives on the unit interval
            x, _ = nnx.merge(self.graph, state, self.rest).reverse(u, jnp.zeros(len(u)))
            return x * 2 * BOUND - BOUND

        self._draw, self.dims = draw, dims

    def _density(self, state, x):
        u = (x + BOUND) / (2 * BOUND)
        u, change = self.nnx.merge(self.graph, state, self.rest).forward(u, self.jnp.zeros(len(u)))
        z = u * 2 * BOUND - BOUND
        base = -0.5 * self.jnp.sum(z**2 + self.jnp.log(2 * self.jnp.pi), axis=-1)
        return base - change

    def fit(self, x, c, settings, seed):
        import optax

        rng = np.random.default_rng(seed)
        order = rng.permutation(len(x))
        held, rest = x[order[: len(x) // 5]], x[order[len(x) // 5 :]]
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule(settings)))
        state, own = self.state, optimizer.init(self.state)

        @self.jax.jit
        def update(state, own, batch):
            gradient = self.jax.grad(lambda s: -self._density(s, batch).mean())(state)
            updates, own = optimizer.update(gradient, own)
            return optax.apply_updates(state, updates), own

        best, size = np.inf, settings["batch"]
        for _ in range(settings["epochs"]):
            order = rng.permutation(len(rest))
            for k in range(len(rest) // size):
                state, own = update(state, own, rest[order[k * size : (k + 1) * size]])
            loss = -float(np.mean(self._log(state, held)))
            if loss < best:
                best, self.state = loss, state

    def log_prob(self, x, c=None):
        return np.asarray(self._log(self.state, x))

    def sample(self, number):
        z = self.jax.random.normal(self.jax.random.key(1), (number, self.dims))
        return np.asarray(self._draw(self.state, z))

    def step(self, x):
        import optax

        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
        now = [self.state, optimizer.init(self.state)]

        @self.jax.jit
        def update(state, own):
            gradient = self.jax.grad(lambda s: -self._density(s, x).mean())(state)
            updates, own = optimizer.update(gradient, own)
            return optax.apply_updates(state, updates), own

        def once():
            now[:] = update(*now)
            self.jax.block_until_ready(now[0])

        return once


class Zuko:
    """zuko: NSF with two passes, that is coupling; masked weights are not counted."""

    def __init__(self, dims, given, layers, hidden):
        import torch
        import zuko

        torch.manual_seed(0)
        self.torch, self.given = torch, given
        self.flow = zuko.flows.NSF(
            dims, given, bins=BINS, transforms=layers, passes=2, hidden_features=tuple(hidden),
            activation=torch.nn.SiLU,
        )  # fmt: skip
        total = sum(p.numel() for p in self.flow.parameters())
        for module in self.flow.modules():
            if hasattr(module, "mask") and module.mask is not None:
                total -= int((~module.mask.bool()).sum())
        self.parameters = total

    def fit(self, x, c, settings, seed):
        torch, rng = self.torch, np.random.default_rng(seed)
        order = rng.permutation(len(x))
        held, rest = order[: len(x) // 5], order[len(x) // 5 :]
        x = torch.as_tensor(x)
        c = None if c is None else torch.as_tensor(c)
        rate = schedule(settings)
        optimizer = torch.optim.Adam(self.flow.parameters(), lr=settings["rate"])
        best, kept, count, size = np.inf, None, 0, settings["batch"]
        for _ in range(settings["epochs"]):
            order = rng.permutation(rest)
            for k in range(len(rest) // size):
                at = order[k * size : (k + 1) * size]
                loss = -self.flow(None if c is None else c[at]).log_prob(x[at]).mean()
                optimizer.param_groups[0]["lr"] = float(rate(count))
                count += 1
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.flow.parameters(), 1.0)
                optimizer.step()
            with torch.no_grad():
                loss = -float(self.flow(None if c is None else c[held]).log_prob(x[held]).mean())
            if loss < best:
                best = loss
                kept = {k: v.clone() for k, v in self.flow.state_dict().items()}
        self.flow.load_state_dict(kept)

    def log_prob(self, x, c=None):
        torch = self.torch
        with torch.no_grad():
            c = None if c is None else torch.as_tensor(c)
            return self.flow(c).log_prob(torch.as_tensor(x)).numpy()

    def sample(self, number):
        with self.torch.no_grad():
            return self.flow().sample((number,)).numpy()

    def step(self, x):
        x = self.torch.as_tensor(x)
        optimizer = self.torch.optim.Adam(self.flow.parameters(), lr=1e-3)

        def once():
            optimizer.zero_grad()
            (-self.flow().log_prob(x).mean()).backward()
            self.torch.nn.utils.clip_grad_norm_(self.flow.parameters(), 1.0)
            optimizer.step()

        return once


def schedule(settings):
    """Return a cosine to a twentieth, as difana has it."""
    rate, steps = settings["rate"], settings["steps"]
    if sys.argv[1] == "zuko":
        return lambda k: rate * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * min(k / steps, 1))))
    import optax

    return optax.cosine_decay_schedule(rate, steps, alpha=0.05)


def timed(function, runs):
    """Return seconds of the first call, the median of the others, and their median CPU time."""
    seconds, cpu = [], []
    for _ in range(runs + 1):
        begin, used = time.perf_counter(), time.process_time()
        function()
        seconds.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - used)
    return seconds[0], float(np.median(seconds[1:])), float(np.median(cpu[1:]))


LIBRARIES = {"flowjax": FlowJax, "bijx": Bijx, "zuko": Zuko}


def main(library, make) -> dict:
    data, settings = np.load(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
    out = {"version": importlib.metadata.version(library), "fits": {}}
    for name in settings["fits"]:
        x, c = data[f"{name}_x"], data.get(f"{name}_c")
        if c is not None and library == "bijx":
            continue
        tx, tc = data[f"{name}_test_x"], data.get(f"{name}_test_c")
        rows = []
        for seed in range(settings["seeds"]):
            model = make(x.shape[1], 0 if c is None else c.shape[1], 5, (64, 64))
            begin = time.perf_counter()
            model.fit(x, c, settings, seed)
            seconds = time.perf_counter() - begin
            logs = model.log_prob(tx, tc)
            rows.append([float(logs.mean()), float(logs.std() / len(logs) ** 0.5), seconds])
        out["fits"][name] = {"rows": rows, "parameters": int(model.parameters)}
    speed = settings["speed"]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(speed["rows"], speed["dims"])).astype(np.float32)
    model = make(speed["dims"], 0, speed["layers"], (64, 64))
    draws = len(x) // (10 if library == "zuko" else 1)  # minutes otherwise
    out["speed"] = {
        "parameters": int(model.parameters),
        "log_prob": timed(lambda: model.log_prob(x), 3),
        "sample": timed(lambda: model.sample(draws), 3),
        "draws": draws,
        "step": timed(model.step(x[: speed["batch"]]), 5),
    }
    return out


if __name__ == "__main__":
    found = main(sys.argv[1], LIBRARIES[sys.argv[1]])
    Path(sys.argv[4]).write_text(json.dumps(found))
