"""Commands in the documentation for pyhf, cabinetry and combine users print what stands there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from matplotlib.figure import Figure
from matplotlib.image import imsave

from difana.cli import main
from difana.likelihood import digest, prune, rename

DOCS = Path(__file__).parents[2] / "docs"
SIGNAL = {
    "name": "signal",
    "data": [12.0, 11.0],
    "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
}
XML = {
    "example.xml": """<Combination OutputFilePrefix="results/example"><Input>config/SR.xml</Input>
        <Measurement Name="meas" Lumi="1." LumiRelErr="0.1" ExportOnly="True"><POI>mu</POI>
        <ParamSetting Const="True">Lumi</ParamSetting></Measurement></Combination>""",
    "SR.xml": """<Channel Name="SR" InputFile="data/example.root"><Data HistoName="data"/>
        <Sample Name="signal" HistoName="signal"><NormFactor Name="mu" Val="1" Low="0" High="10"/>
        </Sample><Sample Name="background" HistoName="background">
        <OverallSys Name="norm" High="1.05" Low="0.95"/></Sample></Channel>""",
}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the settings of the session alone; pictures are tested elsewhere."""
    monkeypatch.setattr("difana.cli._setup.start", lambda **_: None)
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: imsave(path, np.zeros((1, 1))))


def page(name: str) -> str:
    path = DOCS / f"{name}.md"
    if not path.is_file():
        pytest.skip(f"no {path}: the documentation is not part of this installation")
    return path.read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the files that the commands name, made of the page for combine users."""
    (block,) = re.findall(r"```json\n(.*?)```", page("for_combine_users"), re.DOTALL)
    files: dict[str, Any] = {"workspace": json.loads(block)}
    files["workspace"]["measurements"][0]["name"] = "meas"
    files["background"] = prune(files["workspace"], samples=["signal"])
    names = {"channels": {"SR": "CR"}, "measurements": {"meas": "other"}, "modifiers": {"unc": "u"}}
    files["other"] = rename(files["background"], **names)
    files["patch"] = [{"op": "add", "path": "/channels/0/samples/-", "value": SIGNAL}]
    metadata = {"name": "a", "values": [100]}
    files["patchset"] = {
        "metadata": {
            "references": {"hepdata": "ins1234567"},
            "description": "signals",
            "labels": ["mass"],
            "digests": {"sha256": digest(files["background"])},
        },
        "patches": [{"metadata": metadata, "patch": files["patch"]}],
        "version": "1.0.0",
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "config").mkdir()
    (tmp_path / "data").mkdir()
    for name, text in XML.items():
        (tmp_path / "config" / name).write_text(text)
    with uproot.recreate(tmp_path / "data" / "example.root") as file:
        for name, values in {"data": [55, 60], "signal": [12, 11], "background": [50, 52]}.items():
            file[name] = np.array(values, float), np.array([0.0, 1.0, 2.0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, shlex.split(command)[1:])
    assert result.exception is None or isinstance(result.exception, SystemExit), command
    return result.exit_code, result.output


def words(text: str) -> list[str]:
    return text.split()


PAGES = ("for_pyhf_users", "for_cabinetry_users", "for_combine_users")


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_the_tables(name: str, folder: Path) -> None:
    lines = [line for line in page(name).splitlines() if line.startswith("|")]
    commands = [c for line in lines for c in re.findall(r"`(difana [^`]+)`", line.split("|")[-2])]
    commands = [c for c in commands if re.search(r"\.(json|xml)\b", c)]
    assert len(commands) >= 10
    for command in dict.fromkeys(commands):
        code, output = run(command)
        assert code == 0, (command, output)


@pytest.mark.parametrize("name", PAGES)
def test_printed_output(name: str, folder: Path) -> None:
    (block,) = re.findall(r"```console\n(.*?)```", page(name), re.DOTALL)
    shown = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    assert len(shown) >= 6
    for command, text in zip(shown[::2], shown[1::2], strict=True):
        _, output = run(command)
        found, expected = words(output), words(text)
        assert len(found) == len(expected), (command, output)
        for a, b in zip(found, expected, strict=True):
            try:
                assert float(a) == pytest.approx(float(b), rel=2e-3, abs=2e-4), command
            except ValueError:
                assert a == b, command
