"""The good files that fuzz.py damages, and how each is used, as a person would use it."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

KINDS = (
    "workspace", "limit", "hs3", "patch", "patchset", "xml", "analysis YAML", "unfolding YAML",
    "ROOT", "HDF5", "parquet", "checkpoint", "weights", "expression",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Good:
    """A good file: its bytes, and a function that uses (bad) bytes in a folder."""

    data: bytes
    use: Callable[[bytes, Path], int]
    text: bool = False
    json: bool = False


def command(*words: str) -> int:
    """Run a command of difana in this process; return its exit code."""
    from difana.cli import main

    main(list(words), standalone_mode=True)
    return 0


def answered(call: Callable[[], Any]) -> int:
    """Call a function; what is wrong with its input is exit code 2."""
    from difana._errors import DifanaError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except DifanaError as error:
        print(f"Error: {error}")
        return 2
    return 0


def written(content: bytes, folder: Path, name: str) -> str:
    """Write bytes to a file and return its path."""
    path = folder / name
    path.write_bytes(content)
    return str(path)


def workspace() -> dict[str, Any]:
    """Return a workspace with every modifier and two channels."""

    def sample(name: str, data: list[float], *modifiers: tuple[str, str, Any]) -> dict[str, Any]:
        rows = [{"name": n, "type": t, "data": d} for n, t, d in modifiers]
        return {"name": name, "data": data, "modifiers": rows}

    shape = {"hi_data": [52.0, 41.0], "lo_data": [48.0, 39.0]}
    signal = sample(
        "signal", [5.0, 10.0], ("mu", "normfactor", None), ("lumi", "lumi", None),
        ("eff", "normsys", {"hi": 1.1, "lo": 0.9}),
    )  # fmt: skip
    background = sample(
        "background", [50.0, 40.0], ("shape", "histosys", shape), ("stat_SR", "staterror", [2, 3]),
        ("eff", "normsys", {"hi": 1.05, "lo": 0.95}),
    )  # fmt: skip
    control = sample(
        "background", [500.0], ("free", "shapefactor", None), ("unc", "shapesys", [20.0]),
    )  # fmt: skip
    lumi = {"name": "lumi", "auxdata": [1.0], "sigmas": [0.02], "inits": [1.0],
            "bounds": [[0.9, 1.1]], "fixed": False}  # fmt: skip
    bounds = {"name": "mu", "bounds": [[0.0, 10.0]], "inits": [1.0]}
    return {
        "channels": [
            {"name": "SR", "samples": [signal, background]},
            {"name": "CR", "samples": [control]},
        ],
        "observations": [{"name": "SR", "data": [53, 47]}, {"name": "CR", "data": [498]}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": [lumi, bounds]}}],
        "version": "1.0.0",
    }


def _workspaces(kind: str, folder: Path) -> list[Good]:
    base = folder / "base.json"
    base.write_text(json.dumps(workspace()), encoding="utf-8")
    if kind == "patchset":
        patch = [{"op": "replace", "path": "/channels/0/samples/0/data", "value": [7.0, 3.0]}]
        labels = ["mass", "width"]
        spec = {
            "metadata": {
                "name": "set", "labels": labels, "description": "two points",
                "references": {"hepdata": "ins1234567"}, "digests": {"sha256": "0" * 64},
            },
            "patches": [
                {"metadata": {"name": f"p{i}", "values": [100.0 * i, 1.0]}, "patch": patch}
                for i in (1, 2)
            ],
            "version": "1.0.0",
        }  # fmt: skip
        spec["metadata"]["digests"] = {}
        words = ("inspect", str(base), "--point", "p1", "--patchset")
        use = lambda content, here: command(*words, written(content, here, "bad.json"))  # noqa: E731
        return [Good(json.dumps(spec).encode(), use, text=True, json=True)]
    if kind == "patch":
        patches = [
            [{"op": "replace", "path": "/channels/0/samples/0/data/1", "value": 3.0}],
            [{"op": "remove", "path": "/channels/1"}, {"op": "remove", "path": "/observations/1"}],
            [
                {
                    "op": "add",
                    "path": "/channels/0/samples/-",
                    "value": workspace()["channels"][0]["samples"][1] | {"name": "more"},
                }
            ],
            [{"op": "test", "path": "/version", "value": "1.0.0"}],
        ]
        words = ("inspect", str(base), "--patch")
        use = lambda content, here: command(*words, written(content, here, "bad.json"))  # noqa: E731
        return [Good(json.dumps(patch).encode(), use, text=True, json=True) for patch in patches]
    if kind == "hs3":

        def write() -> None:
            from difana.likelihood import from_workspace, to_hs3

            model, data = from_workspace(workspace())
            spec = to_hs3(model, np.asarray(data)[: model.bins])
            (folder / "hs3.json").write_text(json.dumps(spec), encoding="utf-8")

        in_child(write)
        spec = json.loads((folder / "hs3.json").read_text(encoding="utf-8"))
        use = lambda content, here: command("inspect", written(content, here, "bad.json"))  # noqa: E731
        return [Good(json.dumps(spec).encode(), use, text=True, json=True)]
    name = "limit" if kind == "limit" else "inspect"
    use = lambda content, here: command(name, written(content, here, "bad.json"))  # noqa: E731
    return [Good(json.dumps(workspace()).encode(), use, text=True, json=True)]


def _xml(folder: Path) -> list[Good]:
    import uproot

    home = folder / "xml"
    home.mkdir(exist_ok=True)
    edges = np.linspace(0.0, 2.0, 3)
    with uproot.recreate(home / "h.root") as file:
        for name, values in {"signal": [5.0, 10.0], "background": [50.0, 40.0]}.items():
            file[name] = (np.array(values), edges)
        file["data"] = (np.array([53.0, 47.0]), edges)
    channel = """<!DOCTYPE Channel SYSTEM 'HistFactorySchema.dtd'>
