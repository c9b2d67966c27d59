"""Options of the commands on workspaces: parameters, blind results, formats, exit codes."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyhf
import pytest
from click.testing import CliRunner, Result

from difana.cli import main
from difana.cli._output import finish, note
from difana.infer import asimov_data, fit, pulls, uncertainty_split, upper_limit, yields
from difana.likelihood import from_workspace, model_with, to_hs3

Invoke = Callable[..., Result]


def normfactor(name: str) -> dict[str, Any]:
    return {"name": name, "type": "normfactor", "data": None}


SPEC: dict[str, Any] = {
    "channels": [
        {
            "name": "SR",
            "samples": [
                {"name": "signal", "data": [12.0, 11.0], "modifiers": [normfactor("mu")]},
                {
                    "name": "background",
                    "data": [50.0, 52.0],
                    "modifiers": [
                        normfactor("k"),
                        {"name": "unc", "type": "shapesys", "data": [3.0, 7.0]},
                        {"name": "norm", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
                    ],
                },
            ],
        }
    ],
    "observations": [{"name": "SR", "data": [55.0, 60.0]}],
    "measurements": [
        {
            "name": "meas",
            "config": {"poi": "mu", "parameters": [{"name": "k", "fixed": True}]},
        }
    ],
    "version": "1.0.0",
}


@pytest.fixture(autouse=True)
def no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the settings of the test session alone."""
    monkeypatch.setattr("difana.cli._setup.start", lambda **_: None)


@pytest.fixture
def invoke() -> Invoke:
    return lambda *args, **keys: CliRunner().invoke(main, [str(arg) for arg in args], **keys)


def changed(**parts: Any) -> dict[str, Any]:
    """Return the workspace with other parts; None leaves one out."""
    spec = {**copy.deepcopy(SPEC), **parts}
    return {key: value for key, value in spec.items() if value is not None}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(spec: Any, name: str = "w.json") -> Path:
        (tmp_path / name).write_text(json.dumps(spec))
        return tmp_path / name

    return write


