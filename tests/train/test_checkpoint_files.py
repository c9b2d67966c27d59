"""The files of checkpoints and weights: damage, links, other runs, full disks, permissions."""

from __future__ import annotations

import contextvars
import os
import resource
import shutil
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana._errors import ConfigError, InputError, WriteError
from difana._files import locked, read_block, write_block, write_whole
from difana.data import Events, Sample
from difana.nn import load_weights, save_weights
from difana.train import Checkpoints, JSONLLogger, fit

TREE = {"w": jnp.arange(40.0), "n": jnp.arange(3)}
SAMPLE = Sample(Events(jnp.ones((8, 1)), jnp.ones(8), columns=("x",)), name="d")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    with Checkpoints(folder, fingerprint={"steps": 10}) as store:
        for step in (4, 8):
            store.save(step, TREE, facts={"step": step})
    return folder


def test_any_damage_of_the_newest_checkpoint_falls_back(two, tmp_path):
    rng = np.random.default_rng(0)
    files = [path.relative_to(two) for path in sorted((two / "8").rglob("*")) if path.is_file()]
    assert {"metadata", "float64", "int64"} == {path.name for path in files}
    for number, name in enumerate(files):
        for how in (*["flipped"] * 20, *["cut"] * 5, "empty", "gone"):
            folder = tmp_path / str(number)
            shutil.copytree(two, folder)
            content = bytearray((folder / name).read_bytes())
            place = 0 if how == "empty" else int(rng.integers(len(content)))
            if how == "flipped":
                content[place] ^= 1 << int(rng.integers(8))
            (folder / name).write_bytes(content[:place] if how in ("cut", "empty") else content)
            if how == "gone":
                (folder / name).unlink()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with Checkpoints(folder, fingerprint={"steps": 10}) as store:
                    restored = store.restore(TREE)
            assert restored is not None
            assert restored.facts == {"step": 4}, (name, how)
            assert len(caught) == 1, (name, how)
            shutil.rmtree(folder)


def test_a_saving_that_was_killed_leaves_nothing(tmp_path):
    (tmp_path / "3.part" / "leaves").mkdir(parents=True)
    (tmp_path / "2.gone.part").mkdir()
    with Checkpoints(tmp_path, fingerprint={}) as store:
        assert store.restore(TREE) is None
        store.save(3, TREE, facts={})
        store.save(3, TREE, facts={"again": 1})
        assert store.restore(TREE).facts == {"again": 1}
    assert names(tmp_path) == ["3"]


def test_another_order_of_keys_is_the_same_configuration(tmp_path):
    with Checkpoints(tmp_path, fingerprint={"a": (1, 2), "b": {"x": 1, "y": 2}}) as store:
        store.save(3, TREE, facts={})
    with Checkpoints(tmp_path, fingerprint={"b": {"y": 2, "x": 1}, "a": [1, 2]}) as store:
        assert store.restore(TREE).step == 3


@pytest.mark.parametrize("name", ["", "8", "8/leaves", "history.jsonl"])
def test_links_are_not_followed(two, tmp_path, name):
    folder, elsewhere = tmp_path / "checkpoints", tmp_path / "elsewhere"
    shutil.copytree(two, folder)
    target = folder / name
    if target.is_dir():
        shutil.rmtree(target)
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    target.symlink_to(elsewhere)
    with pytest.raises(InputError, match="is a symbolic link"):
        Checkpoints(folder, fingerprint={})
    assert (elsewhere / "precious").read_text() == "mine"


def test_files_replace_links(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a").symlink_to("precious")
    write_whole(tmp_path / "a", [b"new"])
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "a").is_symlink()
    (tmp_path / "history.jsonl").symlink_to("precious")
    with pytest.raises(InputError, match="symbolic link"):
        JSONLLogger(tmp_path / "history.jsonl").start(stage="a", step=-1)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_files_get_the_umask_of_the_user(tmp_path, mask):
    before = os.umask(mask)
    try:
        save_weights(tmp_path / "weights", TREE)
    finally:
        os.umask(before)
    assert (tmp_path / "weights").stat().st_mode & 0o777 == 0o666 & ~mask


def other_run(function):
    """Call it as somebody who holds no lock."""
    return contextvars.Context().run(function)


