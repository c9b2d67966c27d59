"""The commands fit, scan and impacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from matplotlib.image import imsave

from difana.cli import main

Invoke = Callable[..., Result]

WORKSPACE: dict[str, Any] = {
    "channels": [
        {
            "name": "SR/1",
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
                        {"name": "unc", "type": "shapesys", "data": [3.0, 7.0]},
                        {"name": "norm", "type": "normsys", "data": {"hi": 1.05, "lo": 0.95}},
                    ],
                },
            ],
        }
    ],
    "observations": [{"name": "SR/1", "data": [55.0, 60.0]}],
    "measurements": [{"name": "measurement", "config": {"poi": "mu", "parameters": []}}],
    "version": "1.0.0",
}


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFANA_CACHE", "off")


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write empty pictures: what they show is tested elsewhere."""

    def quick(self: Figure, path: Path, **options: Any) -> None:
        imsave(path, np.zeros((1, 1)))

    monkeypatch.setattr(Figure, "savefig", quick)


@pytest.fixture
def invoke() -> Invoke:
    return lambda *args, **keys: CliRunner().invoke(main, [str(arg) for arg in args], **keys)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace.json"
    path.write_text(json.dumps(WORKSPACE))
    return path


@pytest.mark.usefixtures("quick_pictures")
def test_fit(invoke: Invoke, workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    result = invoke("fit", workspace, "--json", "--minos", "mu", "--plot", folder)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["status"] == "ok"
    assert found["goodness_of_fit"]["dof"] == 1
    assert 0 < found["goodness_of_fit"]["p_value"] < 1
    mu = found["parameters"]["mu"]
    assert mu["interval"][0] == 0  # at its bound
    assert mu["value"] < mu["interval"][1] < mu["value"] + 2 * mu["uncertainty"]
    norm = found["parameters"]["norm"]
    assert norm["pull"] == norm["value"]
    assert "pull" not in mu
    names = ["correlation.png", "pulls.png", "yields_SR_1.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    table = invoke("fit", workspace, "--minos", "all").stdout
    for words in ("pull", "lower", "upper", "1 degrees of freedom", "unc[1]"):
        assert words in table
    wrong = invoke("fit", workspace, "--minos", "nrm")
    assert wrong.exit_code == 2
    assert "Did you mean 'norm'?" in wrong.stderr


@pytest.mark.usefixtures("quick_pictures")
def test_scan(invoke: Invoke, workspace: Path, tmp_path: Path) -> None:
    result = invoke("scan", workspace, "--json", "--range", 0, 2, "--points", 5)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["parameters"]["mu"] == [0, 0.5, 1, 1.5, 2]
    assert found["status"] == "ok"
    assert min(found["twice_delta_nll"]) >= 0
    picture = tmp_path / "scan.png"
    options = ("--parameter", "norm", "--parameter2", "mu", "--points", 4, "--points2", 3)
    plane = invoke("scan", workspace, *options, "--plot", picture)
    assert plane.exit_code == 0, plane.stderr
    assert "inside the contours" in plane.stdout
    assert picture.is_file()
    assert "2 delta nll" in invoke("scan", workspace, "--points", 3).stdout


@pytest.mark.usefixtures("quick_pictures")
def test_impacts(invoke: Invoke, workspace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "impacts.png"
    groups = ("--group", "bins=unc*", "--group", "all=*")
    result = invoke("impacts", workspace, "--json", "--improve", "--plot", picture, *groups)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert set(found["impacts"]) == {"unc[0]", "unc[1]", "norm"}
    assert found["impacts"]["norm"]["postfit_up"] < 0
    assert found["groups"]["bins"]["held"] < found["groups"]["all"]["held"]
    assert found["improve"]["changes"][0]["improvement"] > 0
    assert found["status"] == "ok"
    assert picture.is_file()
    options = ("--method", "gradient", "--most", 1, "--improve", *groups)
    table = invoke("impacts", workspace, *options).stdout
    for words in ("Impacts on mu = ", "2 more with --most", "Groups", "What would lower"):
        assert words in table
    expected = invoke("impacts", workspace, "--json", "--method", "gradient", "--expected")
    assert json.loads(expected.stdout)["value"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scan", "--parameter", "nrm"), "Did you mean 'norm'?"),
        (("scan", "--range", 2, 1), "must rise"),
        (("scan", "--parameter2", "mu"), "cannot be both"),
        (("scan", "--plot", "no/such/scan.png", "--points", 2), "does not exist"),
        (("scan", "--plot", "scan.xyz", "--points", 2), "suffix must be one of"),
        (("impacts", "--group", "bins"), "must read NAME=GLOB"),
        (("impacts", "--group", "jets=jes*"), "group 'jets': no parameter"),
    ],
)
def test_wrong_options(
    invoke: Invoke, workspace: Path, arguments: tuple[Any, ...], message: str
) -> None:
    result = invoke(arguments[0], workspace, *arguments[1:])
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
