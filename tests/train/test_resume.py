"""A killed run continues bit for bit; a damaged or foreign checkpoint is noticed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError
from difana.train import Checkpoints, TrainStatus, read_history

STEPS = {"steps": 20, "checkpoint_every": 4, "validate_every": 3}


class StopAt:
    """A logger that ends the process in the middle of a step, gently or not."""

    def __init__(self, step, *, kill=False):
        self.step, self.kill = step, kill

    def start(self, *, stage, step):
        self.started = step

    def log(self, record):
        if record["step"] == self.step:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

    def close(self):
        pass


def interrupted(fit, folder, *, step, **options):
    with pytest.raises(KeyboardInterrupt):
        fit(**STEPS, checkpoint=folder, logger=StopAt(step), **options)


def same(one, two):
    assert one.history == two.history
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.status, one.message) == (two.status, two.message)


@pytest.fixture(scope="module")
def whole(fit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return fit(**STEPS, checkpoint=folder), (folder / "history.jsonl").read_bytes()


@pytest.mark.parametrize("step", [2, 11, 12, 20])
def test_resume_is_bit_for_bit(fit, whole, tmp_path, step):
    interrupted(fit, tmp_path, step=step)
    logger = StopAt(99)
    same(fit(**STEPS, checkpoint=tmp_path, logger=logger), whole[0])
    assert (tmp_path / "history.jsonl").read_bytes() == whole[1]
    assert logger.started == {2: -1, 11: 8, 12: 8, 20: 16}[step]


def test_checkpoints_change_nothing(fit, whole):
    same(fit(**STEPS), whole[0])


def test_finished_run_returns_without_training(fit, toy, whole, tmp_path):
    fit(**STEPS, checkpoint=tmp_path)

    def forbidden(*_):
        raise AssertionError("trained again")

    same(fit(**STEPS, checkpoint=tmp_path, watch=forbidden, validate=forbidden), whole[0])
    assert (tmp_path / "history.jsonl").read_bytes() == whole[1]
    last = fit(**STEPS, checkpoint=tmp_path, watch=forbidden, validate=forbidden, select="last")
    np.testing.assert_array_equal(last.trainable["w"], whole[0].last["w"])


def test_early_stop_and_divergence_are_remembered(fit, toy, tmp_path):
    def uphill(*arguments):
        return -toy.loss(*arguments)[0], {}

    options = {"loss": uphill, "patience": 2, "checkpoint": tmp_path / "a"}
    one = fit(**options)
    assert one.status == TrainStatus.STOPPED_EARLY
    same(fit(**options), one)

    def broken(trainable, batch, step):
        value, aux = toy.loss(trainable, batch, step)
        return jnp.where(step.progress > 0.3, jnp.nan, value), aux

    options = {"loss": broken, "max_nonfinite": 3, "checkpoint": tmp_path / "b"}
    two = fit(**options)
    assert two.status == TrainStatus.DIVERGED
    same(fit(**options), two)


def test_start_over(fit, whole, tmp_path):
    fit(**STEPS, checkpoint=tmp_path, key=jax.random.key(9))
    same(fit(**STEPS, checkpoint=tmp_path, resume=False), whole[0])
    same(fit(**STEPS, checkpoint=tmp_path), whole[0])
    assert (tmp_path / "history.jsonl").read_bytes() == whole[1]


def test_another_training_is_replaced_where_that_is_asked_for(fit, toy, whole, tmp_path):
    fit(**STEPS, checkpoint=tmp_path, key=jax.random.key(9))
    same(fit(**STEPS, checkpoint=tmp_path, resume="same"), whole[0])
    assert (tmp_path / "history.jsonl").read_bytes() == whole[1]

    def never(*args):
        raise AssertionError("trained again")

    same(fit(**STEPS, checkpoint=tmp_path, resume="same", watch=never), whole[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 21}, "steps was 20, is 21"),
        ({"batch_size": 16}, "batch_size was 32, is 16"),
        ({"key": jax.random.key(8)}, "key was"),
        ({"fingerprint": "other.yaml"}, "fingerprint was"),
        ({"start": {"w": jnp.ones((2, 1)), "b": jnp.zeros(1)}}, "initial trainable"),
        ({"start": {"w": jnp.zeros((2, 2)), "b": jnp.zeros(1)}}, r"float64\[2, 2\]"),
    ],
)
def test_another_configuration_is_refused(fit, tmp_path_factory, change, message):
    folder = tmp_path_factory.getbasetemp() / "refused"
    if not folder.exists():
        interrupted(fit, folder, step=6)
    with pytest.raises(ConfigError, match=message) as caught:
        fit(**(STEPS | change), checkpoint=folder)
    assert "resume=False" in str(caught.value)
    assert str(folder) in str(caught.value)


def test_two_stages_share_a_history(fit, tmp_path):
    def both(folder):
        history = folder / "history.jsonl"
        first = fit(**STEPS, stage="one", checkpoint=folder / "1", history=history)
        second = fit(**STEPS, stage="two", checkpoint=folder / "2", history=history)
        return first, second, history.read_bytes()

    reference = both(tmp_path / "a")
    folder = tmp_path / "b"
    history = folder / "history.jsonl"
    fit(**STEPS, stage="one", checkpoint=folder / "1", history=history)
    with pytest.raises(KeyboardInterrupt):
        fit(**STEPS, stage="two", checkpoint=folder / "2", history=history, logger=StopAt(10))
    again = both(folder)
    same(again[0], reference[0])
    same(again[1], reference[1])
    assert again[2] == reference[2]
    assert {record["stage"] for record in again[1].history} == {"two"}


def test_a_lost_history_is_noticed(fit, tmp_path):
    interrupted(fit, tmp_path, step=10)
    (tmp_path / "history.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"0 records .* up to step 8 where the checkpoint counts"):
        fit(**STEPS, checkpoint=tmp_path)


def damage(folder, how):
    """Damage the arrays of one checkpoint."""
    files = [path for path in (folder / "leaves").rglob("*") if path.is_file()]
    if how == "missing":
        shutil.rmtree(folder / "leaves")
    elif how == "meta":
        (folder / "meta" / "metadata").write_text("{")
    for path in files if how in ("cut", "flipped") else ():
        content = bytearray(path.read_bytes())
        if how == "flipped" and content:
            content[len(content) // 2] ^= 0xFF
        path.write_bytes(content[: len(content) // 2] if how == "cut" else content)


@pytest.mark.parametrize("how", ["cut", "flipped", "missing", "meta"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(fit, whole, tmp_path, how):
    interrupted(fit, tmp_path, step=14)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["12", "8"]
    damage(tmp_path / "12", how)
    with pytest.warns(UserWarning, match="step 12 cannot be read .* from step 8"):
        resumed = fit(**STEPS, checkpoint=tmp_path)
    same(resumed, whole[0])
    assert (tmp_path / "history.jsonl").read_bytes() == whole[1]


def test_all_checkpoints_damaged(fit, whole, tmp_path):
    interrupted(fit, tmp_path, step=14)
    for step in ("8", "12"):
        damage(tmp_path / step, "flipped")
    with pytest.raises(ConfigError, match=r"no checkpoint can be read .*resume=False"):
        fit(**STEPS, checkpoint=tmp_path)
    same(fit(**STEPS, checkpoint=tmp_path, resume=False), whole[0])


def test_wrong_numbers_are_noticed(tmp_path):
    tree = {"w": jnp.ones(4)}
    with Checkpoints(tmp_path, fingerprint={}) as checkpoints:
        checkpoints.save(1, tree, facts={})
        meta = tmp_path / "1" / "meta" / "metadata"
        content = json.loads(meta.read_text())
        content["checksums"]["float64"] += 1
        meta.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match="the checksum of its header is wrong"):
            checkpoints.restore(tree)


def test_leaves_of_all_types_survive(tmp_path):
    tree = {
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "single": jnp.ones((2, 0, 3), jnp.float32),
        "double": jnp.full((2, 2), jnp.nan),
        "count": jnp.asarray(7, jnp.int32),
        "flag": jnp.asarray([True, False]),
        "wave": jnp.asarray(1 + 2j),
        "key": jax.random.key(5),
    }
    with Checkpoints(tmp_path, fingerprint={}) as checkpoints:
        assert checkpoints.restore(tree) is None
        checkpoints.save(1, tree, facts={"x": 0.1 + 0.2})
    with Checkpoints(tmp_path, fingerprint={}) as checkpoints:
        restored = checkpoints.restore(jax.tree.map(jnp.zeros_like, tree))
    assert restored.facts == {"x": 0.1 + 0.2}
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(restored.tree), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        plain = jax.random.key_data if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else np.asarray
        assert np.asarray(plain(a)).tobytes() == np.asarray(plain(b)).tobytes()


SCRIPT = """
import os, signal, sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np, optax
jax.config.update("jax_enable_x64", True)
from difana import train
from difana.data.events import Events
from difana.data.samples import Sample

