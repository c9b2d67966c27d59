"""Events of Pythia: what is kept of them, whole files, and (without Pythia) detector and shifts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from difana._errors import ConfigError, InputError
from difana.cli import main
from difana.data import Inputs, read_events
from difana.data.generate.pythia import (
    CHANNELS,
    PROCESSES,
    ConstituentScale,
    Detector,
    Generation,
    TrackingEfficiency,
    detect,
    jet_systematics,
    read_generated,
    shower_variations,
    simulate,
    write_generated,
)
from difana.data.generate.pythia import write as writing
from difana.data.generate.pythia.clustering import anti_kt, cylindrical, n_subjettiness
from difana.data.generate.pythia.record import ORIGINS, Record, origins, partons, prompt_leptons

PT, ETA, PHI, MASS, CHARGE, TYPE, D0, DZ = range(len(CHANNELS))
JETS = 60


def needs_pythia() -> None:
    pytest.importorskip("pythia8mc")
    pytest.importorskip("fastjet")


@pytest.fixture(scope="module")
def tops(tmp_path_factory):
    """Return a file of top jets, made in two processes, a chunk each."""
    needs_pythia()
    path = tmp_path_factory.mktemp("pythia") / "tops.parquet"
    return write_generated(Generation("top"), path, number=JETS, processes=2, chunk=30)


def test_top_jets_have_the_mass_of_the_top_and_sum_their_constituents(tops):
    events = read_generated(tops, max_particles=200)
    assert len(events) == JETS
    assert events.particle_columns == CHANNELS
    assert 150 < float(jnp.median(events["jet_mass"])) < 200
    assert float(events["jet_pt"].min()) >= 550
    assert float(events["jet_pt"].max()) <= 650
    p = np.asarray(events.particles, float)
    px, py = (p[..., PT] * f(p[..., PHI]) for f in (np.cos, np.sin))
    np.testing.assert_allclose(np.hypot(px.sum(1), py.sum(1)), events["jet_pt"], rtol=1e-4)
    assert bool(jnp.all(jnp.diff(jnp.where(events.mask, events.particles[..., PT], 0)) <= 0))
    tau = [events[f"jet_tau{i}"] for i in (1, 2, 3)]
    assert bool(jnp.all((tau[0] >= tau[1]) & (tau[1] >= tau[2])))
    assert float(jnp.median(tau[2] / tau[1])) < 0.7  # three prongs


def test_a_file_is_made_once_and_its_chunks_are_a_function_of_the_seed(tops, tmp_path):
    before = tops.stat().st_mtime_ns
    again = write_generated(Generation("top"), tops, number=JETS, chunk=30)
    assert again.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="holds other events"):
        write_generated(Generation("top", seed=2), tops, number=JETS, chunk=30)
    part = simulate(Generation("top"), 10, chunk=1)
    whole = read_events(tops, columns=["jet_pt", "event"], dtype=np.float64)
    np.testing.assert_allclose(whole["jet_pt"][30:40], part["jet_pt"])
    assert len(np.unique(whole["event"])) <= JETS
    assert bool(jnp.all(jnp.diff(whole["event"]) >= 0))


def test_a_killed_run_continues_with_the_chunks_that_are_missing(tops, tmp_path, monkeypatch):
    path, made, real = tmp_path / "tops.parquet", [], writing.make_part

    def killed(generation, folder, number, rows):
        if number == 1:
            raise KeyboardInterrupt
        made.append(number)
        real(generation, folder, number, rows)

    monkeypatch.setattr(writing, "make_part", killed)
    options = {"number": 20, "processes": 1, "chunk": 10}
    with pytest.raises(KeyboardInterrupt):
        write_generated(Generation("w", shower_weights=False), path, **options)
    assert made == [0]
    assert not path.exists()
    with pytest.raises(ConfigError, match="chunks of other events"):
        write_generated(Generation("z", shower_weights=False), path, **options)
    monkeypatch.setattr(writing, "make_part", lambda *a: (made.append(a[2]), real(*a)))
    write_generated(Generation("w", shower_weights=False), path, **options)
    assert made == [0, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["tops.parquet"]
    assert 60 < float(jnp.median(read_generated(path, max_particles=200)["jet_mass"])) < 110


def test_shower_weights_keep_the_yield_and_change_the_shape(tops):
    events = read_generated(tops, max_particles=200)
    isr, fsr = shower_variations(tops, events)
    assert (isr.name, fsr.name) == ("shower_isr", "shower_fsr")
    np.testing.assert_allclose(fsr.up.sum(), events.weights.sum(), rtol=1e-5)
    assert float(jnp.std(fsr.up / events.weights)) > 0.1
    with pytest.raises(InputError, match="read all"):
        shower_variations(tops, read_generated(tops, selection="jet_pt > 600", max_particles=200))


@pytest.mark.parametrize(
    ("process", "leptons"),
    [("ttbar_semileptonic", 1), ("ttbar_dilepton", 2), ("wprime", 0)],
)
def test_events_keep_jets_leptons_and_partons(process, leptons):
    needs_pythia()
    import awkward as ak

    found = simulate(Generation(process, shower_weights=False), 20)
    assert len(found["met_pt"]) == 20
    assert ak.all(ak.num(found["lepton_pt"]) >= leptons)
    identifiers = np.abs(ak.to_numpy(found["parton_id"])).reshape(20, 2, 4)
    if process == "wprime":
        assert set(np.unique(identifiers[:, :, 0])) == {9000001, 9000002}
        assert ak.all(found["jet_pt"][:, 0] > 1200)
        assert ak.all(ak.num(found["jet_pt"]) == 2)
    else:
        assert set(np.unique(identifiers[:, :, 0])) == {6}
        p = [ak.to_numpy(found[f"parton_{x}"]).reshape(20, 2, 4) for x in ("pt", "eta", "phi")]
        mass = ak.to_numpy(found["parton_mass"]).reshape(20, 2, 4)
        vectors = [p[0] * np.cos(p[2]), p[0] * np.sin(p[2]), p[0] * np.sinh(p[1])]
        vectors = [np.sqrt(sum(v**2 for v in vectors) + mass**2), *vectors]

        def mass_of(first):
            squares = [v[..., first:].sum(-1) ** 2 for v in vectors]
            return np.sqrt(squares[0] - sum(squares[1:]))

        assert np.median(mass_of(2)) == pytest.approx(80.4, abs=1)  # the W
        # the b is that before its radiation, the W that after the recoil
        np.testing.assert_allclose(mass_of(1), mass[..., 0], rtol=0.1)
    assert ak.all(found["part_jet"] < ak.num(found["jet_pt"]))


def test_every_process_is_known_to_pythia():
    needs_pythia()
    import pythia8mc

    pythia = pythia8mc.Pythia("", False)  # noqa: FBT003
    for name, process in PROCESSES.items():
        commands = Generation(name).pythia_commands(seed=1)
        for command in (*commands, *(c for each in process.alternatives for c in each)):
            assert pythia.readString(command), f"{name}: {command}"


def test_the_command_writes_a_file_and_names_what_is_wrong(tmp_path):
    needs_pythia()
    out = tmp_path / "jets.parquet"
    run = CliRunner().invoke
    words = ["generate", "qcd", "--number", "5", "--out", str(out), "--no-shower-weights"]
    done = run(main, [*words, "--processes", "1", "--pt-min", "500"])
    assert done.exit_code == 0, done.output
    assert "5 rows of qcd" in done.output
    assert len(read_generated(out, max_particles=200)) == 5
    assert "Did you mean 'qcd'" in run(main, ["generate", "qdc", *words[2:]]).output
    other = ["--out", str(tmp_path / "x.parquet"), "--processes", "1", "--set", "No:such = 1"]
    assert "does not know the setting" in run(main, [*words, *other]).output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"process": "tpo"}, "Did you mean 'top'"),
        ({"process": "top", "pt_min": 900.0}, "is not below pt_max"),
        ({"process": "top", "seed": -1}, "seed = -1"),
        ({"process": "top", "radius": float("nan")}, "radius = nan"),
        ({"process": "top", "commands": ("Tune:pp",)}, "must read 'Key = value'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        Generation(**options)


# what follows needs neither Pythia nor fastjet, but for jets


def record(rows) -> Record:
    """Return one event: rows of id, status, mother, first and last daughter, momentum, vertex."""
    identifiers, status, mother, one, two, p, vertex = (
        np.array(x) for x in zip(*rows, strict=True)
    )
    return Record(
        np.array([len(rows)]),
        np.zeros(len(rows), int),
        identifiers,
        status,
        mother,
        np.stack([one, two], 1),
        p.astype(float),
        np.zeros(len(rows)),
        vertex.astype(float),
    )


P, V = [1.0, 0, 0, 1], [0.0, 0, 0]
EVENT = record([
    (90, -11, 0, 0, 0, P, V),
    (6, -22, 0, 2, 2, P, V),  # a top, its last copy, W b, the quarks of the W
    (6, -62, 1, 3, 4, P, V),
    (24, -22, 2, 5, 6, P, V),
    (5, -23, 2, 7, 7, P, V),
    (-1, -23, 3, 0, 0, P, V),
    (2, -23, 3, 0, 0, P, V),
    (511, -83, 4, 8, 9, P, V),  # B0 -> D- e+
    (-411, -91, 7, 10, 10, P, [0, 0, 1.0]),
    (-11, 91, 7, 0, 0, P, [0, 0, 1.0]),
    (211, 91, 8, 0, 0, P, [0, 0, 2.0]),
    (211, 83, 4, 0, 0, P, V),
    (13, 1, 3, 0, 0, P, V),
])  # fmt: skip


def test_truth_of_an_event_record():
    found = partons(EVENT, (6, -6))
    assert found["head"].tolist() == [[2, -1]]
    assert found["decay"].tolist() == [[[4, 6, 5], [-1, -1, -1]]]
    code = origins(EVENT)
    names = [ORIGINS[name] for name in ("b", "b_to_c", "primary")]
    assert code[[9, 10, 11]].tolist() == names
    assert np.flatnonzero(prompt_leptons(EVENT)).tolist() == [12]  # not the one of the B


def cluster_by_hand(p, radius, pt_min):
    """Return transverse momenta of anti-kT jets: the definition, in loops."""
    p, jets = [np.array(x) for x in p], []
    while p:
        pt, _, phi, _ = cylindrical(np.array(p))
        y = np.array([0.5 * np.log((x[3] + x[2]) / (x[3] - x[2])) for x in p])
        turn = (phi[:, None] - phi + np.pi) % (2 * np.pi) - np.pi
        d = np.minimum(pt[:, None] ** -2, pt**-2.0) * ((y[:, None] - y) ** 2 + turn**2) / radius**2
        np.fill_diagonal(d, pt**-2.0)
        i, j = sorted(np.unravel_index(np.argmin(d), d.shape))
        if i == j:
            jets.append(pt[i])
            del p[i]
        else:
            p[i] = p[i] + p[j]
            del p[j]
    return sorted((x for x in jets if x > pt_min), reverse=True)


def test_jets_are_those_of_the_definition(tmp_path):
    pytest.importorskip("fastjet")
    rng = np.random.default_rng(3)
    pt, eta, phi = rng.exponential(10, 40) + 1, rng.normal(0, 1, 40), rng.uniform(-3, 3, 40)
    p = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], 1)
    counts = np.array([25, 15])
    jets, constituents = anti_kt(p, counts, radius=0.8, pt_min=5.0)
    for event, part in enumerate((p[:25], p[25:])):
        found = np.hypot(jets[event].px, jets[event].py)
        np.testing.assert_allclose(found, cluster_by_hand(part, 0.8, 5.0), rtol=1e-9)
        inside = part[np.asarray(constituents[event][0])].sum(axis=0)
        np.testing.assert_allclose(np.hypot(*inside[:2]), found[0])
    tau = n_subjettiness(p[:3], np.array([1, 2]), radius=0.8)
    assert tau[0].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    assert tau[1, 0] > 0
    assert tau[1, 1:].tolist() == pytest.approx([0, 0], abs=1e-9)


@pytest.fixture(scope="module")
def true() -> Inputs:
    """Return 200 jets of 50 particles, some masked."""
    rng = np.random.default_rng(1)
    shape = (200, 50)
    kind = rng.integers(0, 3, shape)
    x = np.stack([
        rng.exponential(20, shape) + 0.3, rng.normal(0, 0.3, shape), rng.normal(0, 0.3, shape),
        np.full(shape, 0.14), np.where(kind == 0, rng.choice([-1, 1], shape), 0), kind,
        np.where(kind == 0, rng.normal(0, 0.1, shape), 0),
        np.where(kind == 0, rng.normal(0, 0.1, shape), 0),
    ], axis=-1)  # fmt: skip
    mask = np.arange(50) < rng.integers(1, 50, 200)[:, None]
    return Inputs(jnp.ones((200, 1)), jnp.asarray(x, jnp.float32), jnp.asarray(mask)).cleaned()


def test_a_detector_has_the_efficiency_and_the_resolution_it_was_given(true, key):
    seen = jax.jit(lambda inputs: detect(inputs, key=key))(true)
    x, y = np.asarray(true.particles), np.asarray(seen.particles)
    fast = np.asarray(true.mask) & (x[..., CHARGE] != 0) & (x[..., PT] > 1)
    track = y[..., CHARGE] != 0
    assert track[fast].mean() == pytest.approx(0.95, abs=0.02)
    assert not track[~np.asarray(true.mask)].any()
    pull = (y[..., PT] / np.maximum(x[..., PT], 0.1) - 1)[fast & track] / 0.01
    assert np.std(pull) == pytest.approx(1.0, abs=0.1)
    photon = np.asarray(seen.mask) & (x[..., TYPE] == 2)
    offset = (y[..., ETA] / 0.02) % 1
    np.testing.assert_allclose(offset[photon & (y[..., TYPE] == 2) & ~track], 0.5, atol=2e-2)
    energy = np.maximum(x[..., PT] * np.cosh(x[..., ETA]), 0.1)
    width = np.hypot(0.05 / np.sqrt(energy), 0.007)
    pull = ((y[..., PT] / np.maximum(x[..., PT], 0.1) - 1) / width)[photon & (x[..., PT] > 2)]
    assert np.std(pull) == pytest.approx(1.0, abs=0.1)
    assert np.all(y[~np.asarray(seen.mask)] == 0)


def test_two_detectors_differ_by_their_parameters_alone(true, key):
    one = detect(true, key=key, detector=Detector(tracking_efficiency=0.95))
    two = detect(true, key=key, detector=Detector(tracking_efficiency=0.92))
    lost = (one.particles[..., CHARGE] != 0) & (two.particles[..., CHARGE] == 0)
    gained = (one.particles[..., CHARGE] == 0) & (two.particles[..., CHARGE] != 0)
    assert int(lost.sum()) > 10
    assert int(gained.sum()) == 0
    same = ~lost & one.mask
    np.testing.assert_array_equal(one.particles[same], two.particles[same])


def test_a_detector_is_differentiable_in_its_parameters(true, key):
    def width(constant):
        own = Detector(track_resolution=(constant, 1e-4))
        return jnp.std(
            detect(true, key=key, detector=own).particles[..., PT] - true.particles[..., PT]
        )

    slope = jax.grad(width)(0.1)
    difference = (width(0.101) - width(0.099)) / 0.002
    assert float(slope) == pytest.approx(float(difference), rel=0.02)


def test_shifts_are_the_identity_at_zero_and_never_touch_the_padding(true):
    for variation in jet_systematics():
        same = variation.move(true, jnp.asarray(0.0))
        np.testing.assert_array_equal(same.particles, true.particles)
        moved = variation.move(true, jnp.asarray(1.0))
        assert bool(jnp.any(moved.particles != true.particles))
        assert not bool(jnp.any(jnp.where(true.mask[..., None], 0, moved.particles)))


def test_scales_and_lost_tracks_have_their_size(true):
    moved = ConstituentScale(0.05)(true, -1.0)
    ratio = (moved.particles[..., PT] / true.particles[..., PT])[true.mask]
    np.testing.assert_allclose(ratio, 0.95, rtol=1e-6)
    charged = (
        ConstituentScale(0.05, "charged")(true, 1.0).particles[..., PT] / true.particles[..., PT]
    )
    np.testing.assert_allclose(charged[true.mask & (true.particles[..., CHARGE] == 0)], 1.0)
    tracks = true.particles[..., CHARGE] != 0
    lost = TrackingEfficiency(0.1)(true, 1.0).particles[..., CHARGE] == 0
    assert float((lost & tracks).sum() / tracks.sum()) == pytest.approx(0.1, abs=0.02)
    part = TrackingEfficiency(0.1)(true[:7], 1.0)  # the same ones in any batch
    np.testing.assert_array_equal(part.particles[..., CHARGE] == 0, lost[:7])


def test_particles_with_other_channels_are_refused(true, key):
    other = Inputs(true.features, true.particles[..., :4], true.mask)
    for function in (lambda x: detect(x, key=key), lambda x: ConstituentScale(0.1)(x, 1.0)):
        with pytest.raises(InputError, match="with 4 channels"):
            function(other)
    with pytest.raises(InputError, match="acts on particles"):
        detect(jnp.ones((2, 3)), key=key)