def result_of(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.count("Traceback") == 0
    for word in words:
        assert word in result.stderr, result.stderr


def test_parameters_from_the_command_line(invoke: Invoke, write: Callable[..., Path]) -> None:
    path = write(SPEC)
    model, data = from_workspace(SPEC)
    options = ("--fix", "norm=0.5", "--bounds", "mu=-5,20", "--set", "unc=1.1", "--json")
    found = result_of(invoke("fit", path, *options))
    expected = fit(
        model_with(model, fixed={"norm": 0.5}, bounds={"mu": (-5, 20)}, init={"unc": 1.1}), data
    )
    assert found["parameters"]["norm"]["value"] == 0.5
    assert found["parameters"]["norm"]["uncertainty"] == 0
    np.testing.assert_allclose(found["nll"], float(expected.nll), rtol=1e-10)
    # the factor that the measurement holds becomes the parameter of interest
    other = result_of(invoke("fit", path, "--fix", "mu=0", "--fix", "norm", "--json"))
    assert other["parameters"]["mu"]["value"] == 0
    table = invoke("fit", path, "--fix", "norm=0.5").stdout
    assert table.count("held") == 2  # norm and k


def test_another_parameter_of_interest(invoke: Invoke, write: Callable[..., Path]) -> None:
    spec = changed(measurements=[{"name": "m", "config": {"poi": "mu", "parameters": []}}])
    path = write(spec)
    model, data = from_workspace(spec, poi="k")
    found = result_of(invoke("limit", path, "--poi", "k", "--fix", "mu=0", "--json"))
    expected = upper_limit(model_with(model, fixed={"mu": 0.0}), data)
    np.testing.assert_allclose(found["observed"], float(expected.observed), rtol=1e-6)
    table = invoke("limit", path, "--poi", "k", "--fix", "mu=0")
    assert "k <" in table.stdout


def test_blind_and_observed_alone(invoke: Invoke, write: Callable[..., Path]) -> None:
    first = write(SPEC)
    unseen = write(changed(observations=None), "unseen.json")
    nonsense = write(changed(observations=[{"name": "SR", "data": [-3.0, "x"]}]), "nonsense.json")
    for command in ("limit", "cls", "significance"):
        found = [
            invoke(command, path, "--expected", "--json") for path in (first, unseen, nonsense)
        ]
        assert "observed" not in result_of(found[0])
        assert found[0].stdout == found[1].stdout == found[2].stdout
        assert "observed" not in invoke(command, first, "--expected").stdout
        alone = result_of(invoke(command, first, "--observed", "--json"))
        assert "expected" not in alone
        assert alone["observed"] == result_of(invoke(command, first, "--json"))["observed"]
        assert "expected" not in invoke(command, first, "--observed").stdout
        without = result_of(invoke(command, unseen, "--json"))
        assert without["observed"] is None
        assert without["expected"] == result_of(found[0])["expected"]
        refused(invoke(command, unseen, "--observed"), "the workspace has no observations")
        refused(invoke(command, first, "--expected", "--observed"), "exclude each other")
        refused(invoke(command, nonsense), "SR")


def test_fits_to_asimov_data(invoke: Invoke, write: Callable[..., Path]) -> None:
    first, unseen = write(SPEC), write(changed(observations=None), "unseen.json")
    model, _ = from_workspace(SPEC)
    for options, mu in (((), 1.0), (("--set", "mu=0.5"), 0.5)):
        found = result_of(invoke("fit", first, "--expected", *options, "--json"))
        assert found["parameters"]["mu"]["value"] == pytest.approx(mu, abs=1e-6)
        expected = fit(model, asimov_data(model, mu=mu).data)
        np.testing.assert_allclose(found["nll"], float(expected.nll), rtol=1e-10)
    for command, options in (
        ("fit", ()), ("scan", ("--points", 3)), ("impacts", ("--method", "gradient")),
        ("pulls", ()), ("yields", ()),
    ):  # fmt: skip
        found = [
            invoke(command, path, "--expected", *options, "--json") for path in (first, unseen)
        ]
        assert result_of(found[0]) == result_of(found[1])
        refused(invoke(command, unseen, *options), "--expected gives results on Asimov data")


def test_pulls(invoke: Invoke, write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(SPEC)
    model, data = from_workspace(SPEC)
    expected = pulls(model, fit(model, data))
    found = result_of(invoke("pulls", path, "--json"))["parameters"]
    assert list(found) == list(expected.names)
    for i, entry in enumerate(found.values()):
        assert entry["pull"] == pytest.approx(float(expected.pulls[i]), abs=1e-9)
        assert entry["width"] == pytest.approx(float(expected.ratios[i]), abs=1e-9)
    text = invoke("pulls", path, "--fix", "norm", "--plot", tmp_path / "p.png")
    assert "held, or at its bound" in text.stdout
    assert (tmp_path / "p.png").is_file()


def test_yields(invoke: Invoke, write: Callable[..., Path]) -> None:
    path = write(SPEC)
    model, data = from_workspace(SPEC)
    before, after = yields(model), yields(model, fit=fit(model, data))
    found = result_of(invoke("yields", path, "--json"))
    assert found["data"] == {"SR": [55.0, 60.0]}
    for label, result in (("pre-fit", before), ("post-fit", after)):
        for key in ("yields", "errors", "sum", "sum_error"):
            np.testing.assert_allclose(found[label]["SR"][key], result.channel("SR")[key])
    text = invoke("yields", path).stdout
    assert text == before.as_text(data) + "\n\n" + after.as_text(data) + "\n"
    assert "post-fit" not in invoke("yields", path, "--prefit").stdout
    assert "pre-fit" not in invoke("yields", path, "--postfit", "--sums").stdout
    rows = invoke("yields", path, "--csv", "--prefit", "-c", "SR").stdout.splitlines()
    assert rows[0] == "fit,channel,bin,sample,yield,error"
    assert rows[1].startswith("pre-fit,SR,1,background,50.0,")
    assert rows[-1] == ",SR,2,data,60.0,"
    refused(invoke("yields", path, "-c", "SRR"), "Did you mean 'SR'?")
    refused(invoke("yields", path, "--csv", "--json"), "exclude each other")


def test_background_only_workspaces(invoke: Invoke, write: Callable[..., Path]) -> None:
    channel = copy.deepcopy(SPEC["channels"][0])
    signal = channel["samples"].pop(0)
    patch = write([{"op": "add", "path": "/channels/0/samples/-", "value": signal}], "p.json")
    for poi, words in (("mu", ("'mu' steers no sample", "--patch FILE")), ("", ("--poi NAME",))):
        config = {"poi": poi, "parameters": []}
        spec = changed(channels=[channel], measurements=[{"name": "m", "config": config}])
        path = write(spec)
        for command in ("inspect", "fit", "yields", "pulls"):
            found = invoke(command, path)
            assert found.exit_code == 0, found.stderr
        for command in ("limit", "cls", "significance", "toys", "bayes", "scan", "impacts"):
            refused(invoke(command, path), *words)
        scan = result_of(invoke("scan", path, "--parameter", "norm", "--points", 2, "--json"))
        assert list(scan["parameters"]) == ["norm"]
        assert result_of(invoke("cls", path, "--poi", "k", "--json"))["status"] == "ok"
        if poi:
            assert result_of(invoke("cls", path, "--patch", patch, "--json"))["status"] == "ok"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("cls", "--mu", "-1"), "at least 0"),
        (("cls", "--mu", "nan"), "not a finite number"),
        (("cls", "--mu", "inf"), "not a finite number"),
        (("cls", "--mu", "x"), "no number"),
        (("toys", "--mu", "-1"), "at least 0"),
        (("toys", "--mu", "inf"), "not a finite number"),
        (("toys", "--number", "0"), "--number"),
        (("toys", "--number", "1000000000000"), "--number"),
        (("toys", "--seed", "-1"), "--seed"),
        (("bayes", "--seed", "1.5"), "--seed"),
        (("bayes", "--level", "1"), "less than 1"),
        (("limit", "--level", "0"), "greater than 0"),
        (("limit", "--level", "95"), "less than 1"),
        (("limit", "--level", "nan"), "not a finite number"),
        (("scan", "--range", "0", "inf"), "not a finite number"),
        (("limit", "--bounds", "mu=-5,-1"), "exclude every limit"),
        (("limit", "--bounds", "mu=-5,0"), "exclude every limit"),
        (("limit", "--bounds", "mu=5,0"), "must rise"),
        (("limit", "--bounds", "mu=5"), "NAME=LO,HI"),
        (("limit", "--bounds", "mu=a,b"), "no number"),
        (("limit", "--bounds", "mu=nan,1"), "must rise"),
        (("limit", "--poi", "mv"), "Did you mean 'mu'?"),
        (("limit", "--fix", "nrm"), "Did you mean 'norm'?"),
        (("limit", "--fix", "norm="), "no number"),
        (("limit", "--fix", "norm=99"), "outside its bounds -5 to 5"),
        (("limit", "--fix", "mu"), "--fix mu: the parameter of interest cannot be held"),
        (("limit", "--fix", "norm", "--fix", "norm=1"), "stands twice"),
        (("limit", "--set", "norm"), "NAME=VALUE"),
        (("limit", "--set", "norm=nan"), "finite"),
        (("limit", "--set", "=1"), "names no parameter"),
    ],
)
def test_values_that_mean_nothing(
    invoke: Invoke, write: Callable[..., Path], options: tuple[str, ...], words: str
) -> None:
    refused(invoke(options[0], write(SPEC), *options[1:]), words)