x = np.random.default_rng(0).normal(size=(100, 2))
samples = [Sample(Events(jnp.asarray(x), jnp.ones(100)), name="data")]

class Show:
    def start(self, *, stage, step): print("from", step)
    def log(self, record): pass
    def close(self): pass

def loss(trainable, batch, step):
    events = batch[0].nominal
    return jnp.mean((jnp.tanh(events.features @ trainable) - events.features) ** 2), {}

def run(folder):
    result = train.fit(
        loss, jnp.eye(2) * 0.1, samples, steps=30, batch_size=16, optimizer=optax.adam(0.02),
        key=jax.random.key(1), checkpoint=folder, checkpoint_every=8, logger=Show(),
        validate=lambda w: (loss(w, samples, 1.0)[0], {}), validate_every=5,
    )
    np.save(Path(folder) / "weights.npy", np.stack([result.last, result.trainable]))

if sys.argv[2] == "kill":
    # The process dies when the checkpoint of step 24 is written but not yet in its place.
    rename = os.rename
    def kill(source, target, *args, **kwargs):
        if Path(target).name == "24":
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(source, target, *args, **kwargs)
    os.rename = os.replace = kill
run(sys.argv[1] + "/killed")
run(sys.argv[1] + "/whole")
"""


def test_kill_9_in_the_middle_of_a_save(tmp_path):
    def run(mode):
        environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path), mode]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        return done.returncode, done.stdout, done.stderr

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    code, _, errors = run("kill")
    assert code == -signal.SIGKILL, errors
    assert read_history(killed / "history.jsonl")[-1]["step"] == 24
    assert not (killed / "24").exists()
    assert len(list(killed.glob("24*"))) == 1, "a save was under way"
    with (killed / "history.jsonl").open("a") as file:
        file.write('{"stage": "train", "ki')
    assert run("resume") == (0, "from 16\nfrom -1\n", "")
    assert sorted(path.name for path in killed.iterdir() if path.is_dir()) == ["24", "30"]
    for name in ("weights.npy", "history.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
