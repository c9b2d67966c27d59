"""Commands that change and convert workspaces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyhf
import pytest
from click.testing import CliRunner, Result

from difana.cli import main
from difana.likelihood import from_hs3, from_workspace

Invoke = Callable[..., Result]

SPEC: dict[str, Any] = {
    "channels": [
        {
            "name": "SR",
            "samples": [
                {
                    "name": "background",
                    "data": [50.0, 52.0],
                    "modifiers": [
                        {"name": "unc", "type": "shapesys", "data": [3.0, 7.0]},
                        {"name": "norm", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
                    ],
                }
            ],
        }
    ],
    "observations": [{"name": "SR", "data": [51.0, 48.0]}],
    "measurements": [{"name": "meas", "config": {"poi": "mu", "parameters": []}}],
    "version": "1.0.0",
}
SIGNAL = {
    "name": "signal",
    "data": [12.0, 11.0],
    "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
}
PATCH = [{"op": "add", "path": "/channels/0/samples/-", "value": SIGNAL}]


@pytest.fixture(autouse=True)
def no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the settings of the test session alone."""
    monkeypatch.setattr("difana.cli._setup.start", lambda **_: None)


@pytest.fixture
def invoke() -> Invoke:
    return lambda *args, **keys: CliRunner().invoke(main, [str(arg) for arg in args], **keys)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    patchset = {
        "metadata": {
            "references": {"hepdata": "ins1234567"},
            "description": "a grid",
            "labels": ["m1", "m2"],
            "digests": {"sha256": pyhf.utils.digest(SPEC)},
        },
        "patches": [{"metadata": {"name": "point_1", "values": [700, 400]}, "patch": PATCH}],
        "version": "1.0.0",
    }
    contents = {"workspace": SPEC, "patch": PATCH, "patchset": patchset}
    paths = {name: tmp_path / f"{name}.json" for name in contents}
    for name, path in paths.items():
        path.write_text(json.dumps(contents[name]))
    return paths