def test_every_format(invoke: Invoke, write: Callable[..., Path], tmp_path: Path) -> None:
    spec = changed(measurements=[{"name": "m", "config": {"poi": "mu", "parameters": []}}])
    path = write(spec)
    hs3 = write(to_hs3(*from_workspace(spec), name="m"), "hs3.json")
    texts = {"w.json.gz": path.read_bytes(), "hs3.json.gz": hs3.read_bytes()}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(gzip.compress(text))
    expected = result_of(invoke("cls", path, "--json"))
    for name in ("hs3.json", *texts):
        found = result_of(invoke("cls", tmp_path / name, "--json"))
        np.testing.assert_allclose(found["observed"], expected["observed"], rtol=1e-6)
    found = result_of(invoke("cls", "-", "--json", input=gzip.compress(hs3.read_bytes())))
    np.testing.assert_allclose(found["observed"], expected["observed"], rtol=1e-6)
    assert "Poisson" in invoke("inspect", hs3).stdout
    converted = result_of(invoke("patch", hs3))
    assert converted["measurements"][0]["config"]["poi"] == "mu"
    left = result_of(invoke("prune", hs3, "--bins", "SR:1"))
    assert left["observations"] == [{"name": "SR", "data": [60.0]}]
    patchset = {"patches": [], "metadata": {}, "version": "1.0.0"}
    refused(invoke("limit", write(patchset)), "is a patch set", "--patchset")


