"""A tagger from files to files: trained, judged, applied; what is wrong is named."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from difana._errors import ConfigError, InputError
from difana.analysis import TaggerOptions, apply_tagger, evaluate_tagger, load_tagger, train_tagger
from difana.analysis.tagging import MOMENTA
from difana.cli import main
from difana.data import Events, read_events, to_parquet
from difana.train import Training

JETS = 150


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr("difana.cli._setup.start", lambda **_: None)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return parquet files of jets of one prong and of two."""
    folder, rng = tmp_path_factory.mktemp("jets"), np.random.default_rng(1)
    found = {}
    for label, name in enumerate(("qcd", "top")):
        shape = (JETS, 6)
        side = np.where(rng.random(shape) < 0.5, 1, -1)
        x = np.stack([
            np.sort(rng.exponential(20, shape) + 1)[:, ::-1], rng.normal(0, 0.1, shape),
            rng.normal(0, 0.1, shape) + 0.3 * label * side, np.full(shape, 0.1),
        ], -1)  # fmt: skip
        mask = np.arange(6) < rng.integers(3, 7, JETS)[:, None]
        events = Events(
            jnp.zeros((JETS, 1)), jnp.ones(JETS), jnp.asarray(np.where(mask[..., None], x, 0)),
            jnp.asarray(mask), columns=("pt",), particle_columns=MOMENTA,
        )  # fmt: skip
        found[name] = str(to_parquet(events, folder / f"{name}.parquet"))
    return found


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    """Return the folder of a trained tagger."""
    out = tmp_path_factory.mktemp("tagger") / "out"
    options = TaggerOptions(("qcd", "top"), network="pfn", particles=6)
    training = Training(epochs=15, batch_size=50, learning_rate=3e-3, patience=None)
    assert train_tagger(files, out, options=options, training=training).ok
    return out


def test_a_tagger_is_trained_and_judged(files, folder):
    written = json.loads((folder / "tagger.json").read_text())
    assert written["jets"] == {"qcd": JETS, "top": JETS}
    _, options = load_tagger(folder)
    assert (options.network, options.classes) == ("pfn", ("qcd", "top"))
    found = evaluate_tagger(folder, files)
    assert found["against"]["qcd"]["auc"] > 0.9
    np.testing.assert_allclose(np.sum(found["confusion"], axis=1), 1)
    share = np.diag(found["confusion"]).mean()
    assert found["accuracy"] == pytest.approx(share)
    assert json.loads((folder / "evaluation.json").read_text())["signal"] == "top"


def test_probabilities_are_written_beside_the_columns(files, folder, tmp_path):
    target = tmp_path / "tagged.parquet"
    apply_tagger(folder, files["top"], target)
    read = read_events(target, columns=["tag_qcd", "tag_top", "pt"], particles=list(MOMENTA))
    np.testing.assert_allclose(read["tag_qcd"] + read["tag_top"], 1, rtol=1e-5)
    net, _ = load_tagger(folder)
    source = read_events(files["top"], columns=[], particles=list(MOMENTA))
    logits = net(source.inputs)
    expected = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    np.testing.assert_allclose(read["tag_top"], expected, rtol=1e-4)


def test_the_commands(files, tmp_path):
    classes = [word for name, path in files.items() for word in ("--class", f"{name}={path}")]
    out, run = str(tmp_path / "tagger"), CliRunner().invoke
    words = ["--network", "pfn", "--epochs", "2", "--particles", "6", "--number", "60"]
    done = run(main, ["tag", "train", *classes, "--out", out, *words])
    assert done.exit_code == 0, done.output
    assert "pfn of qcd, top: held-out cross-entropy" in done.output
    done = run(main, ["tag", "evaluate", out, *classes])
    assert done.exit_code == 0, done.output
    assert "accuracy" in done.output
    assert "1/eps_B" in done.output
    target = str(tmp_path / "tagged.parquet")
    done = run(main, ["tag", "apply", out, files["qcd"], target])
    assert done.exit_code == 0, done.output
    assert "tag_qcd, tag_top" in done.output
    done = run(main, ["tag", "train", *classes, "--out", out, "--network", "pnf"])
    assert done.exit_code == 2
    assert "Did you mean 'pfn'" in done.output
    assert "must read NAME=FILE" in run(main, ["tag", "evaluate", out, "--class", "x"]).output
    only = ["tag", "evaluate", out, *classes[:2]]
    assert "the tagger has the classes" in run(main, only).output


def test_bad_folders_and_options_are_named(folder, tmp_path):
    with pytest.raises(InputError, match="holds no tagger"):
        load_tagger(tmp_path)
    (tmp_path / "tagger.json").write_text('{"classes": ["a", "b"]}')
    with pytest.raises(InputError, match="is damaged"):
        load_tagger(tmp_path)
    with pytest.raises(ConfigError, match="at least two"):
        TaggerOptions(("one",))
    with pytest.raises(ConfigError, match="first four are the momentum"):
        TaggerOptions(("a", "b"), channels=("pt",))
    with pytest.raises(ConfigError, match="give the same"):
        train_tagger({"a": "a.parquet"}, tmp_path, options=TaggerOptions(("a", "b")))