<Channel Name="SR" InputFile="h.root">
  <Data HistoName="data" HistoPath="" />
  <StatErrorConfig RelErrorThreshold="0.05" ConstraintType="Gaussian" />
  <Sample Name="signal" HistoPath="" HistoName="signal" NormalizeByTheory="True">
    <NormFactor Name="mu" Val="1" Low="0" High="10" />
    <OverallSys Name="eff" Low="0.9" High="1.1" />
  </Sample>
  <Sample Name="background" HistoPath="" HistoName="background" NormalizeByTheory="True">
    <StatError Activate="True" />
  </Sample>
</Channel>
"""
    top = """<!DOCTYPE Combination SYSTEM 'HistFactorySchema.dtd'>
<Combination OutputFilePrefix="results/x">
  <Input>channel.xml</Input>
  <Measurement Name="m" Lumi="1." LumiRelErr="0.02"><POI>mu</POI></Measurement>
</Combination>
"""

    def use(name: str) -> Callable[[bytes, Path], int]:
        def read(content: bytes, _: Path) -> int:
            files = {"top.xml": top.encode(), "channel.xml": channel.encode(), name: content}
            for file, data in files.items():
                (home / file).write_bytes(data)
            return command("inspect", str(home / "top.xml"))

        return read

    return [
        Good(top.encode(), use("top.xml"), text=True),
        Good(channel.encode(), use("channel.xml"), text=True),
        Good((home / "h.root").read_bytes(), use("h.root")),
    ]


def _analysis(folder: Path) -> list[Good]:
    from difana.cli.demo import CONFIG
    from difana.data.generate import write_resonance

    in_child(lambda: write_resonance(folder / "ntuples", seed=1, events=100))

    def use(content: bytes, here: Path) -> int:
        from difana.analysis import load, read_config

        path = written(content, here, "bad.yaml")
        return answered(lambda: load(read_config(path)))

    return [Good(CONFIG.format(seed=1).encode(), use, text=True)]


def _unfolding() -> list[Good]:
    text = """General: {Method: OmniFold, Seed: 1, Fiducial: pt > 20 GeV, Luminosity: 139 fb^-1}
Simulation:
  Files: mc.root
  Tree: events
  PassGen: gen_pt > 20
  GenWeight: weight
Data: {Files: data.root, Tree: events, Filter: reco_pt > 20}
Observables:
  - {Name: pt, Gen: gen_pt, Reco: reco_pt, Unit: GeV, Edges: [20, 40, 60, 100, 200]}
Systematics:
  - {Name: efficiency, RecoWeight: weight * scale_factor_up}