def test_one_folder_one_run(tmp_path):
    def enter():
        with locked(tmp_path):
            return names(tmp_path)

    (tmp_path / ".difana.lock").write_text("process 1 on a machine that was switched off")
    with locked(tmp_path), locked(tmp_path):
        (tmp_path / ".a.0123456789ab.part").touch()
        message = f"another run writes into the folder.*process {os.getpid()} on"
        with pytest.raises(InputError, match=message):
            other_run(enter)
        with pytest.raises(InputError, match="another run"):
            other_run(lambda: Checkpoints(tmp_path, fingerprint={}))
    assert other_run(enter) == [".difana.lock"]  # the left-over is gone
    assert names(tmp_path) == []


def test_lock_that_is_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".difana.lock").symlink_to("precious")
    with locked(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_full_disk_loses_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full:
        """Takes the disk away at a step."""

        def start(self, *, stage, step): ...
        def close(self): ...
        def log(self, record):
            if record["step"] == 7:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    def train(folder, logger=None):
        noise = jax.random.normal(jax.random.key(1), (20_000,))
        return fit(
            lambda c, batch, step: (jnp.mean((c - 3.0) ** 2), {}), noise, [SAMPLE], steps=12,
            batch_size=8, optimizer=optax.sgd(0.1), key=jax.random.key(0), checkpoint=folder,
            checkpoint_every=3, logger=logger, progress_bar=False,
        )  # fmt: skip

    whole = train(tmp_path / "whole")
    try:
        with pytest.raises(WriteError) as caught:
            train(tmp_path / "full", Full())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write the checkpoint of step 9" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "full" / "6").is_dir()
    resumed = train(tmp_path / "full")
    np.testing.assert_array_equal(resumed.last, whole.last)
    history = [(tmp_path / name / "history.jsonl").read_bytes() for name in ("whole", "full")]
    assert history[0] == history[1]


def test_a_full_disk_keeps_the_file_before(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "weights"
    save_weights(path, TREE)
    before = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"cannot write .*weights': File too large"):
            save_weights(path, {"w": jnp.ones(1000)})
        logger = JSONLLogger(tmp_path / "history.jsonl")
        logger.start(stage="a", step=-1)
        with pytest.raises(WriteError, match=r"history.jsonl"):
            logger.log({"stage": "a", "step": 1, "aux": "x" * 3000})
        logger.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["history.jsonl", "weights"]


def test_a_changed_history_is_noticed(tmp_path):
    def train(**options):
        return fit(
            lambda c, batch, step: ((c - 3.0) ** 2, {}), jnp.asarray(0.0), [SAMPLE], steps=6,
            batch_size=8, optimizer=optax.sgd(0.1), key=jax.random.key(0), checkpoint=tmp_path,
            checkpoint_every=3, progress_bar=False, **options,
        )  # fmt: skip

    whole = train()
    path = tmp_path / "history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    late = [*lines[:4], lines[4].replace(b'"loss": ', b'"loss": 1'), *lines[5:]]
    path.write_bytes(b"".join(late))
    with pytest.warns(UserWarning, match="step 6 cannot be read .*not those of the checkpoint"):
        assert train().history == whole.history
    path.write_bytes(b"".join([lines[0].replace(b'"loss": ', b'"loss": 1'), *lines[1:]]))
    with pytest.raises(ConfigError, match=r"not those of the checkpoint.*resume=False"):
        train()


def test_damaged_weights_are_refused(tmp_path):
    path = tmp_path / "weights"
    save_weights(path, TREE)
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(150):
        content = bytearray(good)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        with pytest.raises(InputError, match="weights"):
            load_weights(path, TREE)


def test_hostile_headers_are_refused(tmp_path):
    path = tmp_path / "weights"
    save_weights(path, TREE)
    header, _ = read_block(path)
    for change in (
        {"leaves": [["w", "float64", [10**15]]] * 2},
        {"leaves": None},
        {"leaves": "many"},
        {"version": 99},
        {"format": ["difana-weights"]},
    ):
        write_block(path, header | change, b"")
        with pytest.raises(InputError):
            load_weights(path, TREE)
    for line in (b"[" * 100_000, b"{}", b"null", b'{"bytes": 1, "crc32": 0, "check": 0}', b"\xff"):
        path.write_bytes(line + b"\n")
        with pytest.raises(InputError):
            load_weights(path, TREE)
    payload = (
        np.lib.format.magic(1, 0)
        + b"\x76\x00"
        + (
            b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117)
            + b"\n"
        )
    )
    write_block(path, header, payload)
    with pytest.raises(InputError, match="cannot be read"):
        load_weights(path, TREE)
    with pytest.raises(InputError, match="weights"):
        load_weights(Path("/dev/zero"), TREE)
