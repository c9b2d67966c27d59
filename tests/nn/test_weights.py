from __future__ import annotations

import io
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.nn import MLP, Standardised, load_weights, save_weights


def network(seed: int, hidden: int = 4) -> Standardised:
    net = MLP(3, [hidden], key=jax.random.key(seed))
    return Standardised(net, np.full(3, float(seed)), np.ones(3))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.difana"
    save_weights(path, network(1))
    return path


def test_round_trip_restores_every_leaf(saved):
    x = jnp.arange(6.0).reshape(2, 3)
    loaded = load_weights(saved, network(2))
    np.testing.assert_array_equal(loaded(x), network(1)(x))
    np.testing.assert_array_equal(loaded.mean, network(1).mean)
    assert isinstance(loaded.mean, np.ndarray)


def test_saving_replaces_and_leaves_nothing_else(saved):
    save_weights(saved, network(3))
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    np.testing.assert_array_equal(load_weights(saved, network(0)).mean, np.full(3, 3.0))


def test_failed_save_keeps_the_old_file(saved, monkeypatch):
    def fail(_):
        raise OSError("no space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save_weights(saved, network(3))
    assert saved.read_bytes() == before
    assert len(list(saved.parent.iterdir())) == 1


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_weights(tmp_path / "none", network(1))
    with pytest.raises(InputError, match="does not exist"):
        save_weights(tmp_path / "none" / "w", network(1))


@pytest.mark.parametrize("keep", [0, 10, -1, -40])
def test_truncated_file(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(InputError, match=str(saved)):
        load_weights(saved, network(1))


def test_file_with_something_behind_the_weights(saved):
    with saved.open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="damaged"):
        load_weights(saved, network(1))


def test_flipped_array_header(saved):
    content = saved.read_bytes()
    saved.write_bytes(content.replace(b"\x93NUMPY", b"\x93NUMPX", 1))
    with pytest.raises(InputError, match="damaged"):
        load_weights(saved, network(1))


def test_other_network(saved):
    with pytest.raises(InputError, match=r"does not fit this network.*layers\[0\]"):
        load_weights(saved, network(1, hidden=5))
    with pytest.raises(InputError, match="leaves stored"):
        load_weights(saved, (network(1), jnp.ones(2)))


def test_pickle_is_never_run(tmp_path, saved):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "pwned"), "w")

    plain = tmp_path / "plain"
    plain.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="not a file of weights"):
        load_weights(plain, network(1))

    like = {"w": jnp.zeros(1)}
    payload = io.BytesIO()
    np.save(payload, np.array([Evil()], dtype=object), allow_pickle=True)
    save_weights(saved, like)
    header = json.loads(saved.read_bytes().split(b"\n")[0])
    header["bytes"] = len(payload.getvalue())
    saved.write_bytes(json.dumps(header).encode() + b"\n" + payload.getvalue())
    with pytest.raises(InputError, match="damaged"):
        load_weights(saved, like)
    assert not (tmp_path / "pwned").exists()