Options: {Iterations: 4, Bootstraps: 50}
"""

    def use(content: bytes, here: Path) -> int:
        from difana.unfold import read_unfolding

        path = written(content, here, "bad.yaml")
        return answered(lambda: read_unfolding(path))

    return [Good(text.encode(), use, text=True)]


def _events(kind: str, folder: Path) -> list[Good]:
    import awkward as ak

    rng = np.random.default_rng(1)
    flat = {
        "pt": rng.exponential(50.0, 300),
        "event": np.arange(300),
        "tag": np.array(["a", "bb", "ccc"] * 100),
    }
    counts = rng.poisson(2.0, 300)
    lists = ak.unflatten(rng.normal(size=int(counts.sum())), counts)
    suffix = {"ROOT": "root", "HDF5": "h5", "parquet": "parquet"}[kind]
    from difana.data import convert

    source = folder / "good.parquet"
    ak.to_parquet(ak.zip({**flat, "eta": lists}, depth_limit=1), source)
    path = folder / f"good.{suffix}"
    if kind != "parquet":
        in_child(lambda: convert(source, path))

    def into(target: str) -> Callable[[bytes, Path], int]:
        def use(content: bytes, here: Path) -> int:
            bad = written(content, here, f"bad.{suffix}")
            return command("convert", bad, str(here / f"out.{target}"))

        return use

    def read(content: bytes, here: Path) -> int:
        from difana.data import read_events

        bad = written(content, here, f"bad.{suffix}")
        columns = {"pt": "pt", "n": "num(eta)", "first": "at(eta, 0, -1)"}
        return answered(lambda: read_events(bad, columns=columns))

    return [Good(path.read_bytes(), use) for use in (read, into("h5"), into("parquet"))]


def _network() -> Any:
    return {"weights": np.linspace(0.0, 1.0, 300, dtype=np.float32).reshape(20, 15), "steps": 3}


def _weights(folder: Path) -> list[Good]:
    from difana.nn import load_weights, save_weights

    path = folder / "good.weights"
    in_child(lambda: save_weights(path, _network()))

    def use(content: bytes, here: Path) -> int:
        bad = written(content, here, "bad.weights")
        return answered(lambda: load_weights(bad, _network()))

    return [Good(path.read_bytes(), use)]


_FINGERPRINT = {"what": "fuzz"}


def _checkpoints(folder: Path) -> list[Good]:
    from difana.train.checkpoint import Checkpoints

    good = folder / "checkpoints"

    def fill() -> None:
        import jax.numpy as jnp

        tree = {"a": jnp.arange(500.0), "b": jnp.ones((3, 4))}
        with Checkpoints(good, fingerprint=_FINGERPRINT) as kept:
            kept.save(1, tree, facts={"step": 1})
            kept.save(2, tree, facts={"step": 2})

    in_child(fill)  # a backend of JAX does not survive a fork
    files = sorted(path for path in good.rglob("*") if path.is_file() and path.stat().st_size)

    def use(name: Path) -> Callable[[bytes, Path], int]:
        def restore(content: bytes, here: Path) -> int:
            import jax.numpy as jnp

            copy = here / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(good, copy)
            (copy / name).write_bytes(content)
            template = {"a": jnp.zeros(500), "b": jnp.zeros((3, 4))}

            def call() -> None:
                with Checkpoints(copy, fingerprint=_FINGERPRINT) as kept:
                    found = kept.restore(template)
                assert found is not None
                tree = found.tree
                assert (np.asarray(tree["a"]) == np.arange(500.0)).all(), "other numbers, unsaid"

            return answered(call)

        return restore

    return [Good(path.read_bytes(), use(path.relative_to(good))) for path in files]


def in_child(call: Callable[[], None]) -> None:
    """Call a function in a process of its own, so that this one stays without threads."""
    import os

    pid = os.fork()
    if pid == 0:
        try:
            call()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the good files could not be made")


_PIECES = (
    "pt", "eta", "n", "1", "2.5", "1e999", "'a'", "9" * 40, "pi", "True", "(", ")", "[", "]", ",",
    "+", "-", "*", "/", "//", "%", "**", "<", "==", "&", "|", "~", "not", "and", "or", "in", ":",
    "sqrt(", "where(", "max(", "num(", "at(", "hypot(", "minimum(", "lambda x: x", "__class__", ".",
    "{", "}", "=", ":=", "eta[:, 0]", "pt[0]", "eta[eta > 0]", "sum(eta)", "1 if pt else 2", "@",
)  # fmt: skip


def _expressions() -> list[Good]:
    def use(content: bytes, _: Path) -> int:
        import awkward as ak

        from difana.data import from_arrays

        rng = random.Random(content)
        text = " ".join(rng.choice(_PIECES) for _ in range(rng.choice([1, 2, 3, 5, 8, 13, 2000])))
        if rng.random() < 0.1:
            text = rng.choice(
                ["(" * 5000 + "pt", "pt" + "+pt" * 3000, "2**10**10", "-" * 9000 + "1"]
            )
        print(text[:200])
        arrays = {
            "pt": np.linspace(1.0, 2.0, 4),
            "n": np.arange(4),
            "eta": ak.Array([[], [1.0], [2.0, -1.0], [0.5]]),
        }
        return answered(lambda: from_arrays(arrays, columns={"x": text}))

    return [Good(b"0123456789abcdef", use)]


def good_files(kind: str, folder: Path) -> list[Good]:
    """Return the good files of a kind, made in a folder."""
    import difana.analysis
    import difana.data
    import difana.likelihood
    import difana.train
    import difana.unfold  # noqa: F401  (imported once, not in each child)

    if kind in ("workspace", "limit", "hs3", "patch", "patchset"):
        return _workspaces(kind, folder)
    makers: dict[str, Callable[[], list[Good]]] = {
        "xml": lambda: _xml(folder),
        "analysis YAML": lambda: _analysis(folder),
        "unfolding YAML": _unfolding,
        "weights": lambda: _weights(folder),
        "checkpoint": lambda: _checkpoints(folder),
        "expression": _expressions,
    }
    return makers[kind]() if kind in makers else _events(kind, folder)