def test_bins(invoke: Invoke, write: Callable[..., Path]) -> None:
    path = write(SPEC)
    assert result_of(invoke("prune", path, "-b", "SR:2"))["channels"][0]["samples"][0]["data"] == [
        12.0
    ]
    assert result_of(invoke("prune", path, "--below", "62.5"))["observations"][0]["data"] == [60.0]
    for text in ("SR:0", "SR", "SR:1,x", ":1"):
        refused(invoke("prune", path, "--bins", text), "CHANNEL:N,N")
    refused(invoke("prune", path, "--bins", "SR:3"), "has 2 bins")
    refused(invoke("prune", path, "--bins", "SR:1,2"), "no bin left")


def test_notes(invoke: Invoke, write: Callable[..., Path]) -> None:
    """Few expected events and fractional counts are said, and the command to run instead."""
    channel = {
        "name": "SR",
        "samples": [
            {"name": "s", "data": [2.0, 3.0], "modifiers": [normfactor("mu")]},
            {"name": "b", "data": [1.5, 40.0], "modifiers": [normfactor("k")]},
        ],
    }
    spec = changed(channels=[channel], observations=[{"name": "SR", "data": [2.0, 41.5]}])
    path = write(spec)
    found = invoke("cls", path, "--set", "k=1", "--json")
    assert result_of(found)["status"] == "ok"
    assert "bin 2: 41.5 events observed" in found.stderr
    assert "bin 1 expects 1.5 background events" in found.stderr
    assert f"difana toys {path} --set k=1 --mu 1" in found.stderr
    assert "rests on the equivalent of 3.6 events" in found.stderr
    assert "41.5" not in invoke("cls", path, "--expected").stderr
    assert invoke("cls", write(SPEC)).stderr == ""


