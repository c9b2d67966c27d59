"""Points over devices, and over the workers of a cluster: the same results as one by one."""

from __future__ import annotations

import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.infer import impacts, map_points, map_points_distributed, profile_scan, toys
from difana.infer.parallel.sharding import chunk_size

ONE = jax.devices()[:1]
eight = pytest.mark.skipif(
    jax.device_count() < 8, reason="needs XLA_FLAGS=--xla_force_host_platform_device_count=8"
)


def polynomial(point, scale):
    return {"value": scale * point["x"] ** 2, "sum": jnp.sum(point["y"])}


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=21), "y": jnp.asarray(rng.normal(size=(21, 3)))}


def exact(points):
    return {"value": 3.0 * points["x"] ** 2, "sum": np.asarray(points["y"]).sum(1)}


@eight
@pytest.mark.parametrize("chunk", [None, 1, 8, 10, 100])
def test_uneven_sizes_over_eight_devices(points, chunk):
    found = map_points(polynomial, points, constants=(np.array(3.0),), chunk=chunk)
    for name, value in exact(points).items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=1e-14)


@eight
def test_every_device_works():
    seen = []

    def where(x):
        jax.debug.callback(lambda i: seen.append(int(i)), jax.lax.axis_index("points"))
        return x

    map_points(where, np.arange(16.0))
    jax.effects_barrier()
    assert set(seen) == set(range(8))
    mesh = jax.make_mesh((4,), ("signals",), devices=jax.devices()[4:])
    assert map_points(lambda x: 2 * x, np.arange(5.0), devices=mesh).tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(ConfigError, match="one axis"):
        map_points(where, np.arange(4.0), devices=jax.make_mesh((4, 2), ("a", "b")))


def test_one_compilation_for_all_chunks(points):
    count = []

    def function(point):
        count.append(1)
        return point["x"] + 1

    for _ in range(2):
        found = map_points(function, points, devices=ONE, chunk=4)
    np.testing.assert_allclose(found, points["x"] + 1)
    assert len(count) == 1


def test_batched_models_and_keys(two_bins):
    """Signal points are a model whose numbers have a leading axis."""
    models = [two_bins([s, 2.0], [50.0, 52.0], [3.0, 7.0]) for s in (1.0, 5.0, 9.0)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    keys = jax.random.split(jax.random.key(0), 3)

    def rates(point):
        model, key = point
        return model.expected_main(model.init), jax.random.uniform(key)

    found, uniform = map_points(rates, (batch, keys), devices=ONE, chunk=2)
    np.testing.assert_allclose(found, [[51.0, 54.0], [55.0, 54.0], [59.0, 54.0]])
    np.testing.assert_array_equal(uniform, jax.vmap(jax.random.uniform)(keys))


def test_bad_points():
    for points in ({}, {"x": np.ones(3), "y": np.ones(2)}, np.ones(0), np.array(1.0)):
        with pytest.raises(InputError, match="same leading axis"):
            map_points(lambda point: point, points)
    with pytest.raises(ConfigError, match="chunk = 0"):
        map_points(lambda x: x, np.ones(3), chunk=0)
    with pytest.raises(ConfigError, match="no devices"):
        map_points(lambda x: x, np.ones(3), devices=[])
    assert chunk_size(21, 10, workers=8) == 16
    assert chunk_size(3, None, workers=8) == 8


def test_a_killed_worker_loses_and_doubles_nothing(tmp_path, two_bins):
    """Two processes, one of them killed while it works: the result is that of one process."""
    distributed = pytest.importorskip("distributed")
    model = two_bins([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
    log = str(tmp_path)
    points = np.arange(16.0)

    def slow(mu, model, key):
        import os as system
        import pathlib
        import time as clock

        def note(mu):
            clock.sleep(0.1)
            own = pathlib.Path(log) / str(system.getpid())
            with own.open("a") as stream:
                stream.write(f"{int(mu)}\n")
            return mu

        if log:
            kind = jax.ShapeDtypeStruct((), mu.dtype)
            mu = jax.pure_callback(note, kind, mu, vmap_method="sequential")
        rates = model.expected_main(model.init.at[model.poi_index].set(mu))
        return rates.sum() + jax.random.normal(jax.random.fold_in(key, mu.astype(int)))

    constants = (model, jax.random.key(3))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            local_directory=log, silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        killed = []

        def kill():
            """Kill the first worker that has finished a point, while it is at the next."""
            deadline = time.monotonic() + 60
            while not killed and time.monotonic() < deadline:
                for file in tmp_path.glob("[0-9]*"):
                    os.kill(int(file.name), signal.SIGKILL)
                    killed.append(file)
                    return
                time.sleep(0.01)

        thread = threading.Thread(target=kill)
        thread.start()
        found = map_points_distributed(slow, points, client=client, constants=constants, chunk=2)
        thread.join()
        assert killed
        workers = {int(file.name) for file in tmp_path.glob("[0-9]*")}
    assert len(workers) >= 2  # others went on
    done = [int(x) for file in tmp_path.glob("[0-9]*") for x in file.read_text().split()]
    assert set(done) == set(range(16))
    log = ""  # the same function, without the waiting
    serial = map_points(slow, points, constants=constants, chunk=2, devices=ONE)
    np.testing.assert_array_equal(found, serial)


@eight
def test_impacts_and_scans_over_eight_devices(two_bins):
    model = two_bins([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
    data = model.data([55.0, 60.0])
    alone = impacts(model, data)
    spread = impacts(model, data, devices=jax.devices(), batch=1)
    np.testing.assert_allclose(spread.postfit_up, alone.postfit_up, rtol=1e-9)
    np.testing.assert_array_equal(spread.status, alone.status)
    values = {"mu": np.linspace(0.0, 2.0, 5)}
    mesh = jax.make_mesh((8,), ("points",))
    np.testing.assert_allclose(
        profile_scan(model, data, values, devices=mesh, batch=1).twice_delta_nll,
        profile_scan(model, data, values).twice_delta_nll,
        atol=1e-9,
    )


@pytest.mark.slow
def test_toys_and_impacts_on_a_cluster(tmp_path, two_bins):
    distributed = pytest.importorskip("distributed")
    model = two_bins([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
    data = model.data([55.0, 60.0])
    key = jax.random.key(5)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            local_directory=str(tmp_path), silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        found = toys(model, data, mu=1.0, number=300, key=key, chunk=100, client=client)
        ranked = impacts(model, data, client=client)
    alone = toys(model, data, mu=1.0, number=300, key=key)
    np.testing.assert_allclose(found.signal, alone.signal, atol=1e-9)
    np.testing.assert_allclose(found.background, alone.background, atol=1e-9)
    np.testing.assert_allclose(ranked.postfit_up, impacts(model, data).postfit_up, rtol=1e-9)
