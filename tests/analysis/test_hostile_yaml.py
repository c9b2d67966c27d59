"""Files that no analysis is made of: each is refused at once, in few words, with its line."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from difana._errors import ConfigError
from difana.analysis import read_config
from difana.unfold import read_unfolding

GOOD = """\
General: {InputPath: ntuples}
Features: [mass, pt]
Regions:
  - Name: SR
  - {Name: CR, Variable: mass, Binning: [60, 100, 140]}
Samples:
  - {Name: signal, Files: signal.root, Signal: true}
  - {Name: background, Files: background.root, Weight: weight}
Systematics:
  - {Name: norm, Type: Normalization, Up: {Normalization: 0.1}, Down: {Normalization: -0.1}}
NormFactors:
  - {Name: mu, Samples: signal, Bounds: [0, 10]}
Network: {Hidden: [8]}
Training: {Bins: 3, Steps: 10}
"""
UNFOLD = """\
General: {Method: Bayes}
Simulation: {Files: mc.root}
Data: {Files: data.root}
Observables:
  - {Name: pt, Gen: gen_pt, Reco: reco_pt, Edges: [20, 50, 100]}
Systematics:
  - {Name: jes, Reco: {pt: pt_up}}
Options: {Iterations: 4}
"""
BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{l{i}: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n  y{i}: 1\n" for i in range(1, 12)
)


def put(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


ODD: dict[str, tuple[str | bytes, list[str]]] = {
    "control character": (put("mass, pt", "mass, p\x1ft"), [":2:", "U+001F"]),
    "NUL": (put("pt]", "pt\0]"), [":2:", "U+0000"]),
    "escaped NUL": (put("signal.root", '"signal\\0.root"'), [":7:", "U+0000"]),
    "half a character": (put("signal.root", '"\\ud800.root"'), [":7:", "U+D800"]),
    "no UTF-8": (GOOD.encode().replace(b"pt]", b"p\xff]"), [":2:", "UTF-8", "0xff"]),
    "UTF-16": (GOOD.encode("utf-16"), [":1:", "UTF-8"]),
    "tab": (put("  - Name: SR", "\t- Name: SR"), [":4:", "not valid YAML"]),
    "empty": ("", ["is empty"]),
    "comments": ("# nothing\n", ["is empty"]),
    "null": ("null\n", [":1:", "got nothing"]),
    "a list": ("- 1\n- 2\n", [":1:", "a list"]),
    "two documents": (GOOD + "---\n" + GOOD, ["not valid YAML"]),
    "key twice": (GOOD + "Network: {Hidden: [4]}\n", [":15:", "'Network' stands twice"]),
    "unknown anchor": (put("[8]", "*none"), [":13:", "undefined alias"]),
    "itself": (put("[8]", "&a [*a]"), [":13:", "contains itself"]),
    "itself in its keys": ("&a a: *a\n", [":1:"]),
    "laughs": (BOMB, ["too large"]),
    "merged laughs": (MERGES, ["unknown section 'a0'"]),
    "merge of itself": ("a: &a\n  <<: *a\n", ["contains itself"]),
    "merge of a text": (put("{Hidden: [8]}", "{<<: text}"), [":13:", "'<<' merges mappings"]),
    "deep list": (put("[8]", "[" * 2000 + "]" * 2000), ["nested too deeply"]),
    "60 levels": (put("[8]", "[" * 60 + "]" * 60), [":13:", "too large"]),
    "unclosed": ("[" * 50_000, ["nested too deeply"]),
    "large file": (GOOD + "# x\n" * 300_000, ["too large for a configuration"]),
    "number as key": (put("Network:", "13:"), [":13:", "a key must be text, got 13"]),
    "null as key": (put("Network:", "~:"), [":13:", "a key must be text"]),
    "empty key": (put("Network:", '"":'), [":13:", "a key must be text, got nothing"]),
    "list as key": (put("Network:", "? [a]\n:"), [":13:", "a key must be text"]),
    "date as key": (put("Network:", "2001-01-01:"), [":13:", "unknown section '2001-01-01'"]),
    "date as name": (put("Name: SR", "Name: 2001-01-01"), []),
    "date as number": (put("[8]", "2001-01-01"), [":13:", "2001-01-01"]),
    "truth as key": (put("Network:", "yes:"), [":13:", "a key must be text, got yes"]),
    "object": (put("[8]", "!!python/object/apply:os.system [ls]"), [":13:", "tag"]),
    "own tag": (put("[8]", "!mine [8]"), [":13:", "tag"]),
    "tagged scalar": (put("[8]", "!!python/name:os.system x"), [":13:", "cannot read"]),
    "set": (put("{Hidden: [8]}", "!!set {Hidden}"), [":13:", "tag"]),
    "binary": (put("mass,", "!!binary YWJj,"), [":2:", "tag"]),
    "wrong truth": (put("true", "!!bool maybe"), [":7:", "cannot read"]),
    "empty integer": (put("Bins: 3", 'Bins: !!int ""'), [":14:", "cannot read"]),
    "text as float": (put("Bins: 3", "Bins: !!float abc"), [":14:", "cannot read"]),
    "huge integer": (put("Bins: 3", "Bins: " + "9" * 400), [":14:", "too large"]),
    "5000 digits": (put("Bins: 3", "Bins: " + "9" * 5000), [":14:", "cannot read"]),
    "huge in a number": (put("[0, 10]", f"[0, {10**30}]"), [":12:", "too large"]),
    "huge hexadecimal": (put("Bins: 3", "Bins: 0x" + "f" * 9000), [":14:", "too large"]),
    "nan": (put("[0, 10]", "[0, .nan]"), [":12:", "finite number"]),
    "infinite": (put("0.1}", ".inf}"), [":10:", "finite number"]),
    "name is null": (put("Name: SR", "Name:"), [":4:", "must be text, got nothing"]),
    "name is a list": (put("Name: SR", "Name: [SR]"), [":4:", "must be text, got a list"]),
    "entry is null": (put("  - Name: SR\n", "  -\n"), [":4:", "must be a mapping"]),
    "entry without name": (put("Name: SR", "Filter: mass > 1"), [":4:", "missing key 'Name'"]),
    "files of numbers": (put("signal.root", "[1, 2]"), [":7:", "must be text"]),
    "long text": (put("Bins: 3", "Bins: " + "x" * 100_000), [":14:", "whole number"]),
    "long key": (put("Network:", "x" * 100 + ":"), [":13:", "unknown section"]),
}
LIMITS = {
    "Bins: 3": ["Bins: 1000000000", "Bins: 1", "Bins: -3", "Bins: 3.5", "Bins: true", "Bins: .nan"],
    "Steps: 10": [
        "Steps: 100000000", "Steps: 1e3", "Steps: -1", "Search: 1000000000", "Batch: 10000000000",
        "PretrainSteps: 100000000", "PretrainBatch: 0", "ValidateEvery: 100000000",
        "Patience: 0.5", "Rate: -1", "Rate: .inf", "Bandwidth: [0, 0.1]", "Penalty: -1",
        "MinimumEvents: .nan",
    ],
    "[8]": ["[1000000, 1000000]", "[100000, 100000]", "[0]", "[-4]", "[2.5]", f"{[1] * 101}", "8"],
    "InputPath: ntuples": [
        "Luminosity: -1", "Luminosity: 0", "Luminosity: .inf", "Luminosity: .nan", "Seed: -1",
        "Seed: 99999999999999999999", "Seed: 0.5", "Split: [0.5, 0.5, 0]", "Split: [1, 1, 1]",
        "Split: [.nan, 0.5, 0.5]",
    ],
    "[0, 10]": ["[1, 10]", "[-5, -1]", "[-1, 0]", "[10, 0]", "[0]", "[0, .inf]"],
    "[60, 100, 140]": ["[60, 60]", "[100, 60]", "[60]", "[]", "[0, .inf]", f"{list(range(20000))}"],
    "Up: {Normalization: 0.1}": ["Up: {Normalization: -1}", "Up: {Normalization: 1e300}"],
}  # fmt: skip
UNFOLD_LIMITS = {
    "Iterations: 4": [
        "Iterations: 100000000", "Iterations: 2.5", "Iterations: 0", "Iterations: true",
        "Bootstraps: 100000000", "Seeds: 1000000", "Samples: 10000000", "Epochs: 10000000",
        "BatchSize: 10000000000", "Order: 11", "Strength: -1", "LearningRate: 0",
    ],
    "[20, 50, 100]": [f"{list(range(6000))}", "[20]", "[50, 20]", "[20, .nan]"],
    "Name: pt, ": [""],
    "jes, Reco: {pt: pt_up}": ["jes, Reco: {qt: pt_up}", "jes, Reco: {}", "jes, Reco: {pt: [1]}",
                               "jes"],
}  # fmt: skip


def refused(folder: Path, content: str | bytes, read: Callable) -> str:
    """Return the message of the refusal, which must come soon."""
    path = folder / "analysis.yaml"
    path.write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )
    begin = time.process_time()
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert time.process_time() - begin < 5
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 20_000
    return message


@pytest.mark.parametrize("case", ODD)
def test_odd_yaml(tmp_path: Path, case: str) -> None:
    content, fragments = ODD[case]
    if not fragments:
        (tmp_path / "a.yaml").write_text(str(content))
        read_config(tmp_path / "a.yaml")
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB, the peak of the session
    message = refused(tmp_path, content, read_config)
    for fragment in fragments:
        assert fragment in message, message
    refused(tmp_path, content, read_unfolding)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < max(before, 5e5) + 5e5


@pytest.mark.parametrize(("old", "new"), [(old, new) for old in LIMITS for new in LIMITS[old]])
def test_sizes_and_values_without_meaning(tmp_path: Path, old: str, new: str) -> None:
    line = GOOD[: GOOD.index(old)].count("\n") + 1
    message = refused(tmp_path, put(old, new), read_config)
    assert f":{line}:" in message, message
    assert message.count("\n") < 3


@pytest.mark.parametrize(
    ("old", "new"), [(old, new) for old in UNFOLD_LIMITS for new in UNFOLD_LIMITS[old]]
)
def test_sizes_and_values_of_an_unfolding(tmp_path: Path, old: str, new: str) -> None:
    line = UNFOLD[: UNFOLD.index(old)].count("\n") + 1
    message = refused(tmp_path, UNFOLD.replace(old, new), read_unfolding)
    assert f":{line}:" in message, message


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("SR-\N{GREEK SMALL LETTER ALPHA}", "SR-\N{GREEK SMALL LETTER BETA}"),
        ("SR", "sr"),
        ("SR 1", "SR_1"),
        ("x" * 60 + "1", "x" * 60 + "2"),
        ("\N{GREEK SMALL LETTER ALPHA}", "\N{GREEK SMALL LETTER BETA}"),
    ],
)
def test_names_that_would_share_a_file(tmp_path: Path, one: str, two: str) -> None:
    content = put("Name: SR", f"Name: {one}").replace("Name: CR", f"Name: {two}")
    message = refused(tmp_path, content, read_config)
    assert ":5:" in message
    assert one in message
    assert two in message


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("Name: norm", "Name: staterror_CR", 10),
        ("Name: norm", "Name: n, ModifierName: staterror_SR", 10),
    ],
)
def test_names_of_other_parameters(tmp_path: Path, old: str, new: str, line: int) -> None:
    message = refused(tmp_path, put(old, new), read_config)
    assert f":{line}:" in message
    assert "statistical uncertainties" in message


def test_the_good_ones_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for content in (GOOD, "\ufeff" + GOOD, GOOD.replace("\n", "\r\n")):
        path.write_text(content, newline="")
        assert read_config(path).training.bins == 3
    path.write_text(UNFOLD)
    assert read_unfolding(path).options.iterations == 4


def test_merged_keys_give_way_to_own_ones(tmp_path: Path) -> None:
    merged = "{<<: *a, Name: background, Weight: weight}"
    content = put("{Name: signal,", "&a {Name: signal,").replace(
        "{Name: background, Files: background.root, Weight: weight}", merged
    )
    (tmp_path / "a.yaml").write_text(
        content.replace(", Signal: true", ", Filter: mass > 1").replace(
            "Samples: signal", "Samples: signal"
        )
    )
    config = read_config(tmp_path / "a.yaml")
    own = config.samples[1]
    assert (own.name, own.files, own.filter) == ("background", ("signal.root",), "mass > 1")


def test_random_damage_is_one_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    path, messages = tmp_path / "a.yaml", []
    for content, read in ((GOOD, read_config), (UNFOLD, read_unfolding)) * 60:
        damaged = bytearray(content.encode())
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(len(damaged)))
            damaged[place : place + int(rng.integers(3))] = rng.bytes(int(rng.integers(3)))
        path.write_bytes(damaged)
        try:
            read(path)
        except ConfigError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(str(path) in message for message in messages)
