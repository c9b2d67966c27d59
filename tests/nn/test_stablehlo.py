"""A network through a file: the same numbers, no Python code, no pickle."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.nn import MLP, Standardised, export_network, load_network

pytest.importorskip("flatbuffers")

COLUMNS = ("mass", "pt", "eta")


@pytest.fixture(scope="module")
def net():
    x = np.random.default_rng(0).normal(5, 2, (50, 3)).astype(np.float32)
    return Standardised.fit(MLP(3, [8], 2, key=jax.random.key(0)), jnp.asarray(x))


@pytest.fixture(scope="module")
def file(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "net.stablehlo"
    notes = {"edges": [0.0, 1.0]}
    export_network(path, net, columns=COLUMNS, units=("GeV", "GeV", ""), notes=notes)
    return path


@pytest.mark.parametrize("events", [1, 7, 64])
def test_any_number_of_events_gives_the_same_numbers(net, file, events):
    x = np.random.default_rng(events).normal(5, 2, (events, 3)).astype(np.float32)
    found = load_network(file)(x)
    assert found.shape == (events, 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, net(jnp.asarray(x)), rtol=1e-5, atol=1e-6)


def test_the_header_says_what_goes_in(file):
    header = json.loads(file.read_bytes().split(b"\n", 1)[0])
    assert header["columns"] == list(COLUMNS)
    assert header["units"] == ["GeV", "GeV", ""]
    assert header["input"] == ["events", 3]
    assert header["output"] == ["events", 2]
    assert header["dtype"] == "float32"
    assert header["notes"] == {"edges": [0.0, 1.0]}
    read = load_network(file)
    assert read.columns == COLUMNS
    assert "cpu" in read.platforms


def test_it_runs_inside_jit(file):
    read = load_network(file)
    x = jnp.ones((4, 3), jnp.float32)
    np.testing.assert_allclose(jax.jit(read)(x), read(x), rtol=1e-5)


def test_wrong_features_are_refused(net, file, tmp_path):
    with pytest.raises(InputError, match=r"shape \(4, 2\).*'mass', 'pt', 'eta'"):
        load_network(file)(np.ones((4, 2)))
    with pytest.raises(InputError, match="cannot be exported for 2 features"):
        export_network(tmp_path / "x", lambda x: x @ jnp.ones((3, 1), x.dtype), columns=("a", "b"))
    with pytest.raises(InputError, match="1 units for 3 columns"):
        export_network(tmp_path / "x", net, columns=COLUMNS, units=("GeV",))
    with pytest.raises(InputError, match="does not exist"):
        export_network(tmp_path / "no" / "x", net, columns=COLUMNS)
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_refused(file, tmp_path):
    content = file.read_bytes()
    broken = tmp_path / "broken"
    broken.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="checksum"):
        load_network(broken)
    for text in (b"", b"{}\n", b"\x80\x04 pickle", b'{"format": "difana-stablehlo"}\n'):
        broken.write_bytes(text)
        with pytest.raises(InputError, match="not an exported network"):
            load_network(broken)
    with pytest.raises(InputError, match="no such file"):
        load_network(tmp_path / "missing")


def test_the_caller_does_not_matter(tmp_path):
    net = MLP(2, [4], key=jax.random.key(0))
    for name in ("one", "two"):
        if name == "two":  # another line
            export_network(tmp_path / name, net, columns=("a", "b"))
        else:
            export_network(tmp_path / name, net, columns=("a", "b"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert b".py" not in (tmp_path / "one").read_bytes()
