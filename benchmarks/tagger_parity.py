"""Taggers against their originals in torch: random weights copied over, outputs compared.

    python benchmarks/tagger_parity.py --peer torch-env/bin/python [--write]

The environment needs torch, weaver-core, lgatr and lloca. Everything runs in float64: what differs
is what is computed, not how it is rounded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import difana
from difana._numerics import third_party_promotion
from difana.nn.taggers import (
    LGATrSlim,
    ParticleNet,
    ParticleTransformer,
    Transformer,
    pair_features,
)
from difana.nn.taggers.frames import LocalFrames
from difana.nn.taggers.transformer import Transport

RECORD = Path(__file__).with_name("results") / "tagger_parity.md"
KEY = jax.random.key(0)
COMMAND = "`python benchmarks/tagger_parity.py --peer torch-env/bin/python --write`"


class Weights:
    """Weights of one original, by name; remembers which were taken."""

    def __init__(self, found, name):
        prefix = f"{name}/"
        self.values = {k.removeprefix(prefix): found[k] for k in found if k.startswith(prefix)}
        self.left = {k for k in self.values if "num_batches" not in k}

    def __getitem__(self, name):
        self.left.discard(name)
        return jnp.asarray(self.values[name])

    def linear(self, layer, name):
        kernel = self[f"{name}.weight"]
        layer.kernel[...] = kernel.reshape(kernel.shape[:2]).T
        if layer.bias is not None:
            layer.bias[...] = self[f"{name}.bias"]

    def norm(self, layer, name):
        layer.scale[...], layer.bias[...] = self[f"{name}.weight"], self[f"{name}.bias"]
        if hasattr(layer, "mean"):
            layer.mean[...] = self[f"{name}.running_mean"]
            layer.var[...] = self[f"{name}.running_var"]


def particle_net(found):
    w = Weights(found, "particle_net")
    blocks = ((7, (32, 32, 32)), (7, (64, 64, 64)))
    net = ParticleNet(2, blocks=blocks, hidden=(128,), fusion=128, dtype=jnp.float64, key=KEY)
    w.norm(net.norm, "bn_fts")
    for i, block in enumerate(net.blocks):
        for j in range(3):
            w.linear(block.maps[j], f"edge_convs.{i}.convs.{j}")
            w.norm(block.norms[j], f"edge_convs.{i}.bns.{j}")
        w.linear(block.short, f"edge_convs.{i}.sc")
        w.norm(block.short_norm, f"edge_convs.{i}.sc_bn")
    w.linear(net.fusion, "fusion_block.0")
    w.norm(net.fusion_norm, "fusion_block.1")
    w.linear(net.head.layers[0], "fc.0.0")
    w.linear(net.head.layers[1], "fc.1")
    x, mask = (jnp.asarray(found[k]) for k in ("x", "mask"))
    out = net.classify(net.embed_features(x[..., :2], x, mask))
    return w, {"logits": (out, found["particle_net:out"])}


def particle_transformer(found):
    w = Weights(found, "particle_transformer")
    net = ParticleTransformer(
        2, embedding=(32, 64, 32), pairs=(16, 16), heads=4, blocks=2, class_blocks=1,
        dtype=jnp.float64, key=KEY,
    )  # fmt: skip
    w.norm(net.input_norm, "embed.input_bn")
    for i in range(3):
        w.norm(net.norms[i], f"embed.embed.{3 * i}")
        w.linear(net.maps[i], f"embed.embed.{3 * i + 1}")
        w.linear(net.pairs.maps[i], f"pair_embed.embed.{3 * i + 1}")
        w.norm(net.pairs.norms[i], f"pair_embed.embed.{3 * i + 2}")
    w.norm(net.pairs.first, "pair_embed.embed.0")
    blocks = [(b, f"blocks.{i}") for i, b in enumerate(net.blocks)]
    for block, name in [*blocks, (net.class_blocks[0], "cls_blocks.0")]:
        block.head_scale[...] = w[f"{name}.c_attn"]
        block.residual_scale[...] = w[f"{name}.w_resid"]
        for own, theirs in (
            ("before", "pre_attn_norm"),
            ("behind", "post_attn_norm"),
            ("before_hidden", "pre_fc_norm"),
            ("behind_hidden", "post_fc_norm"),
        ):
            w.norm(getattr(block, own), f"{name}.{theirs}")
        for own, theirs in (
            ("qkv", "attn.in_proj"),
            ("mix", "attn.out_proj"),
            ("widen", "fc1"),
            ("narrow", "fc2"),
        ):
            w.linear(getattr(block, own), f"{name}.{theirs}")
    net.token[...] = w["cls_token"]
    w.norm(net.last, "norm")
    w.linear(net.head.layers[0], "fc.0")
    x, mask, p = (jnp.asarray(found[k]) for k in ("x", "mask", "p"))
    p = p.astype(jnp.float64)
    out = net.classify(net.embed_features(x.astype(p.dtype), pair_features(p, mask), mask))
    return w, {"logits": (out, found["particle_transformer:out"])}


def lgatr_slim(found):
    w = Weights(found, "lgatr_slim")
    net = LGATrSlim(
        2, vectors=8, scalars=16, heads=4, blocks=2, expansion=2, spurions=False, extras=6,
        dtype=jnp.float64, key=KEY,
    )  # fmt: skip

    def both(layer, name):
        layer.vectors[...] = w[f"{name}.weight_v"].T
        layer.scalars[...] = w[f"{name}.linear_s.weight"].T
        if layer.bias is not None:
            layer.bias[...] = w[f"{name}.linear_s.bias"]

    both(net.first, "linear_in")
    for i, block in enumerate(net.blocks):
        for k, gain in enumerate(block.gains):
            gain[...] = w[f"blocks.{i}.norm{1 + k // 2}.weight_{'vs'[k % 2]}"]
        both(block.qkv, f"blocks.{i}.attention.linear_in")
        both(block.mix, f"blocks.{i}.attention.linear_out")
        both(block.gate, f"blocks.{i}.mlp.layers.0.linear")
        both(block.narrow, f"blocks.{i}.mlp.layers.1")
    p, x, mask = (jnp.asarray(found[k]) for k in ("p", "x", "mask"))
    v, s = net.transform((p.astype(jnp.float64) / 20)[..., None], x.astype(jnp.float64), mask)
    v = v @ w["linear_out.weight_v"].T
    s = s @ w["linear_out.linear_s.weight"].T + w["linear_out.linear_s.bias"]
    there = np.asarray(mask)
    return w, {
        "vectors": (np.swapaxes(v, -1, -2)[there], found["lgatr_slim:vectors"][there]),
        "scalars": (s[there], found["lgatr_slim:scalars"][there]),
    }


def lloca(found):
    w = Weights(found, "lloca")
    frames = LocalFrames(
        7, hidden=16, layers=2, spurions=False, mass=0.0,
        centre=float(w["frames.equivectors.block.edge_mean"]),
        width=float(w["frames.equivectors.block.edge_std"]), dtype=jnp.float64, key=KEY,
    )  # fmt: skip
    w.left.discard("frames.equivectors.block.edge_inited")
    for i, layer in enumerate(frames.net.layers):
        w.linear(layer, f"frames.equivectors.block.mlp.mlp.{2 * i}")
    net = Transformer(2, width=32, heads=2, blocks=2, dtype=jnp.float64, key=KEY)
    w.linear(net.first, "net.linear_in")
    for i, block in enumerate(net.blocks):
        for own, theirs in (
            ("qkv", "attention.qkv_linear.linear"),
            ("mix", "attention.out_linear"),
            ("widen", "mlp.0"),
            ("narrow", "mlp.3"),
        ):
            w.linear(getattr(block, own), f"net.blocks.{i}.{theirs}")
    w.linear(net.head, "net.linear_out")
    p, x = (jnp.asarray(found[k]).astype(jnp.float64) for k in ("full_p", "full_x"))
    mask = jnp.ones(p.shape[:2], bool)
    own = frames(p, x, mask)
    transport = Transport(own, p.sum(axis=1), scalars=8)
    out = net.head(net.transform(x, mask, transport=transport))
    w.left -= {k for k in w.left if "parity_odd" in k}
    return w, {
        "frames": (own, found["lloca:frames"]),
        "outputs": (out, found["lloca:out"]),
    }


ORIGINALS = {
    "ParticleNet": ("weaver-core", particle_net),
    "Particle Transformer": ("weaver-core", particle_transformer),
    "L-GATr-slim": ("lgatr", lgatr_slim),
    "LLoCa frames and transformer": ("lloca", lloca),
}


def versions(python):
    code = (
        "from importlib.metadata import version as v\n"
        "print(', '.join(f'{n} {v(n)}' for n in ('torch', 'weaver-core', 'lgatr', 'lloca')))"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="python of an environment with the originals")
    parser.add_argument("--write", action="store_true", help="write the record")
    options = parser.parse_args()
    difana.enable_x64()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "parity.npz")
        script = Path(__file__).with_name("_tagger_peers.py")
        subprocess.run([options.peer, str(script), "parity", str(path)], check=True,
                       stderr=subprocess.DEVNULL)  # fmt: skip
        found = dict(np.load(path))
    rows, worst = [], 0.0
    for name, (package, function) in ORIGINALS.items():
        with third_party_promotion():
            weights, pairs = function(found)
        if weights.left:
            print(f"{name}: weights not used: {sorted(weights.left)}")
        for what, (own, theirs) in pairs.items():
            size = float(np.max(np.abs(theirs)))
            difference = float(np.max(np.abs(np.asarray(own) - theirs)))
            worst = max(worst, difference / max(size, 1))
            rows.append(f"| {name} | {package} | {what} | {size:.3g} | {difference:.1e} |")
    text = [
        "# Taggers against their originals",
        "",
        f"{COMMAND}; jax {jax.__version__}, {versions(options.peer).strip()}.",
        "",
        "Random weights (running statistics included) of the original in torch are copied; 8 jets",
        "with 20 to 40 particles beside padding (LLoCa: 20, no padding); float64.",
        "",
        "| network | package | what | largest value | largest difference |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    print("\n".join(text))
    if options.write:
        RECORD.write_text("\n".join(text), encoding="utf-8")
    sys.exit(worst > 1e-5)


if __name__ == "__main__":
    main()
