"""Commands: what they print, what they write, how they fail."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from matplotlib.image import imsave

import difana
from difana._errors import ConfigError
from difana.analysis import Observable, Optimised, read_config
from difana.cli import main
from difana.cli._setup import cache_folder
from difana.data import Events, read_events, to_root

Invoke = Callable[..., Result]

# the example of the pyhf documentation, and the numbers of its toms748 limit
WORKSPACE: dict[str, Any] = {
    "channels": [
        {
            "name": "singlechannel",
            "samples": [
                {
                    "name": "signal",
                    "data": [12.0, 11.0],
                    "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
                },
                {
                    "name": "background",
                    "data": [50.0, 52.0],
                    "modifiers": [
                        {"name": "uncorr_bkguncrt", "type": "shapesys", "data": [3.0, 7.0]}
                    ],
                },
            ],
        }
    ],
    "observations": [{"name": "singlechannel", "data": [51.0, 48.0]}],
    "measurements": [{"name": "measurement", "config": {"poi": "mu", "parameters": []}}],
    "version": "1.0.0",
}
LIMITS = [0.559880, 0.757023, 1.062347, 1.501169, 2.050788]
CLS = [0.00260626, 0.01382005, 0.06445321, 0.23525644, 0.57303621]


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the settings of the test session alone."""
    monkeypatch.setenv("DIFANA_CACHE", "off")


@pytest.fixture
def invoke() -> Invoke:
    return lambda *args, **keys: CliRunner().invoke(main, [str(arg) for arg in args], **keys)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace.json"
    path.write_text(json.dumps(WORKSPACE))
    return path


def test_version_and_help(invoke: Invoke) -> None:
    assert difana.__version__ in invoke("--version").output
    text = invoke("--help").output
    for name in ("demo", "run", "limit", "fit", "cls", "significance", "convert", "schema"):
        assert name in text
        assert invoke(name, "--help").exit_code == 0


def test_unknown_command(invoke: Invoke) -> None:
    result = invoke("limitt", "workspace.json")
    assert result.exit_code == 2
    assert "Did you mean 'limit'?" in result.stderr


