"""What the pictures say, not how they look."""

from __future__ import annotations

import io
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from difana import plot
from difana._errors import InputError
from difana.infer import fit
from difana.likelihood import uncorrelated_background

EDGES = np.array([0.0, 0.2, 0.5, 1.0])
SAMPLES = {"QCD": np.array([40.0, 20, 5]), "top": jnp.array([10.0, 8, 4]), "signal": [1.0, 2, 6]}
TOTAL = np.array([51.0, 30, 15])
MU = np.linspace(0, 2, 5)
EXPECTED = np.exp(-np.outer(MU, [4.0, 3.0, 2.0, 1.5, 1.0]))
RECORDS = [
    {"stage": stage, "kind": kind, "step": step, name: value}
    for stage in ("cross-entropy", "limit")
    for step, value in ((1, 0.7), (2, 0.4), (3, 0.5), (4, None))
    for kind, name in (("train", "loss"), ("validation", "metric"))
]
ROWS = [{"name": "CE", "value": 0.5, "error": 0.1}, {"name": "difana", "value": 0.4}]

CURVES = {
    name: {"bins": [2, 4, 8], "limits": [1.2, 1.0, last], "errors": [0.05, 0.0, 0.02], "chosen": n}
    for name, n, last in (("score", 4, 0.99), ("descent", 8, 0.8))
}

PICTURES = {
    "data_mc": lambda **o: plot.data_mc(EDGES, SAMPLES, TOTAL, np.sqrt(TOTAL), **o),
    "soft_hard": lambda **o: plot.soft_hard(EDGES, SAMPLES, SAMPLES, **o),
    "history": lambda **o: plot.history(RECORDS, **o),
    "cls_scan": lambda **o: plot.cls_scan(MU, EXPECTED[:, 1], EXPECTED, limits=(1.0, 1.5), **o),
    "systematics": lambda **o: plot.systematics(EDGES, TOTAL, 1.1 * TOTAL, 0.9 * TOTAL, **o),
    "roc": lambda **o: plot.roc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], **o),
    "scores": lambda **o: plot.scores({"a": [0.1, 0.2], "b": [0.8]}, edges=EDGES, **o),
    "comparison": lambda **o: plot.comparison(ROWS, **o),
    "number_of_bins": lambda **o: plot.number_of_bins(CURVES, **o),
}


def rows_of(ax) -> list[np.ndarray]:
    """Return the numbers of all lines, steps and rows of bars of the axes."""
    steps = [p.get_data().values for p in ax.patches if hasattr(p, "get_data")]
    bars = [[bar.get_width() for bar in c] for c in ax.containers if hasattr(c, "patches")]
    return [np.asarray(row, float) for row in (*(x.get_ydata() for x in ax.lines), *steps, *bars)]


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


