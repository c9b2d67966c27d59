"""A method gets its file, its folder and its command from thirty lines of declaration."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path

import click
import jsonschema
import pytest
from click.testing import CliRunner

from difana._errors import ConfigError, InputError
from difana.cli._method import method_options, run_method
from difana.config import (
    EDGES,
    Journal,
    choice,
    expressions,
    file_schema,
    filled,
    held_folder,
    integer,
    key,
    like,
    paths_of,
    read_file,
    write_json,
)
from difana.train import Training


# A whole method: the file ...
@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """One process."""

    name: str = key("name of the process")
    files: tuple[str, ...] = key("file, glob or list of these")
    where: str = filled(compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How it runs.

    Attributes:
        steps: Number of steps.
        rate: Learning rate.
    """

    steps: int = key(kind=integer(1, 1000), default=10)
    method: str = key("which one", choice("fast", "slow"), default="fast")
    rate: float = 1e-3
    patience: int | None = like(Training, "patience")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting:
    """What may stand in the file."""

    processes: tuple[Process, ...] = key("what is counted")
    columns: tuple[tuple[str, str], ...] = key("columns by name", expressions(), default=())
    edges: tuple[float, ...] = key("bin edges", EDGES, default=(0.0, 1.0))
    options: Options = key(default=Options())
    path: Path = filled()


@dataclasses.dataclass(frozen=True)
class Result:
    """What it found."""

    out: Path
    message: str


# ... the run, and the command.
def count(path, out, *, resume=True, progress=True, report=None):
    config = read_file(path, Counting)
    with held_folder(out) as folder:
        journal = Journal(speak=progress)
        journal.begin("count", f"counting {len(config.processes)} processes")
        files = {p.name: paths_of(p.files, beside=config.path) for p in config.processes}
        write_json(folder / "result.json", {"files": files, "steps": config.options.steps})
        journal.end(folder)
        return Result(folder, "ok" if resume else "started over")


@click.command("count")
@method_options
def command(*, config, out, **options):
    run_method(count, config, out, page="", show=lambda result: click.echo("counted"),
               files={"all numbers": "result.json"}, **{**options, "no_report": True})  # fmt: skip


GOOD = """\
Processes:
  - {Name: a, Files: a.root}
  - {Name: b, Files: [b.root, "root://x//c.root"]}
Columns: {pt: pt / 1000}
Options: {Steps: 3}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "count.yaml"
    path.write_text(GOOD)
    return path


def test_the_declaration_is_short():
    lines = [
        line
        for part in (Process, Options, Counting, count)
        for line in inspect.getsource(part).splitlines()
        if line.strip()
    ]
    assert len(lines) < 45, "docstrings included"


def test_a_file_becomes_its_dataclass(config):
    found = read_file(config, Counting)
    assert [p.name for p in found.processes] == ["a", "b"]
    assert found.processes[1].where == f"{config}:3"
    assert found.columns == (("pt", "pt / 1000"),)
    assert found.options == Options(steps=3)
    assert (found.options.rate, found.edges, found.path) == (1e-3, (0.0, 1.0), config)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Steps: 3", "Step: 3", r":5: unknown key 'Step' in Options. Did you mean 'Steps'"),
        ("Steps: 3", "Steps: 1001", r":5: Options.Steps must be at most 1000"),
        ("Steps: 3", "Patience: many", r":5: Options.Patience must be a whole number"),
        ("Steps: 3", "Rate: 0", r":5: Options.Rate must be above 0"),
        ("Steps: 3", "Method: fats", r":5: .*Did you mean 'fast'"),
        ("Name: b", "Name: a", r":3: Processes has two entries 'a', the first in line 2"),
        ("Name: b, ", "", r":3: missing key 'Name' in Processes\[1\]: name of the process"),
        ("Processes:", "Proceses:", r":1: unknown section 'Proceses'. Did you mean 'Processes'"),
        ("pt / 1000", "pt /", r":4: Columns.pt is not valid"),
        ("Options: {Steps: 3}", "Options: [3]", r":5: Options must be a mapping of Steps"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused_with_line_and_key(config, old, new, message):
    assert GOOD.count(old) == 1
    config.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_file(config, Counting)


def test_all_problems_are_listed_at_once(config):
    config.write_text(GOOD.replace("Steps", "Step").replace("Name: a", "Nam: a"))
    with pytest.raises(ConfigError, match="has 3 problems"):
        read_file(config, Counting)


def test_the_whole_is_checked_after_its_parts(config):
    def check(found, root, problems):
        problems.add(found.processes[0].where, "no such process")
        problems.add(root.line_of("Options.Steps"), "too few steps")
        return found

    with pytest.raises(ConfigError, match=r":2: no such process(.|\n)*:5: too few steps"):
        read_file(config, Counting, check=check)


def test_the_schema_describes_what_is_read():
    import yaml

    schema = file_schema(Counting, "counting")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = yaml.safe_load(GOOD)
    assert validator.is_valid(good), list(validator.iter_errors(good))
    options = schema["properties"]["Options"]["properties"]
    assert options["Steps"] == {
        "type": "integer", "minimum": 1, "maximum": 1000, "description": "Number of steps.",
        "default": 10,
    }  # fmt: skip
    assert options["Rate"]["description"] == "Learning rate."
    patience = options["Patience"]  # as train.Training has it
    assert patience["default"] == Training().patience
    assert patience["description"].startswith("Epochs (validations) without improvement")
    for bad in ({"Options": {"Steps": 0}}, {"Processes": [{"Name": "a"}]}, {"Other": 1}):
        assert not validator.is_valid({**good, **bad})


def test_the_command_fills_a_folder(config, tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(command, [str(config), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "counted" in done.output
    assert str(out / "result.json") in done.output
    base = str(tmp_path)
    assert json.loads((out / "result.json").read_text()) == {
        "files": {"a": [f"{base}/a.root"], "b": [f"{base}/b.root", "root://x//c.root"]},
        "steps": 3,
    }
    assert list(json.loads((out / "timing.json").read_text())) == ["count"]
    untrusted = CliRunner().invoke(command, [str(config), "--out", str(out), "--no-resume"])
    assert untrusted.exit_code == 3
    assert "started over" in untrusted.output
    with held_folder(out), pytest.raises(InputError, match="is a file"):
        count(config, config)