def test_limit(invoke: Invoke, workspace: Path) -> None:
    result = invoke("limit", workspace, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["observed"] == pytest.approx(1.0115694, rel=1e-4)
    np.testing.assert_allclose(found["expected"], LIMITS, rtol=1e-4)
    assert found["status"] == "ok"
    table = invoke("limit", workspace).stdout
    assert "observed" in table
    assert "1.0116" in table
    other = json.loads(invoke("limit", workspace, "--json", "--level", 0.9).stdout)
    assert other["observed"] < found["observed"]


def test_cls(invoke: Invoke, workspace: Path) -> None:
    found = json.loads(invoke("cls", workspace, "--json").stdout)
    assert found["observed"] == pytest.approx(0.05251497, rel=1e-4)
    np.testing.assert_allclose(found["expected"], CLS, rtol=1e-4)
    assert "CLs of mu = 2" in invoke("cls", workspace, "--mu", 2).stdout


def test_standard_input(invoke: Invoke, workspace: Path) -> None:
    piped = invoke("cls", "-", "--json", input=workspace.read_text())
    assert json.loads(piped.stdout) == json.loads(invoke("cls", workspace, "--json").stdout)
    assert "is not JSON" in invoke("cls", "-", input="{").stderr
    assert "no workspace" in invoke("cls", "-", input="[1]").stderr


def test_significance(invoke: Invoke, workspace: Path) -> None:
    found = json.loads(invoke("significance", workspace, "--json").stdout)
    assert found["observed"] == 0.0  # a deficit
    assert found["observed_p"] == 0.5
    assert 0 < found["expected_p"] < 0.5
    assert "p-value" in invoke("significance", workspace).stdout


def test_fit(invoke: Invoke, workspace: Path) -> None:
    found = json.loads(invoke("fit", workspace, "--json").stdout)
    assert found["parameters"]["mu"]["value"] == pytest.approx(0, abs=1e-6)
    gamma = found["parameters"]["uncorr_bkguncrt[1]"]
    assert 0.9 < gamma["value"] < 1.0
    assert 0 < gamma["uncertainty"] < 0.2
    assert np.shape(found["covariance"]) == (3, 3)
    assert found["status"] == "ok"
    table = invoke("fit", workspace).stdout
    assert "uncorr_bkguncrt[1]" in table
    assert "at its bound" in table


@pytest.mark.parametrize("command", ["limit", "cls", "significance", "fit"])
def test_bad_workspaces(invoke: Invoke, workspace: Path, tmp_path: Path, command: str) -> None:
    missing = invoke(command, tmp_path / "no.json")
    assert missing.exit_code == 2
    assert missing.stderr.startswith("Error: no workspace file")
    assert "Traceback" not in missing.stderr
    wrong = invoke(command, workspace, "--measurement", "measurementt")
    assert "Did you mean 'measurement'?" in wrong.stderr
    (tmp_path / "bad.json").write_text("{}")
    assert "not a valid pyhf workspace" in invoke(command, tmp_path / "bad.json").stderr


def test_workspace_without_poi(invoke: Invoke, tmp_path: Path) -> None:
    spec = json.loads(json.dumps(WORKSPACE))
    spec["measurements"][0]["config"]["poi"] = ""
    (tmp_path / "w.json").write_text(json.dumps(spec))
    result = invoke("limit", tmp_path / "w.json")
    assert result.exit_code == 2
    assert "parameter of interest" in result.stderr


def test_convert(invoke: Invoke, tmp_path: Path) -> None:
    events = Events(jnp.arange(3.0)[:, None], jnp.ones(3), columns=("pt",))
    to_root(events, tmp_path / "a.root")
    result = invoke("convert", tmp_path / "a.root", tmp_path / "a.h5")
    assert result.exit_code == 0, result.stderr
    assert "3 entries, 2 columns converted" in result.stdout
    read = read_events(tmp_path / "a.h5", columns=["pt"])
    assert read["pt"].tolist() == [0, 1, 2]
    bad = invoke("convert", tmp_path / "b.root", tmp_path / "b.h5")
    assert bad.exit_code == 2
    assert "Did you mean 'a.root'?" in bad.stderr


def test_schema(invoke: Invoke) -> None:
    schema = json.loads(invoke("schema").stdout)
    assert "Samples" in schema["properties"]
    training = schema["properties"]["Training"]["properties"]
    assert training["Steps"]["description"] == "Steps on the objective; 0 for no descent."
    unfolding = json.loads(invoke("schema", "unfold").stdout)
    assert "Observables" in unfolding["properties"]


def test_bad_configurations(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "analysis.yaml"
    path.write_text("Features: [x]\nRegions: [{Name: SR}]\nSampels: []\n")
    result = invoke("run", path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert f"{path}:3: unknown section 'Sampels'. Did you mean 'Samples'?" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
    debug = invoke("--debug", "run", path, "--out", tmp_path / "out")
    assert isinstance(debug.exception, ConfigError)


def test_interruption_is_one_line(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **keys: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("difana.analysis.run", interrupted)
    result = invoke("run", "analysis.yaml", "--out", "out")
    assert result.exit_code == 130
    assert "continues from the last checkpoint" in result.stderr


def test_demo_without_its_training(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = eqx.nn.Lambda(lambda x: (x[:, :1] - 100) / 20)
    edges = np.array([-2, -1, -0.5, 0, 0.5, 0.8, 1.0, 1.5, 2, 3, 8.0])

    def optimised(*args: Any, **keys: Any) -> Optimised:
        assert keys["directory"] == tmp_path / "demo" / "checkpoints"
        return Optimised((Observable(net, edges),), (net,), (0.1,), (), 0, "")

    def quick(self: Figure, path: Path, **options: Any) -> None:
        imsave(path, np.zeros((1, 1)))  # the pictures are tested elsewhere

    monkeypatch.setattr(Figure, "savefig", quick)
    monkeypatch.setattr(sys.modules["difana.analysis.run"], "optimise_regions", optimised)
    out = tmp_path / "demo"
    result = invoke("demo", "--out", out, "--seed", 5, "--events", 1500)
    assert result.exit_code == 0, result.stderr
    for words in ("cross-entropy, equal-signal bins", "gain of difana", "report.html"):
        assert words in result.stdout
    first = next(line for line in result.stdout.splitlines() if not line.startswith("writing"))
    assert re.match(r"Expected limit  mu < [\d.]+  \(68 % band [\d.]+ to ", first)
    assert (out / "report.html").is_file()
    config = read_config(out / "analysis.yaml")
    assert config.general.seed == 5
    assert [sample.name for sample in config.samples] == ["signal", "continuum", "peaking"]
    # the workspace goes straight into the other commands
    limit = json.loads(invoke("cls", out / "workspace.json", "--json").stdout)
    summary = json.loads((out / "result.json").read_text())
    np.testing.assert_allclose(limit["expected"], summary["limits"]["cls"], rtol=1e-6)


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder({"DIFANA_CACHE": "OFF"}) is None
    assert cache_folder({"DIFANA_CACHE": str(tmp_path / "a")}) == tmp_path / "a"
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "difana" / "jax"
    monkeypatch.setenv("HOME", str(tmp_path))
    for home in ("", "relative"):
        found = cache_folder({"XDG_CACHE_HOME": home})
        assert found == tmp_path / ".cache" / "difana" / "jax"
    (tmp_path / "file").write_text("")
    assert cache_folder({"DIFANA_CACHE": str(tmp_path / "file" / "x")}) is None
