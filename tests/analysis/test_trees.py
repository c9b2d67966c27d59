"""Boosted trees: trained as the networks are, compared as they are, and never chosen."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.analysis import AnalysisResult, evaluate_from, read_config, run, train_trees
from difana.analysis.trees import TREES, observe_trees
from difana.data import Events, Sample, ShiftedEvents
from difana.losses import cross_entropy

pytest.importorskip("xgboost")


def samples(seed: int, *, events: int = 4000, negative: float = 0.0) -> tuple[Sample, Sample]:
    """Return two Gaussians at +1 and -1: the best logit is 2 x."""
    rng = np.random.default_rng(seed)
    found = []
    for name, center in (("signal", 1.0), ("background", -1.0)):
        x = rng.normal(center, 1, (events, 1)).astype(np.float32)
        signs = np.where(rng.random(events) < negative, -1.0, 1.0)
        weights = jnp.asarray(signs * (3.0 if name == "signal" else 500.0) / signs.sum())
        factors = ("mu",) if name == "signal" else ()
        found.append(Sample(Events(jnp.asarray(x), weights), name=name, normfactors=factors))
    return found[0], found[1]


def test_the_logit_is_that_of_balanced_classes_whatever_the_weights() -> None:
    x = np.linspace(-1, 1, 9, dtype=np.float32)[:, None]
    held_out = samples(1)
    for negative in (0.0, 0.2):
        found = train_trees(samples(0, events=12_000, negative=negative), held_out)
        np.testing.assert_allclose(found(x), 2 * x[:, 0], atol=0.6 if negative else 0.4)
        logits = [found(np.asarray(s.nominal.features)) for s in held_out]
        again = [
            Sample(
                Events(jnp.asarray(x)[:, None], s.nominal.weights),
                name=s.name,
                normfactors=s.normfactors,
            )
            for s, x in zip(held_out, logits, strict=True)
        ]
        mark, _ = cross_entropy(lambda x: x, again)
        assert found.held_out == pytest.approx(float(mark), rel=1e-5)
        assert 5 < found.rounds < 1000


def test_negative_weights_cancel_events() -> None:
    signal, background = samples(0)
    x, w = background.nominal.features, background.nominal.weights
    # events that look like signal, and the same once more with negative weights
    both = jnp.concatenate([x, x + 2, x + 2])
    plain, signed, unsigned = (
        train_trees((signal, Sample(events, name="background")), samples(1))
        for events in (
            Events(x, w),
            Events(both, jnp.concatenate([w, w, -w])),
            Events(both, jnp.concatenate([w, w, w])),
        )
    )
    features = np.asarray(samples(2)[0].nominal.features)
    expected = plain(features)
    near, far = (np.mean(np.abs(own(features) - expected)) for own in (signed, unsigned))
    assert near < 0.25 * far


def test_bad_samples_are_named() -> None:
    signal, background = samples(0, events=50)
    events = background.nominal
    negative = Sample(Events(events.features, -events.weights), name="background")
    with pytest.raises(InputError, match="weights of the background add up to -500"):
        train_trees((signal, negative), (signal, background))
    with pytest.raises(InputError, match="signal has the free factor 'nu'"):
        train_trees((signal, background), (signal, background), poi="nu")
    empty = Sample(Events(jnp.zeros((3, 0)), jnp.ones(3)), name="s")
    with pytest.raises(InputError, match="need Features"):
        train_trees((empty,), (empty,))


def test_variations_are_seen() -> None:
    signal, background = samples(0)
    trees = train_trees((signal, background), samples(1))
    own = background.nominal

    def moved(by: float) -> Events:
        return Events(own.features + by, own.weights)

    shifted = ShiftedEvents(up=moved(0.5), down=moved(-0.5), name="shift")
    (seen,) = observe_trees(trees, [Sample(own, (shifted,), name="b")])
    ((_, up, down),) = seen.shapes
    assert down.x.mean() < seen.nominal.x.mean() - 0.5
    assert up.x.mean() > seen.nominal.x.mean() + 0.5


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(InputError, match=r"pip install 'difana\[trees\]'"):
        train_trees(samples(0, events=10), samples(1, events=10))


def test_trees_of_particles_alone_are_refused(write_config: Callable[..., Path]) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["Training"]["Trees"] = True
        config |= {"Particles": {"Channels": ["pt"], "Maximum": 2}, "Systematics": []}
        del config["Features"]

    with pytest.raises(ConfigError, match="Trees needs Features"):
        read_config(write_config(edit))


def test_a_run_compares_with_trees_and_depends_on_them_in_nothing_else(
    finished: AnalysisResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.out.parent, folder)
    path = folder / "analysis.yaml"
    path.write_text(path.read_text().replace("  Bins: 3\n", "  Bins: 3\n  Trees: true\n"))

    def of(result: AnalysisResult) -> dict[str, Any]:
        return json.loads((result.out / "result.json").read_text())

    before = of(finished)
    assert before["training"]["trees"] == {}
    assert not (folder / "out" / "trees.json").exists()
    found = run(path, folder / "out")
    assert "Training.Trees changed: evaluating again" in capsys.readouterr().err
    for name in ("weights.eqx", "workspace.json", "history.jsonl"):
        assert (found.out / name).read_bytes() == (finished.out / name).read_bytes(), name
    after = of(found)
    (row,) = [entry for entry in after["comparison"] if entry["name"] == TREES]
    assert [e for e in after["comparison"] if e["name"] != TREES] == before["comparison"]
    assert after["limits"] == before["limits"]
    assert row["bins"] == {"SR": 3}
    assert row["status"] == "ok"
    assert 0 < row["limit"] < before["comparison"][0]["limit"], "better than one bin"
    assert 0 < row["error"] < row["limit"]
    assert row["retained"] > before["comparison"][0]["retained"]
    assert after["training"]["trees"]["SR"]["edges"] == pytest.approx(row["edges"]["SR"])
    # again, and on the same events without training: the same bytes
    text = (found.out / "result.json").read_text()
    trees = (found.out / "trees.json").read_bytes()
    run(found.config.path, found.out, progress=False)
    assert (found.out / "result.json").read_text() == text
    assert (found.out / "trees.json").read_bytes() == trees
    other = evaluate_from(found.out, found.config.path, folder / "other", progress=False)
    assert of(other)["comparison"] == after["comparison"]
    # trees of somebody else are noticed
    (found.out / "trees.json").write_bytes(trees.replace(b"1", b"2", 1))
    with pytest.raises(InputError, match="put there by hand, or changed"):
        evaluate_from(found.out, found.config.path, folder / "new", progress=False)
    (found.out / "trees.json").unlink()
    with pytest.raises(InputError, match="cannot read the trees"):
        evaluate_from(found.out, found.config.path, folder / "new", progress=False)
