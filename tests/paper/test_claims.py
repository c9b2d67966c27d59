"""The figures of docs/results.md are those of the committed records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.paper

ROOT = Path(__file__).parents[2]


def row(start: str) -> str:
    """Return the value of a row of the table of figures."""
    lines = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if line.startswith(f"| {start}")]
    assert len(found) == 1, (start, found)
    return found[0].split("|")[2]


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"(?<![\w.])\d*\.?\d+(?:e-?\d+)?", text)]


def record(example: str, file: str = "expected.json") -> Any:
    return json.loads((ROOT / "paper_examples" / example / file).read_text(encoding="utf-8"))


def results(name: str) -> str:
    return (ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8")


def test_agreement_with_pyhf():
    largest = max(point["largest_difference"] for point in record("atlas_1lbb")["pyhf"].values())
    assert numbers(row("CLs of three points"))[0] == pytest.approx(largest, rel=0.05)


def test_one_flow():
    found = record("oneflow")["seeds"]["0"]
    names = ("auc_before", "auc_after", "correlations_after")
    measured = [found[name] for name in names]
    assert numbers(row("one flow corrects")) == pytest.approx(measured, abs=0.0006)
    assert all(found["order_kept"])


def test_posteriors():
    lines = [x.split("|") for x in results("sbi_posteriors.md").splitlines() if x.count("|") == 6]
    measured = [float(cells[3]) for cells in lines[2:]]
    assert numbers(row("posteriors of sbibm")) == pytest.approx(measured, abs=0.0006)


def test_toys():
    rate = re.search(r"Ratio of the rates: \*\*(\d+)\*\*", results("toys.md"))
    assert rate is not None
    assert numbers(row("toys of the two-bin"))[0] == float(rate[1])


def test_recipe():
    line = next(x for x in results("recipe_demo.md").splitlines() if x.startswith("| mean"))
    entropy, score, _, chosen, *_ = numbers(line)
    found = numbers(row("demo events, five seeds"))
    assert found == pytest.approx([chosen, score, entropy], abs=0.0006)
    means = [x for x in results("recipe_toy.md").splitlines() if x.startswith("| mean")]
    rows = [numbers(line) for line in means]
    found = numbers(row("a toy whose best variable"))[:6]
    assert found == pytest.approx([cells[i] for cells in rows for i in (3, 0)], abs=0.0006)


def test_lhc_olympics():
    recipe = record("lhco", "expected_recipe.json")["ratio_of_means_to_equal_signal"]
    found = numbers(row("LHC Olympics, difana against"))
    assert found == pytest.approx([recipe["small"], recipe["large"]], abs=0.0051)
    ratios = record("lhco")["ratio_of_means"]
    found = numbers(row("LHC Olympics, systematics 0"))[:4]
    assert found == pytest.approx([ratios[size] for size in "0124"], abs=0.0051)


def test_inferno_and_neos():
    rows = record("inferno")["rows"]
    names = ("B2", "B2-score, before", "B2-score")
    medians = [np.median(rows[name]["B2"]) for name in names]
    assert numbers(row("INFERNO")) == pytest.approx(medians, abs=0.0051)
    rows = record("neos")["rows"]
    found = numbers(row("NEOS blobs").replace("5 bins", ""))
    best = {m: min(np.median(rows[f"5 bins, {m}, {k}"][m]) for k in ("fixed", "annealed"))
            for m in ("CLs", "sigma_mu", "p0")}  # fmt: skip
    assert found == pytest.approx([best["CLs"], best["sigma_mu"], best["p0"]], rel=0.03)


def test_unfolding():
    toys = record("omnifold_gaussian")
    errors = [
        np.abs(np.subtract(values, toys["exact"][name][iteration])).max()
        for seed in toys["recursion"].values()
        for name, rows in seed["mlp"].items()
        for iteration, values in rows.items()
    ]
    found = numbers(row("OmniFold on Gaussians"))[0]
    assert found == pytest.approx(max(errors), abs=0.00051)
    pulls = np.concatenate([np.asarray(s["pulls"]) for s in toys["coverage"].values()])
    covered, _ = numbers(row("coverage of OmniFold"))
    assert covered == pytest.approx(100 * np.mean(np.abs(pulls) < 1), abs=0.51)
    auc = record("omnifold_jets")["summary"]["MultiFold AUC"]
    found = numbers(row("OmniFold on six jet"))
    assert found == pytest.approx([auc["mean"], auc["sd"]], abs=0.00051)
    ratio = next(x for x in results("unfolding.md").splitlines() if "| omnifold" in x)
    assert numbers(row("the same OmniFold"))[0] == numbers(ratio.split("|")[-2])[0]


def test_rotating_gaussians():
    methods = record("uncertainty_aware")["methods"]
    pairs = (("nominal", "nominal"), ("nominal", "shifted"), ("aware", "shifted"))
    wanted = [np.mean(methods[a]["auc"][b]) for a, b in pairs]
    assert numbers(row("rotating Gaussians")) == pytest.approx(wanted, abs=0.00051)


def test_training_step_and_histogram():
    text = results("training_step.md")
    first = re.search(r"Ratio of the medians ([\d.]+)", text)
    assert first is not None
    lines = [[c.strip() for c in x.strip("|").split("|")] for x in text.splitlines() if "3 x" in x]
    whole = [line for line in lines if line[2] == "none"]
    tiles = [line for line in lines if line[2] != "none"]
    wanted = [float(first[1]), *(float(line[5]) for line in whole)]
    assert numbers(row("a training step on the limit"))[:3] == pytest.approx(wanted)
    found = numbers(row("the same in tiles"))
    assert found == pytest.approx([float(line[5]) for line in tiles])
    line = next(
        x for x in results("soft_histogram.md").splitlines()
        if x.startswith("| 1e+07 | forward + all gradients")
    )  # fmt: skip
    peak = float(line.strip("|").split("|")[-1])
    assert numbers(row("soft histogram of 1e7"))[0] == pytest.approx(peak, abs=0.051)