def test_masks_and_full_statistics(invoke: Invoke, write: Callable[..., Path]) -> None:
    """Options of the reader, for both formats, and in the command that a note names."""
    control = {
        "name": "CR",
        "samples": [
            {
                "name": "background",
                "data": [30.0],
                "modifiers": [
                    normfactor("k"),
                    {"name": "stat", "type": "staterror", "data": [3.0]},
                ],
            },
            {
                "name": "other",
                "data": [4.0],
                "modifiers": [{"name": "stat", "type": "staterror", "data": [2.0]}],
            },
        ],
    }
    observations = [*SPEC["observations"], {"name": "CR", "data": [50.0]}]
    spec = changed(channels=[*SPEC["channels"], control], observations=observations)
    path, other = write(spec), write(to_hs3(*from_workspace(spec)), "hs3.json")
    alone = result_of(invoke("limit", write(SPEC, "alone.json"), "--json"))
    for file in (path, other):
        found = result_of(invoke("limit", file, "--mask", "CR", "--json"))
        np.testing.assert_allclose(found["observed"], alone["observed"], rtol=1e-7)
        names = result_of(invoke("fit", file, "--barlow-beeston", "full", "--json"))["parameters"]
        assert {"stat_background[0]", "stat_other[0]"} <= set(names)
    refused(invoke("fit", path, "--mask", "XR"), "no channel 'XR' to mask")
    lone = changed(observations=SPEC["observations"], channels=[*SPEC["channels"], control])
    assert invoke("fit", write(lone), "--mask", "CR").exit_code == 0  # no observation is needed


def test_kinds_of_impacts(invoke: Invoke, write: Callable[..., Path], tmp_path: Path) -> None:
    path, (model, data) = write(SPEC), from_workspace(SPEC)
    for kind in ("global", "covariance"):
        options = ("--kind", kind, "--method", "gradient")
        found = result_of(invoke("impacts", path, *options, "--json"))
        expected = uncertainty_split(model, data, kind=kind, method="gradient")
        np.testing.assert_allclose(found["systematic"], float(expected.systematic), rtol=1e-6)
        assert found["kind"] == kind
        table = invoke("impacts", path, *options, "--most", "1", "--plot", tmp_path / "a.png")
        assert "statistical" in table.stdout
        assert "more with --most" in table.stdout
    assert (tmp_path / "a.png").stat().st_size > 0


def test_texts_of_two_bytes_a_letter(invoke: Invoke, tmp_path: Path) -> None:
    """XML may be UTF-16, JSON may not: each is read, or refused for its own reason."""
    path = tmp_path / "w.json"
    path.write_text(json.dumps(SPEC), encoding="utf-16")
    refused(invoke("inspect", path), "is UTF-16; JSON is UTF-8")
    path = tmp_path / "top.xml"
    path.write_text("<Combination><Input>gone.xml</Input></Combination>", encoding="utf-16")
    refused(invoke("inspect", path), "top.xml': no file", "gone.xml")


def test_exit_code_of_numbers_that_cannot_be_trusted(
    invoke: Invoke, write: Callable[..., Path]
) -> None:
    """A shift makes the first bin negative: code 3, one line also with JSON; or clipped."""
    shift = {
        "name": "j",
        "type": "histosys",
        "data": {"hi_data": [6.0, 44.0], "lo_data": [-4.0, 36.0]},
    }
    samples = [
        {"name": "sig", "data": [2.0, 8.0], "modifiers": [normfactor("mu")]},
        {"name": "bkg", "data": [3.0, 40.0], "modifiers": [shift]},
    ]
    config = {"poi": "mu", "parameters": []}
    path = write(
        changed(
            channels=[{"name": "A", "samples": samples}],
            observations=[{"name": "A", "data": [0.0, 38.0]}],
            measurements=[{"name": "m", "config": config}],
        )
    )
    for command in (
        ("fit",), ("cls",), ("limit",), ("significance",), ("pulls",), ("yields",),
        ("scan", "--points", 2, "--range", 0, 1), ("impacts", "--method", "gradient"),
    ):  # fmt: skip
        for options in ((), ("--json",)):
            found = invoke(command[0], path, *command[1:], *options)
            assert found.exit_code == 3, (command, found.stderr)
            (line,) = [x for x in found.stderr.splitlines() if x.startswith("Warning: ")]
            assert "negative" in line
    fitted = result_of(invoke("fit", path, "--clip-negative", "--json"))
    assert fitted["goodness_of_fit"]["chi2"] > 0
    assert 0 < result_of(invoke("cls", path, "--clip-negative", "--json"))["observed"] < 1


