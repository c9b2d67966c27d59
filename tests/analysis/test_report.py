"""The report of an analysis: what stands in it, in which order, and how it looks in a browser."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from difana.analysis import AnalysisResult, reading, run
from difana.analysis.words import headline, observable_text
from difana.plot import analysis_report
from difana.plot._pages.look import Look, conditions
from tests.browser import check_page

PICTURES = {
    "cls_scan",
    "comparison",
    "SR_prefit",
    "SR_postfit",
    "CR_prefit",
    "CR_postfit",
    "pulls",
    "impacts",
    "correlation",
    "roc",
    "scores_cross-entropy",
    "scores_difana",
    "soft_hard",
    "input_mass",
    "input_pt",
    "input_eta",
    "history",
}
SECTIONS = [
    "Result",
    "Comparison of observables",
    "Yields",
    "Nuisance parameters",
    "Observable",
    "Input variables",
    "Systematic variations",
    "Training",
    "Symbols",
    "Record",
]


def rows_of(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    table = text.split(f">{heading}</h")[1].split("</table>")[0]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:]]


def test_report(finished: AnalysisResult, tmp_path: Path) -> None:
    page = analysis_report(finished, tmp_path)
    text = page.read_text()
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text) == SECTIONS
    assert "http" not in text.replace("http-equiv", "")
    names = {path.stem for path in (tmp_path / "plots").glob("*.png")}
    assert names >= PICTURES
    assert any(name.startswith("systematic_") for name in names)
    for name in names:
        assert imread(tmp_path / "plots" / f"{name}.png").std() > 0.01  # something is drawn
    assert "MinimumBackground" in text.split("<h2")[8]  # of the training
    # the limit stands first of all numbers, with the digits of the terminal
    limit = headline(finished.summary)[0][1].replace("<", "&lt;")
    assert text.index(limit) < text.index("<table")
    assert "There are no data" in text
    head, *rows = rows_of(text, "Comparison of observables")
    assert head[:4] == ["observable", "bins", "mu &lt;", "68 % band"]
    assert [row[0] for row in rows] == [
        observable_text(row) for row in finished.summary["comparison"]
    ]
    check_page(page, tmp_path, images=len(names))


def test_yields_have_uncertainties(finished: AnalysisResult, tmp_path: Path, quick: None) -> None:
    text = analysis_report(finished, tmp_path).read_text()
    rows = {row[0]: row[1:] for row in rows_of(text, "Region SR")}
    assert list(rows) == ["process", "signal", "background", "signal and background"]
    final = finished.statistics
    parts = (final.prefit, final.postfit_background)
    before, after = (float(part.channel_errors[0]) for part in parts)
    for cell, error in zip(rows["background"], (before, after), strict=True):
        mean, spread = map(float, cell.split(" ± "))
        assert mean == pytest.approx(600, rel=0.05)
        assert spread == pytest.approx(error, rel=0.15)
    assert float(rows["signal"][0].split(" ± ")[0]) == pytest.approx(30, rel=0.05)


def test_what_newer_results_say_is_drawn(
    finished: AnalysisResult, tmp_path: Path, quick: None
) -> None:
    curve = {"bins": [2, 3], "limits": [1.0, 0.9], "errors": [0.1, None], "chosen": 3}
    training = {**finished.summary["training"], "bins": {"SR": {"score": curve}}}
    rows = [{**entry, "error": 0.0213, "retained": 0.9} for entry in finished.summary["comparison"]]
    rows[-1]["observable"] = "score"
    summary = {**finished.summary, "training": training, "comparison": rows}
    result = dataclasses.replace(finished, summary=summary)
    text = analysis_report(result, tmp_path).read_text()
    assert (tmp_path / "plots" / "number_of_bins.png").is_file()
    head, *cells = rows_of(text, "Comparison of observables")
    assert head[5] == "information"
    assert cells[-1][0] == "difana (score)"
    assert all(row[2].endswith(" ± 0.021") and row[5] == "90 %" for row in cells)
    assert "The errors are those of the simulated test events" in text


def test_reading_is_the_fit_to_asimov_data(finished: AnalysisResult) -> None:
    found = reading(finished)
    assert found.label == "Asimov, mu = 1"
    assert float(found.fit["mu"]) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(found.pulls.pulls, 0, atol=1e-3)
    assert (np.asarray(found.pulls.ratios) < 1.001).all()
    parts = found.impacts
    assert parts.ok
    assert parts.group_names == ("statistics of the simulation",)
    assert 0 < float(parts.groups_auxiliary[0]) < float(parts.systematic)
    assert float(parts.statistical**2 + parts.systematic**2) == pytest.approx(
        float(parts.uncertainty**2), rel=1e-3
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that cost nothing."""

    def written(self: Figure, path: Path, **options: Any) -> None:
        imsave(path, np.zeros((1, 1)))

    monkeypatch.setattr(Figure, "savefig", written)