MU_AXIS = (r"signal strength $\mu$", r"$\mathrm{CL}_s$")
LIMIT_AXIS = (r"expected upper limit on $\mu$ (smaller is better)", "")
DRAWN = {  # by picture: labels of each of its axes, and rows of numbers that these must show
    "data_mc": [(("", "events / bin"), [TOTAL, [50, 28, 9], [40, 20, 5]]),
                (("observable", "data / pred."), [[1, 1, 1], 1 + 1 / np.sqrt(TOTAL)])],
    "soft_hard": [(("", "events / bin"), list(SAMPLES.values())),
                  (("observable", "soft/hard - 1 [%]"), [[0, 0, 0]])],
    "history": [(("", "training loss"), [[0.7, 0.4, 0.5, np.nan]])],
    "cls_scan": [(MU_AXIS, [EXPECTED[:, 1], EXPECTED[:, 2], [0.05, 0.05]])],
    "systematics": [(("", "events / bin"), [TOTAL, 1.1 * TOTAL, 0.9 * TOTAL]),
                    (("observable", "shift [%]"), [[10, 10, 10], [-10, -10, -10]])],
    "roc": [(("background efficiency", "signal efficiency"), [[0, 0.5, 0.5, 1, 1]])],
    "scores": [(("observable", "density"), [])],  # densities: below
    "comparison": [(LIMIT_AXIS, [[0.5, 0.4]])],
    "number_of_bins": [(("number of bins", "expected limit, relative to the chosen number of bins"),
                        [[1.2, 1.0, 0.99], [1.5, 1.25, 1.0]])],
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_their_numbers(name):
    figure = PICTURES[name](title="a title", label="CMS")
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_title(loc="left") == "CMS"
    assert any("a title" in ax.get_title(loc="right") for ax in figure.axes)
    for ax, (labels, rows) in zip(figure.axes, DRAWN[name], strict=False):
        assert (ax.get_xlabel(), ax.get_ylabel()) == labels
        shown = rows_of(ax)
        for row in rows:
            alike = (np.shape(own) == np.shape(row) and np.allclose(own, row, equal_nan=True)
                     for own in shown)  # fmt: skip
            assert any(alike), (labels, row, shown)


@pytest.mark.parametrize(
    ("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_pictures_are_written_in_every_form(form, start):
    file = io.BytesIO()
    PICTURES["data_mc"]().savefig(file, format=form)
    assert file.getvalue().startswith(start)


@pytest.mark.parametrize(
    "name", ["data_mc", "soft_hard", "cls_scan", "systematics", "roc", "scores"]
)
def test_pictures_have_a_logarithmic_form(name):
    figure = PICTURES[name](log=True)
    assert figure.axes[0].get_yscale() == "log"
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_go_into_given_axes(name):
    figure = Figure()
    if name == "history":
        found = PICTURES[name](axes=figure.subplots(2, 2))
    elif name in ("data_mc", "soft_hard", "systematics"):
        found = PICTURES[name](axes=figure.subplots(2, 1))
    else:
        found = PICTURES[name](ax=figure.subplots())
    assert found is figure
    assert all(ax.has_data() for ax in figure.axes)


def test_pictures_leave_pyplot_alone():
    for draw in PICTURES.values():
        draw()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_data_mc_shows_stack_data_and_ratio():
    data = np.array([60.0, 30, 0])
    figure = plot.data_mc(EDGES, SAMPLES, data, 0.1 * TOTAL, signal="signal", xlabel="m [GeV]")
    main, lower = figure.axes
    assert legend(main) == ["signal", "top", "QCD", "signal (alone)", "uncertainty", "data"]
    assert lower.get_xlabel() == "m [GeV]"
    np.testing.assert_allclose(main.containers[-1].lines[0].get_ydata(), data)
    points = lower.containers[-1]
    np.testing.assert_allclose(points.lines[0].get_ydata(), data / TOTAL)
    bars = np.array(points.lines[2][0].get_segments())
    np.testing.assert_allclose(np.ptp(bars[:, :, 1], axis=1), 2 * np.sqrt(data) / TOTAL)
    assert main.get_ylim()[1] > 60 + np.sqrt(60)


def test_data_mc_may_be_blind_and_show_unstacked_signal():
    figure = plot.data_mc(EDGES, {"QCD": SAMPLES["QCD"]}, signal={"signal x 10": [10, 20, 60]})
    assert legend(figure.axes[0]) == ["QCD", "signal x 10"]
    assert figure.axes[0].get_ylim()[1] > 60


def test_empty_bins_are_drawn_without_a_warning():
    empty = np.zeros(3)
    for log in (False, True):
        figure = plot.data_mc(EDGES, {"QCD": empty}, empty, empty, log=log)
        figure.savefig(io.BytesIO(), format="png")
        figure = plot.soft_hard(EDGES, {"QCD": empty}, {"QCD": empty}, log=log)
        figure.savefig(io.BytesIO(), format="png")
        plot.systematics(EDGES, empty, empty, empty, uncertainty=empty, log=log)


def test_soft_hard_shows_the_bias_in_percent():
    soft = {"signal": np.array([1.1, 2.0, 5.4])}
    main, lower = plot.soft_hard(EDGES, soft, {"signal": SAMPLES["signal"]}).axes
    assert legend(main) == ["signal, hard", "signal, soft"]
    np.testing.assert_allclose(lower.patches[0].get_data().values, [10, 0, -10], atol=1e-9)


def test_history_marks_the_best_of_each_stage():
    figure = plot.history(RECORDS)
    bottom = figure.axes[2:]
    assert [ax.get_title(loc="right") for ax in figure.axes[:2]] == ["cross-entropy", "limit"]
    assert all(legend(ax)[-1] == "best: 0.4 at step 2" for ax in bottom)
    largest = plot.history(RECORDS, minimise=False).axes[2]
    assert legend(largest)[-1] == "best: 0.7 at step 1"


def test_long_history_shows_its_running_mean():
    records = [{"step": i, "loss": float(i % 2)} for i in range(400)]
    curve, mean = plot.history(records).axes[0].lines
    assert len(curve.get_ydata()) == 400
    np.testing.assert_allclose(mean.get_ydata(), 0.5)


def test_a_small_signal_is_scaled_and_the_legend_says_so():
    faint = {"signal": np.array([0.1, 0.2, 0.3])}
    for log, factor in ((False, 50.0), (True, 100.0)):
        ax = plot.data_mc(EDGES, SAMPLES, signal=faint, signal_factor="auto", log=log).axes[0]
        assert rf"signal $\times$ {factor:g}" in legend(ax)
        assert any(np.allclose(row, factor * faint["signal"]) for row in rows_of(ax)
                   if row.shape == (3,))  # fmt: skip
    seen = plot.data_mc(EDGES, SAMPLES, signal={"signal": TOTAL}, signal_factor="auto").axes[0]
    assert "signal" in legend(seen)  # large enough as it is
    fixed = plot.data_mc(EDGES, SAMPLES, signal=faint, signal_factor=3).axes[0]
    assert r"signal $\times$ 3" in legend(fixed)
    plot.data_mc(EDGES, SAMPLES, signal={"none": np.zeros(3)}, signal_factor="auto")


def test_points_beyond_the_ratio_panel_are_marked():
    lower = plot.data_mc(EDGES, {"a": TOTAL}, TOTAL * [1, 9, 0]).axes[1]
    arrows = {line.get_marker(): np.asarray(line.get_xdata()).tolist() for line in lower.lines}
    assert arrows["^"] == [0.35]
    assert arrows["v"] == [0.75]


def test_labels_of_experiments():
    for label, weight, slant, status in (
        ("ATLAS Internal", "bold", "italic", "normal"),
        ("CMS Preliminary", "bold", "normal", "italic"),
        ("LHCb", "normal", "normal", None),
        ("FCC-ee simulation, draft", "bold", "normal", "normal"),
    ):
        figure = plot.data_mc(EDGES, SAMPLES, label=label, title="SR\n13 TeV")
        first, _, rest = label.partition(" ")
        ax = figure.axes[0]
        assert ax.get_title(loc="left") == first
        own = next(text for text in ax.get_children() if getattr(text, "_text", "") == first)
        assert (own.get_fontweight(), own.get_fontstyle()) == (weight, slant)
        texts = {text.get_text(): text for text in ax.texts}
        assert list(texts) == ([rest] if rest else [])
        figure.savefig(io.BytesIO(), format="png")
        if rest:  # stands behind the first word, on its line
            assert texts[rest].get_fontstyle() == status
            behind, before = texts[rest].get_window_extent(), own.get_window_extent()
            assert 0 < behind.x0 - before.x1 < 20
            assert abs(behind.y0 - before.y0) < 2


def test_number_of_bins_names_what_was_chosen():
    ax = plot.number_of_bins(CURVES).axes[0]
    assert legend(ax) == ["score: 4 bins", "descent: 8 bins"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["2", "4", "8"]
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    assert [round(float(star.get_xdata()[0])) for star in stars] == [4, 8]


def test_correlation_without_bins():
    model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
    found = fit(model, model.data([55.0, 60.0]))
    everything = plot.correlation(found).axes[0]
    assert len(everything.get_yticklabels()) == 3
    with pytest.raises(InputError, match="correlate"):
        plot.correlation(found, bins=False)


def test_history_survives_what_is_not_finite():
    records = [{"step": 1, "loss": float("nan"), "metric": None}]
    plot.history(records).savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_cls_scan_nests_its_bands(order):
    ax = plot.cls_scan(MU, None, EXPECTED[:, order], limits=(None, 1.5)).axes[0]
    outer, inner = (c.get_paths()[0].get_extents() for c in ax.collections)
    assert outer.y0 <= inner.y0
    np.testing.assert_allclose(ax.lines[0].get_ydata(), EXPECTED[:, 2])
    assert legend(ax)[-1] == r"expected: $\mu < 1.50$"
    assert not any("observed" in text for text in legend(ax))


def test_systematics_shows_the_shift_in_percent():
    up, down = TOTAL * [1.1, 1.0, 0.9], TOTAL * 0.95
    lower = plot.systematics(EDGES, TOTAL, up, down, uncertainty=np.sqrt(TOTAL)).axes[1]
    np.testing.assert_allclose(lower.patches[0].get_data().values, [10, 0, -10], atol=1e-9)
    np.testing.assert_allclose(lower.patches[1].get_data().values, -5)


def test_roc_names_the_area():
    labels = np.array([0, 0, 1, 1])
    ax = plot.roc({"good": labels * 1.0, "bad": np.array([0, 1, 0, 1.0])}, labels).axes[0]
    assert legend(ax) == ["good (AUC 1.0000)", "bad (AUC 0.5000)", "chance"]


def test_scores_are_densities():
    values = {"a": np.array([0.1, 0.2, 0.9]), "b": np.array([0.5])}
    ax = plot.scores(values, {"a": np.array([1.0, 3.0, -1.0])}, bins=4).axes[0]
    for patch in ax.patches:
        data = patch.get_data()
        np.testing.assert_allclose(np.sum(data.values * np.diff(data.edges)), 1.0)


def test_comparison_tells_the_gain_over_the_best_other():
    rows = [{"name": "a", "value": 0.8}, *ROWS, {"name": "failed", "value": float("nan")}]
    ax = plot.comparison(rows, highlight="difana").axes[0]
    assert [text.get_text() for text in ax.texts] == [
        "0.800",
        "0.50 ± 0.10",
        "0.400 (-20.0 %)",
        "-",
    ]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "CE", "difana", "failed"]
    heights = [patch.get_y() for patch in ax.patches]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.data_mc(EDGES, {"QCD": [1.0]}, TOTAL), "'QCD' has shape"),
        (lambda: plot.data_mc(EDGES, {}, TOTAL), "no sample to draw"),
        (lambda: plot.data_mc([1, 0], {"QCD": [1.0]}), "increasing"),
        (lambda: plot.data_mc(EDGES, SAMPLES, signal="sgnal"), "Did you mean 'signal'"),
        (lambda: plot.soft_hard(EDGES, SAMPLES, {"QCD": TOTAL}), "soft yields are of"),
        (lambda: plot.soft_hard(EDGES, SAMPLES, SAMPLES, axes=[None]), "two axes"),
        (lambda: plot.history([]), "no records"),
        (lambda: plot.history(RECORDS, axes=np.zeros((1, 2))), r"\[2, 2\]"),
        (lambda: plot.cls_scan(MU, None, EXPECTED[:3]), "expected CLs"),
        (lambda: plot.cls_scan(MU, MU[:2], EXPECTED), "do not fit"),
        (lambda: plot.roc({}, []), "no observable"),
        (lambda: plot.scores({}), "no sample"),
        (lambda: plot.scores({"a": []}), "'a' must hold"),
        (lambda: plot.scores({"a": [1.0, 2]}, {"a": [1.0]}), "weights"),
        (lambda: plot.comparison([{"name": "a"}]), "row 0"),
        (lambda: plot.number_of_bins({}), "no number of bins"),
        (lambda: plot.number_of_bins({"a": {**CURVES["score"], "chosen": 3}}), "'a': 3 bins"),
        (lambda: plot.comparison([]), "no rows"),
        (lambda: plot.comparison(ROWS, highlight="b"), "no row 'b'"),
    ],
)
def test_wrong_input_names_the_culprit(call, message):
    with pytest.raises(InputError, match=message):
        call()