def test_parameters_at_bounds_are_a_note(invoke: Invoke, write: Callable[..., Path]) -> None:
    config = {"poi": "mu", "parameters": [{"name": "k", "bounds": [[0.5, 0.8]], "inits": [0.7]}]}
    path = write(changed(measurements=[{"name": "m", "config": config}]))
    found = invoke("fit", path)
    assert found.exit_code == 0
    assert "Note: at a bound, where the uncertainty is one-sided: 'k'" in found.stderr
    assert "at its bound" in found.stdout


def test_finish(capsys: pytest.CaptureFixture[str]) -> None:
    finish()
    finish("ok", "ok")
    with pytest.raises(SystemExit) as stopped:
        finish("ok", "bad", "worse", "bad")
    assert stopped.value.code == 3
    note("by the way")
    assert capsys.readouterr().err == "Warning: bad; worse\nNote: by the way\n"


def test_models_without_shared_parameters(invoke: Invoke, write: Callable[..., Path]) -> None:
    """All parameters act in one bin each, or there is none: fits eliminate the former."""
    sample = {"name": "b", "data": [50.0, 60.0], "modifiers": []}
    modifier = {"name": "u", "type": "shapesys", "data": [5.0, 6.0]}
    config = {"poi": "", "parameters": []}
    for modifiers in ([modifier], []):
        spec = changed(
            channels=[{"name": "A", "samples": [{**sample, "modifiers": modifiers}]}],
            observations=[{"name": "A", "data": [40.0, 50.0]}],
            measurements=[{"name": "m", "config": config}],
        )
        path = write(spec)
        assert invoke("inspect", path).exit_code == 0
        for command in ("fit", "yields", "pulls"):
            found = invoke(command, path, "--json")
            if not modifiers:
                refused(found, "no parameters")
            elif command == "fit":  # 0.5 (100 + 40) / (100 + 50) ... in closed form
                values = result_of(found)["parameters"]
                assert values["u[0]"]["value"] == pytest.approx(140 / 150, rel=1e-7)
                assert values["u[1]"]["value"] == pytest.approx(150 / 160, rel=1e-7)
            else:
                assert result_of(found)["status"] == "ok"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "expected a JSON object"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"\xff\xfe{\x00}\x00", "UTF-16"),
        (b'{"name": 1, "name": 2}', "stands twice"),
        (b'{"channels": [NaN]}', "NaN"),
        (b'{"channels": [], "measurements": [], "version": "\\u001b]0;x"}', "1.0.0"),
        (b'{"channels": ' + b"9" * 5000 + b"}", ""),
        (gzip.compress(b"{" * 10_000_000), "not JSON"),
        (gzip.compress(b'{"a": 1}')[:-9], "gzip"),
        (gzip.compress(b" " * 100_000_000), "unfolds"),
        (b"<a>", "not XML"),
        (b"<html></html>", "no top-level HistFactory file"),
        (b"<!DOCTYPE a [<!ENTITY b 'cccc'>]><Combination>&b;</Combination>", "entities"),
        (b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>", "entities"),
        ("<!DOCTYPE a [<!ENTITY b 'cc'>]><a>&b;</a>".encode("utf-16"), "entities"),
        (b"<Combination><Input>../../etc/passwd\x01</Input></Combination>", "not XML"),
        (b"<Combination><Input>../../../../etc/passwd</Input></Combination>", "not XML"),
        (b"<Combination><Input>/dev/zero</Input></Combination>", "no file"),
        (b"<Combination><Input>" + b"x" * 5000 + b"</Input></Combination>", "cannot read"),
        (b'{"metadata": {}, "distributions": []}', "hs3_version"),
        (b'{"metadata": [], "distributions": {}}', "not valid HS3"),
        (b"root\x00\x00", "not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzipped bytes hold the time
)
def test_hostile_files(invoke: Invoke, tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "in"
    path.write_bytes(content)
    found = invoke("inspect", path)
    refused(found, words)
    assert len(found.stderr) < 2500
    assert all(c.isprintable() or c == "\n" for c in found.stderr)
    refused(invoke("inspect", "-", input=content), words)


def test_domains_of_the_wrong_type(invoke: Invoke, write: Callable[..., Path]) -> None:
    spec = changed(measurements=[{"name": "m", "config": {"poi": "mu", "parameters": []}}])
    hs3 = to_hs3(*from_workspace(spec), name="m")
    for value in (1.5, "m_domain", {"a": 1}, [None]):
        broken = copy.deepcopy(hs3)
        broken["analyses"][0]["domains"] = value
        found = invoke("inspect", write(broken))
        assert found.exit_code in (0, 2)
        assert found.exception is None or isinstance(found.exception, SystemExit)


def test_q_allows_negative_best_fits(invoke: Invoke, write: Callable[..., Path]) -> None:
    """CLs and limit with q are those of pyhf; the best fit is -1.2."""
    config = {"poi": "mu", "parameters": [{"name": "mu", "bounds": [[-4, 10]], "inits": [1.0]}]}
    channel = copy.deepcopy(SPEC["channels"][0])
    del channel["samples"][1]["modifiers"][0]
    spec = changed(
        channels=[channel],
        observations=[{"name": "SR", "data": [40.0, 36.0]}],
        measurements=[{"name": "m", "config": config}],
    )
    path = write(spec)
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-10))
    workspace = pyhf.Workspace(spec)
    model = workspace.model()
    data = workspace.data(model)

    def peer(mu: float, **options: Any) -> Any:
        return pyhf.infer.hypotest(mu, data, model, test_stat="q", **options)

    found = result_of(invoke("cls", path, "--test-stat", "q", "--json"))
    observed, expected = peer(1.0, return_expected_set=True)
    assert found["observed"] == pytest.approx(float(observed), rel=1e-5)
    np.testing.assert_allclose(found["expected"], np.ravel(expected), rtol=1e-4)
    tilde = result_of(invoke("cls", path, "--json"))
    assert abs(tilde["observed"] / found["observed"] - 1) > 0.01
    limit = result_of(invoke("limit", path, "--statistic", "q", "--json"))
    assert float(peer(limit["observed"])) == pytest.approx(0.05, rel=1e-5)
    np.testing.assert_allclose(
        limit["expected"], result_of(invoke("limit", path, "--json"))["expected"], rtol=1e-7
    )
    refused(invoke("cls", path, "--test-stat", "q", "--bounds", "mu=0,10"), "lower bound below")
    refused(invoke("limit", path, "--test-stat", "q", "--bounds", "mu=0,10"), "lower bound below")
    refused(invoke("cls", path, "--test-stat", "q0"), "--test-stat")


def test_a_parameter_of_interest_held_by_the_file(
    invoke: Invoke, write: Callable[..., Path]
) -> None:
    """A fit holds it; tests, scans and impacts vary it, and say so."""
    held = {"name": "mu", "fixed": True, "inits": [1.0], "bounds": [[0, 10]]}
    first, second = (
        write(
            changed(measurements=[{"name": "m", "config": {"poi": "mu", "parameters": given}}]),
            name,
        )
        for given, name in (([held], "held.json"), ([], "free.json"))
    )
    assert result_of(invoke("fit", first, "--json"))["parameters"]["mu"]["uncertainty"] == 0
    for command, options in (
        ("limit", ()), ("cls", ()), ("significance", ()), ("scan", ("--points", 3)),
        ("impacts", ("--method", "gradient")),
    ):  # fmt: skip
        found = invoke(command, first, *options, "--json")
        assert "Note: the file holds 'mu'; it is varied here" in found.stderr
        assert result_of(found) == result_of(invoke(command, second, *options, "--json"))