def test_data_with_a_deficit_labels_and_hostile_names(
    folder: Path, write_config: Callable[..., Path], stub: Callable[..., None], quick: None
) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["General"] |= {
            "Label": "CMS Preliminary",
            "Energy": "13 TeV",
            "LuminosityLabel": "138 fb-1",
            "Measurement": "<b>$^$</b>",
        }
        deficit = {"Name": "data", "Files": "background.root", "Data": True}
        config["Samples"].append({**deficit, "Filter": "event % 4 > 0 and abs(mass - 125) > 4"})
        config["Regions"].append({"Name": "C R", "Variable": "mass", "Binning": [60, 120, 900]})
        config["Regions"].append({"Name": "C_R2", "Variable": "pt", "Binning": [0, 50, 900]})
        config["Labels"] = {
            "mass": r"$m_{\mu\mu}$ [GeV]",
            "pt": "$p_{T",
            "scale": "50 $ scale",
            "background": "<i>Z</i>",
            "C R": r"$\Delta$ region",
        }

    stub([-2, 0, 1, 2, 600])
    result = run(write_config(edit), folder / "out", progress=False)
    found = reading(result)
    assert found.label == "fit to data"
    assert float(result.statistics.fit["mu"]) == 0  # at its bound: says nothing
    assert float(found.fit["mu"]) < -0.05
    assert "may be negative" in found.words
    assert np.abs(np.asarray(found.impacts.postfit_up)).max() > 0.01
    few = dataclasses.replace(result, data=result.data.at[1:3].set(jnp.array([20.0, 3.0])))
    far = reading(few)
    assert "at its bound" in far.words
    assert float(far.fit["mu"]) == pytest.approx(1, abs=1e-4)
    text = analysis_report(result).read_text()
    cards = re.findall(r'class="name">(.*?)<', text)
    assert cards == ["observed limit", "expected limit", "observed significance"]
    assert "CMS Preliminary · 138 fb⁻¹ (13 TeV) · region SR" in text
    assert "&lt;b&gt;$^$&lt;/b&gt;" in text
    assert "&lt;i&gt;Z&lt;/i&gt;" in text
    assert "m_μμ [GeV]: separation" in text
    assert rows_of(text, "Δ region")[-1] == ["data", *2 * [f"{result.regions[1].data.sum():g}"]]


def test_pictures_say_energy_and_luminosity_as_the_experiment_does() -> None:
    assert conditions("CMS", "13 TeV", None) == "(13 TeV)"
    assert conditions("LHCb preliminary", None, "9 fb^-1") == "9 fb⁻¹"
    assert conditions("difana", None, None) == ""
    assert conditions("mine", "$", "x") == r"√s = \$, x"


def test_names_that_make_one_file_make_two(tmp_path: Path) -> None:
    look = Look(tmp_path, "difana", "", ("mu",), {}, {"b": "$b$ quarks"})
    first, second = (look.picture(name, Figure(), "") for name in ("a b", "a_b"))
    assert first.figure != second.figure
    assert all(Path(str(picture.figure)).is_file() for picture in (first, second))
    assert (look.called("b"), look.said("b"), look.region("c")) == (
        "$b$ quarks",
        "b quarks",
        "region c",
    )
