from __future__ import annotations

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data import Events, read_metadata, to_hdf5, to_parquet
from difana.unfold import UnfoldedEvents, load_dataset, save_dataset

KEY = "difana_unfolded"


@pytest.fixture(scope="module")
def events() -> UnfoldedEvents:
    rng = np.random.default_rng(1)
    return UnfoldedEvents(
        status=jnp.asarray(2),
        observables=jnp.asarray(rng.uniform(0, 4, (40, 2))),
        weights=jnp.asarray(rng.uniform(0, 2, 40)),
        replicas={
            "bootstrap": jnp.asarray(rng.uniform(0, 2, (30, 40))),
            "ensemble": jnp.asarray(rng.uniform(0, 2, (3, 40))),
        },
        variations={"jet scale": jnp.asarray(rng.uniform(0, 2, 40))},
        fiducial=jnp.asarray(rng.uniform(size=40) < 0.8),
        names=("pt", "ln rho"),
        units=("GeV", ""),
        metadata=(("method", "OmniFold"),),
    )


@pytest.fixture(params=["parquet", "h5"])
def suffix(request):
    return request.param


def test_a_dataset_comes_back_with_the_same_histograms(events, suffix, tmp_path):
    path = tmp_path / f"unfolded.{suffix}"
    phi = np.linspace(0, 1, 40)
    save_dataset(
        events, path, fiducial="pt > 20 GeV", luminosity="139 fb^-1", more={"phi": phi},
        uncertainties={"jet scale": "one standard deviation up"},
    )  # fmt: skip
    again = load_dataset(path)
    assert again.names == ("pt", "ln rho", "phi")
    assert again.units == ("GeV", "", "")
    assert len(again.weights) == int(events.fiducial.sum())
    edges = np.linspace(0, 4, 5)
    one, two = events.histogram("ln rho", edges), again.histogram("ln rho", edges)
    np.testing.assert_allclose(two.values, one.values, rtol=1e-12)
    np.testing.assert_allclose(two.covariance, one.covariance, rtol=1e-12)
    assert int(one.status) == int(two.status)
    np.testing.assert_allclose(
        again.observables[:, 2], phi[np.asarray(events.fiducial)], rtol=1e-12
    )  # fmt: skip
    texts = dict(again.metadata)
    assert texts["fiducial"] == "pt > 20 GeV"
    assert texts["luminosity"] == "139 fb^-1"
    assert texts["method"] == "OmniFold"
    assert "yields" in texts["normalisation"]
    # a second round keeps everything
    save_dataset(again, path)
    assert dict(load_dataset(path).metadata) == texts


def test_the_metadata_say_how_to_form_each_uncertainty(events, tmp_path):
    path = save_dataset(events, tmp_path / "u.parquet")
    document = json.loads(read_metadata(path)[KEY])
    assert document["observables"][0] == {"name": "pt", "unit": "GeV"}
    assert "cap of the weights" in document["status_text"]
    replicas = document["weights"]["replicas"]
    assert replicas["bootstrap"]["number"] == 30
    assert replicas["bootstrap"]["columns"] == "weights_bootstrap_<i>"
    assert "covariance" in replicas["ensemble"]["uncertainty"]
    assert "shift" in document["weights"]["variations"]["jet scale"]["uncertainty"]
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    assert names[:3] == ["pt", "ln rho", "weights_nominal"]
    assert {"weights_bootstrap_29", "weights_ensemble_2", "weights_jet scale"} <= set(names)


def written(events, path, change):
    """Write a dataset whose metadata were changed."""
    save_dataset(events, path)
    document = json.loads(read_metadata(path)[KEY])
    text = change(document)
    text = json.dumps(document) if text is None else text
    write = to_parquet if path.suffix == ".parquet" else to_hdf5
    table = Events(jnp.ones((3, 1)), jnp.ones(3), columns=("pt",))
    return write(table, path, weight="weights_nominal", metadata={KEY: text})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: "{", "damaged"),
        (lambda d: "[" * 50_000, "damaged"),
        (lambda d: "[]", "damaged"),
        (lambda d: d.update(version=9), "version 9"),
        (lambda d: d.pop("texts"), "damaged: .*field `texts`"),
        (lambda d: d["texts"].update(fiducial=3), r"damaged: .*texts"),
        (lambda d: d.update(observables=[]), "observables"),
        (lambda d: d["weights"]["replicas"]["ensemble"].update(number=10**9), "<= 100000"),
        (lambda d: d["weights"]["replicas"]["ensemble"].update(number=-1), ">= 1"),
        (lambda d: d.update(status=2**40), "status"),
        (lambda d: d["weights"]["replicas"].update({"a`b": {"number": 1}}), "backquote"),
        (lambda d: d["observables"].append(d["observables"][0]), "twice"),
        (lambda d: None, "ln rho"),
    ],
)
def test_damaged_metadata_are_refused(events, tmp_path, suffix, change, message):
    path = tmp_path / f"u.{suffix}"
    written(events, path, lambda d: text if isinstance(text := change(d), str) else None)
    with pytest.raises(InputError, match=message):
        load_dataset(path)


def test_other_files_are_refused(events, suffix, tmp_path):
    path = tmp_path / f"u.{suffix}"
    with pytest.raises(InputError, match="no file"):
        load_dataset(path)
    save_dataset(events, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="truncated"):
        load_dataset(path)
    path.write_bytes(b"hello" * 100)
    with pytest.raises(InputError, match="truncated"):
        load_dataset(path)
    table = Events(jnp.ones((3, 1)), jnp.ones(3), columns=("pt",))
    (to_parquet if suffix == "parquet" else to_hdf5)(table, path)
    with pytest.raises(InputError, match="no dataset of difana"):
        load_dataset(path)
    with pytest.raises(InputError, match="suffix must be"):
        load_dataset(tmp_path / "u.root")


def test_what_cannot_be_published_is_refused(events, tmp_path):
    path = tmp_path / "u.parquet"
    change = dataclasses.replace
    for other, message in (
        (change(events, weights=events.weights.at[0].set(jnp.nan)), "weights_nominal are not"),
        (change(events, names=("pt", "weights_x")), "cannot be called"),
        (change(events, names=("pt", "pt")), "cannot be called"),
        (change(events, observables=jnp.ones((40, 2, 3))), "one number an event"),
        (change(events, observables=events.observables.at[:, 1].set(jnp.inf)), "'ln rho' is not"),
        (change(events, variations={"nominal": events.weights}), "two columns"),
    ):
        with pytest.raises(InputError, match=message):
            save_dataset(other, path)
    with pytest.raises(InputError, match="'phi' has shape"):
        save_dataset(events, path, more={"phi": np.ones(3)})
    with pytest.raises(InputError, match="Did you mean 'bootstrap'"):
        save_dataset(events, path, uncertainties={"bootstraps": "text"})
    with pytest.raises(InputError, match="must end in"):
        save_dataset(events, tmp_path / "u.csv")
    assert not path.exists()