def result_of(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_inspect(invoke: Invoke, files: dict[str, Path]) -> None:
    options = (files["workspace"], "--patch", files["patch"])
    found = result_of(invoke("inspect", *options, "--json"))
    assert found["bins"] == 2
    (channel,) = found["channels"]
    assert (channel["name"], channel["observed"]) == ("SR", 99.0)
    assert [sample["yield"] for sample in channel["samples"]] == [102.0, 23.0]
    parameters = {entry.pop("name"): entry for entry in found["parameters"]}
    assert parameters["unc"] == {
        "size": 2,
        "modifiers": "shapesys",
        "constraint": "Poisson",
        "inits": [1.0, 1.0],
        "bounds": [[1e-10, 10.0]] * 2,
        "fixed": [False, False],
    }
    assert parameters["mu"]["constraint"] == "none"
    assert found["measurements"] == [{"name": "meas", "poi": "mu"}]
    text = invoke("inspect", *options).stdout
    assert "1 channels, 2 bins, 4 parameters" in text
    assert "signal" in text
    background = result_of(invoke("inspect", files["workspace"], "--json", "--bins"))
    assert background["channels"][0]["samples"][0]["yields"] == [50.0, 52.0]
    assert background["channels"][0]["counts"] == [51.0, 48.0]
    assert "observed" in invoke("inspect", files["workspace"], "--bins").stdout


def test_patches(invoke: Invoke, files: dict[str, Path], tmp_path: Path) -> None:
    expected = {**SPEC, "channels": [{**SPEC["channels"][0]}]}
    expected["channels"][0]["samples"] = [*SPEC["channels"][0]["samples"], SIGNAL]
    assert result_of(invoke("patch", files["workspace"], "--patch", files["patch"])) == expected
    grid = ("--patchset", files["patchset"], "--point")
    for point in ("point_1", "700,400"):
        assert result_of(invoke("patch", files["workspace"], *grid, point)) == expected
    out = tmp_path / "out.json"
    written = invoke("patch", "-", *grid, "point_1", "-o", out, input=json.dumps(SPEC))
    assert written.stdout.strip() == str(out)
    assert json.loads(out.read_text()) == expected
    assert "point_1" in invoke("patch", "--list", files["patchset"]).stdout
    listed = result_of(invoke("patch", "--list", files["patchset"], "--json"))
    assert listed == {"point_1": [700, 400]}
    for arguments, message in (
        ((*grid[:2],), "--patchset FILE and --point NAME go together"),
        ((*grid, "point_2"), "Did you mean 'point_1'?"),
        ((*grid, "1,2"), "no point at m1, m2 = (1.0, 2.0)"),
        (("--patch", files["workspace"]), "not a JSON patch"),
        (("--patch", tmp_path / "gone.json"), "no JSON patch file"),
        ((*grid, "point_1", "-o", tmp_path), "cannot write"),
    ):
        result = invoke("patch", files["workspace"], *arguments)
        assert result.exit_code == 2
        assert message in result.stderr, result.stderr
    assert "Missing argument" in invoke("patch").stderr
    other = invoke("patch", out, *grid, "point_1")
    assert "the patch set is for another workspace" in other.stderr


def test_patched_workspaces_go_into_the_fits(invoke: Invoke, files: dict[str, Path]) -> None:
    options = ("--patchset", files["patchset"], "--point", "point_1", "--json")
    found = result_of(invoke("cls", files["workspace"], *options))
    patched = invoke("patch", files["workspace"], *options[:-1]).stdout
    assert result_of(invoke("cls", "-", "--json", input=patched)) == found


def test_combine_prune_rename(invoke: Invoke, files: dict[str, Path], tmp_path: Path) -> None:
    renamed = invoke("rename", files["workspace"], "-c", "SR=CR", "-m", "unc=other")
    (tmp_path / "CR.json").write_text(renamed.stdout)
    assert result_of(renamed)["observations"][0]["name"] == "CR"
    both = invoke("combine", files["workspace"], tmp_path / "CR.json", "--join", "outer")
    assert [channel["name"] for channel in result_of(both)["channels"]] == ["SR", "CR"]
    pruned = result_of(invoke("prune", "-", "-c", "CR", "-t", "normsys", input=both.stdout))
    modifiers = pruned["channels"][0]["samples"][0]["modifiers"]
    assert [modifier["name"] for modifier in modifiers] == ["unc"]
    for arguments, message in (
        (("combine", files["workspace"]), "two workspaces or more"),
        (("combine", "-", "-"), "read once only"),
        (("combine", files["workspace"], files["workspace"]), "both workspaces have"),
        (("prune", files["workspace"], "-m", "nrm"), "Did you mean 'norm'?"),
        (("prune", files["workspace"], "-c", "SR"), "channels: the list is empty"),
        (("rename", files["workspace"], "-c", "SR"), "expected OLD=NEW"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr, result.stderr


def test_digest(invoke: Invoke, files: dict[str, Path]) -> None:
    assert invoke("digest", files["workspace"]).stdout.strip() == pyhf.utils.digest(SPEC)
    md5 = invoke("digest", files["workspace"], "--algorithm", "md5").stdout.strip()
    assert md5 == pyhf.utils.digest(SPEC, algorithm="md5")
    ordered = invoke("digest", files["workspace"], "--sort").stdout.strip()
    assert ordered == pyhf.utils.digest(dict(pyhf.Workspace.sorted(pyhf.Workspace(SPEC))))
    assert "no digest algorithm" in invoke("digest", "-", "--algorithm", "md6",
                                           input=json.dumps(SPEC)).stderr  # fmt: skip


def test_convert_between_formats(invoke: Invoke, files: dict[str, Path], tmp_path: Path) -> None:
    full = tmp_path / "full.json"
    invoke("patch", files["workspace"], "--patch", files["patch"], "-o", full)
    hs3 = tmp_path / "hs3.json"
    assert invoke("convert", full, hs3).stdout.strip() == str(hs3)
    spec = json.loads(hs3.read_text())
    model, data = from_hs3(spec)
    assert spec["analyses"][0]["name"] == "meas"
    back = invoke("convert", "-", "--measurement", "meas", input=hs3.read_text())
    again, again_data = from_workspace(result_of(back))
    assert again.parameters == model.parameters
    assert again_data.tolist() == data.tolist()
    assert "HS3 already" in invoke("convert", hs3, "--to", "hs3").stderr
    assert "pyhf workspace already" in invoke("convert", full, "--to", "pyhf").stderr
    assert "Missing argument 'TARGET'" in invoke("convert", tmp_path / "events.root").stderr
    assert "no HistFactory file" in invoke("convert", tmp_path / "gone.xml").stderr
    assert "expected an object" in invoke("convert", "-", input='{"metadata": 1}').stderr


def test_convert_xml(invoke: Invoke, data_dir: Path) -> None:
    folder = data_dir / "likelihoods" / "pyhf-validation" / "xmlimport_input"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    found = result_of(invoke("convert", folder / "config" / "example.xml"))
    assert found["channels"][0]["name"] == "channel1"
    hs3 = invoke("convert", folder / "config" / "example.xml", "--to", "hs3")
    # this measurement holds its luminosity
    assert "histfactory_dist" in hs3.stdout, hs3.stderr
