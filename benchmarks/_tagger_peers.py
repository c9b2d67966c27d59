"""Original taggers in torch, in an environment of their own: weights, inputs, outputs, times.

``python _tagger_peers.py parity OUT.npz`` or ``python _tagger_peers.py times JSON``; read by
``tagger_parity.py`` and ``tagger_throughput.py``.
"""

# ruff: noqa: C408, FBT002, FBT003, RUF021
from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np
import torch

THREADS = 2


def jets(events, particles, seed=0, full=False):
    """Return momenta (E, px, py, pz) and mask of jets around one direction."""
    rng = np.random.default_rng(seed)
    shape = (events, particles)
    pt, eta, phi = (
        rng.exponential(20, shape) + 1,
        rng.normal(0.3, 0.3, shape),
        rng.normal(1, 0.3, shape),
    )
    p = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], -1)
    energy = np.sqrt((p**2).sum(-1) + 0.14**2)
    p = np.concatenate([energy[..., None], p], -1)
    low = particles if full else particles // 2
    mask = np.arange(particles) < rng.integers(low, particles + 1, events)[:, None]
    mask[0] = True
    return (p * mask[..., None]).astype(np.float32), mask


def features(p, mask, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*mask.shape, 7)).astype(np.float32)
    return x * mask[..., None]


def shaken(model, seed=2):
    """Give every weight and running statistic a random value; the state of evaluation."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if not x.is_floating_point() or "metric" in name or not x.numel():
                continue
            fresh = rng.normal(0, 0.1, x.shape)
            if (
                name.endswith("running_var")
                or x.ndim < 2
                and "weight" in name
                or "c_attn" in name
                or "w_resid" in name
            ):
                fresh = 1 + fresh / 2
            elif x.ndim > 1:
                fresh = rng.normal(0, 1, x.shape) / x.shape[1] ** 0.5
            x.copy_(torch.as_tensor(np.asarray(fresh), dtype=x.dtype))
    return model.eval()


def particle_net(small=True):
    from weaver.nn.model.ParticleNet import ParticleNet

    conv = (
        [(7, (32, 32, 32)), (7, (64, 64, 64))]
        if small
        else [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))]
    )
    return ParticleNet(
        7,
        2,
        conv_params=conv,
        fc_params=[(128 if small else 256, 0.0)],
        use_fusion=small,
        trim=False,
    )


def particle_transformer(small=True):
    from weaver.nn.model.ParticleTransformer import ParticleTransformer

    size = (
        dict(
            embed_dims=(32, 64, 32),
            pair_embed_dims=(16, 16),
            num_heads=4,
            num_layers=2,
            num_cls_layers=1,
        )
        if small
        else {}
    )
    return ParticleTransformer(7, num_classes=2, trim=False, **size)


def slim(small=True):
    from lgatr.nets.slim import LGATrSlim

    size = (
        dict(num_blocks=2, hidden_v_channels=8, hidden_s_channels=16, num_heads=4, mlp_ratio=2)
        if small
        else dict(
            num_blocks=12, hidden_v_channels=32, hidden_s_channels=96, num_heads=8, mlp_ratio=4
        )
    )
    return LGATrSlim(in_v_channels=1, out_v_channels=1, in_s_channels=7, out_s_channels=2, **size)


class LLoCa(torch.nn.Module):
    def __init__(self, small=True):
        from functools import partial

        from lloca.backbone.transformer import Transformer
        from lloca.equivectors.mlp import MLPVectors
        from lloca.framesnet.equi_frames import LearnedPDFrames

        super().__init__()
        hidden = 16 if small else 32
        vectors = partial(MLPVectors, num_scalars=7, hidden_channels=hidden, num_layers_mlp=2)
        self.frames = LearnedPDFrames(vectors, ortho_kwargs={"use_float64": small})
        self.frames.equivectors.block.edge_inited.fill_(True)
        reps = "8x0n+2x1n"
        self.net = Transformer(
            7, reps, 2, num_blocks=2 if small else 10, num_heads=2 if small else 8
        )

    def forward(self, p, x):
        frames = self.frames(p, scalars=x)
        return frames, self.net(x, frames, p_ref=p.sum(1))


def parity(path):
    torch.set_default_dtype(torch.float64)
    found = {}
    p, mask = jets(8, 40)
    x = features(p, mask)
    found |= {"p": p, "mask": mask, "x": x}
    t = {k: torch.as_tensor(v) for k, v in (("p", p), ("x", x))}
    t = {k: v.to(torch.float64) for k, v in t.items()}
    m = torch.as_tensor(mask)[:, None]

    def keep(name, model, **out):
        for key, value in model.state_dict().items():
            found[f"{name}/{key}"] = value.numpy()
        for key, value in out.items():
            found[f"{name}:{key}"] = value.detach().numpy()

    columns = lambda v: v.transpose(1, 2)  # noqa: E731
    net = shaken(particle_net())
    keep("particle_net", net, out=net(columns(t["x"])[:, :2], columns(t["x"]), m))
    net = shaken(particle_transformer())
    v = columns(t["p"][..., [1, 2, 3, 0]])
    keep("particle_transformer", net, out=net(columns(t["x"]), v, m))
    net = shaken(slim())
    vo, so = net(t["p"][..., None, :] / 20, t["x"], attn_mask=m[:, None])
    keep("lgatr_slim", net, vectors=vo, scalars=so)
    p, _ = jets(8, 20, full=True, seed=4)
    x = features(p, np.ones((8, 20), bool), seed=5)
    found |= {"full_p": p, "full_x": x}
    net = shaken(LLoCa())
    frames, out = net(torch.as_tensor(p).to(torch.float64), torch.as_tensor(x).to(torch.float64))
    keep("lloca", net, frames=frames.matrices, out=out)
    np.savez(path, **found)


def times(text):
    """Print seconds of a forward pass and of a training step, and the peak memory."""
    job = json.loads(text)
    torch.set_num_threads(THREADS)
    p, mask = jets(job["events"], job["particles"], full=True)
    x = features(p, mask)
    tp, tx, m = torch.as_tensor(p), torch.as_tensor(x), torch.as_tensor(mask)[:, None]
    columns = tx.transpose(1, 2).contiguous()
    v = tp[..., [1, 2, 3, 0]].transpose(1, 2).contiguous()
    name = job["name"]
    if name == "particle_net":
        net = particle_net(small=False)
        run = lambda: net(columns[:, :2], columns, m)  # noqa: E731
    elif name == "particle_transformer":
        net = particle_transformer(small=False)
        run = lambda: net(columns, v, m)  # noqa: E731
    elif name == "lgatr_slim":
        net = slim(small=False)
        run = lambda: net(tp[..., None, :] / 20, tx, attn_mask=m[:, None])[1].mean(1)  # noqa: E731
    else:
        net = LLoCa(small=False)
        run = lambda: net(tp, tx)[1].mean(1)  # noqa: E731
    labels = torch.arange(len(p)) % 2
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step():
        net.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(run(), labels).backward()
        optimizer.step()

    def forward():
        net.eval()
        with torch.no_grad():
            run()

    found = {}
    for key, function in (("forward", forward), ("step", step)):
        begin = time.perf_counter()
        function()
        found[f"{key}_first"] = time.perf_counter() - begin
        each = []
        for _ in range(job["repeats"]):
            begin = time.perf_counter()
            function()
            each.append(time.perf_counter() - begin)
        found[key] = float(np.median(each))
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found["parameters"] = sum(q.numel() for q in net.parameters())
    print(json.dumps(found))


if __name__ == "__main__":
    {"parity": parity, "times": times}[sys.argv[1]](sys.argv[2])
