"""Pictures of pulls, impacts, correlations, scans, limits over grids, and yields."""

from __future__ import annotations

import io

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from difana import plot
from difana._errors import InputError
from difana.infer import FitResult, ImpactsResult, PullsResult, ScanResult, yields
from difana.likelihood import Channel, NormFactor, NormSys, Template, build_model

NAMES = ("mu", "jes", "norm", "stat[0]", "held")
WIDTH = np.array([0.5, 0.8, 1.0, 0.1, 0.0])
CORRELATION = np.eye(5)
CORRELATION[0, 1] = CORRELATION[1, 0] = -0.6
CORRELATION[1, 2] = CORRELATION[2, 1] = 0.1
ZERO = jnp.zeros((), int)


def fit_result() -> FitResult:
    covariance = jnp.asarray(CORRELATION * np.outer(WIDTH, WIDTH))
    return FitResult(
        params=jnp.array([1.2, 0.5, -0.3, 1.02, 1.0]),
        nll=jnp.array(1.0), half_deviance=jnp.array(0.5), gradient=jnp.zeros(5),
        covariance=covariance, status=ZERO, steps=ZERO, distance=jnp.array(0.0), names=NAMES,
    )  # fmt: skip


def pulls_result() -> PullsResult:
    return PullsResult(
        pulls=jnp.array([0.5, -0.3, 0.2, 0.0]), ratios=jnp.array([0.8, 1.0, 0.9, 0.0]),
        centers=jnp.array([0.0, 0.0, 1.0, 1.0]), widths=jnp.array([1.0, 1.0, 0.1, 1.0]),
        free=jnp.array([True, True, True, False]), status=ZERO, names=NAMES[1:],
    )  # fmt: skip


def impacts_result() -> ImpactsResult:
    up = jnp.array([0.1, -0.3, 0.05, 0.0])
    return ImpactsResult(
        value=jnp.array(1.2), uncertainty=jnp.array(0.5), statistical=jnp.array(0.4),
        systematic=jnp.array(0.3),
        params=jnp.array([0.5, -0.3, 1.02, 1.0]), uncertainties=jnp.array([0.8, 1.0, 0.1, 0.0]),
        centers=jnp.array([0.0, 0.0, 1.0, 1.0]), widths=jnp.array([1.0, 1.0, 0.1, 0.0]),
        prefit_up=1.2 * up, prefit_down=-1.1 * up, postfit_up=up, postfit_down=-up, auxiliary=up,
        groups=jnp.zeros(0), groups_auxiliary=jnp.zeros(0), status=jnp.zeros(4, int),
        fit_status=ZERO, names=NAMES[1:], poi="mu", group_names=(), method="refit",
    )  # fmt: skip


def scan_result(*, dimensions: int) -> ScanResult:
    best = fit_result()
    axes = (jnp.linspace(0, 3, 13), jnp.linspace(-2, 3, 11))[:dimensions]
    mesh = jnp.meshgrid(*axes, indexing="ij")
    rise = sum(((x - best.params[i]) / WIDTH[i]) ** 2 for i, x in enumerate(mesh))
    shape = tuple(axis.size for axis in axes)
    return ScanResult(
        axes, jnp.asarray(rise), jnp.zeros((*shape, 5)), best, jnp.zeros(shape, int),
        NAMES[:dimensions],
    )  # fmt: skip


def model_yields(label: str | None = None):
    signal = Template([5.0, 9.0], (NormFactor("mu"),), name="signal")
    bkg = Template([90.0, 40.0], (NormSys(1.1, 0.9, "norm"),), name="background")
    control = Template([200.0], (NormSys(1.1, 0.9, "norm"),), name="background")
    model = build_model([Channel((signal, bkg), name="SR"), Channel((control,), name="CR")])
    return yields(model, label=label)


GRID = np.array([(m1, m2) for m1 in np.arange(200, 1001, 100.0) for m2 in np.arange(0, m1, 100)])
CLS = np.clip(1e-4 * np.exp((GRID[:, 0] + GRID[:, 1]) / 150), 0, 1)
BAND = np.clip(CLS[:, None] * np.array([0.2, 0.5, 1.0, 2.0, 4.0]), 0, 1)
MASS = np.array([300.0, 100, 200])
LIMITS = np.array([[1.0, 2, 3, 4, 5], [0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.7, 1, 1.4, 2]])

PICTURES = {
    "pulls": lambda **o: plot.pulls(pulls_result(), **o),
    "impacts": lambda **o: plot.impacts(impacts_result(), **o),
    "correlation": lambda **o: plot.correlation(fit_result(), **o),
    "scan": lambda **o: plot.scan(scan_result(dimensions=1), **o),
    "scan 2": lambda **o: plot.scan(scan_result(dimensions=2), **o),
    "brazil": lambda **o: plot.brazil(MASS, LIMITS, LIMITS[:, 1], theory=[1, 1, 1], **o),
    "exclusion": lambda **o: plot.exclusion(*GRID.T, BAND, CLS, **o),
}


PULL = (r"$(\hat{\theta} - \theta_0) / \Delta\theta$", "")
RISE = r"$2\,\Delta\,\mathrm{NLL}$"
LABELS = {
    "pulls": [PULL],
    "impacts": [PULL, ("change of mu", "")],
    "correlation": [("", ""), ("", "correlation [%]")],
    "scan": [("mu", RISE)],
    "scan 2": [("mu", "jes"), ("", RISE)],
    "brazil": [("mass", r"95 % CL upper limit on $\mu$")],
    "exclusion": [("$m_1$ [GeV]", "$m_2$ [GeV]")],
}


def names_of(ax) -> list[str]:
    return [text.get_text() for text in ax.get_yticklabels()]


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_drawn(name):
    figure = PICTURES[name](title="a title", label="CMS")
    assert isinstance(figure, Figure)
    assert any(ax.get_title(loc="left") == "CMS" for ax in figure.axes)
    assert any("a title" in ax.get_title(loc="right") for ax in figure.axes)
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes] == LABELS[name]
    given = Figure()
    assert PICTURES[name](ax=given.subplots()) is given


def test_pulls_leave_out_bins_and_held_parameters():
    assert names_of(PICTURES["pulls"]().axes[0]) == ["jes", "norm"]
    assert names_of(PICTURES["pulls"](bins=True).axes[0]) == ["jes", "norm", "stat[0]"]
    assert names_of(PICTURES["pulls"](most=1).axes[0]) == ["jes"]
    points = PICTURES["pulls"]().axes[0].containers[0]
    np.testing.assert_allclose(points.lines[0].get_xdata(), [0.5, -0.3])


def test_impacts_are_ranked():
    main, top = PICTURES["impacts"]().axes
    assert names_of(main) == ["norm", "jes", "stat[0]", "held"]
    np.testing.assert_allclose([bar.get_width() for bar in top.containers[2]], [-0.3, 0.1, 0.05, 0])
    np.testing.assert_allclose(main.containers[0].lines[0].get_xdata(), [-0.3, 0.5, 0.2])
    assert top.get_title(loc="right") == "mu = 1.2 ± 0.5"
    assert len(names_of(PICTURES["impacts"](most=2).axes[0])) == 2
    assert names_of(PICTURES["impacts"](bins=0).axes[0]) == ["norm", "jes", "held"]


def test_correlations_are_pruned():
    assert names_of(PICTURES["correlation"]().axes[0]) == ["mu", "jes"]
    main = PICTURES["correlation"](threshold=0.05).axes[0]
    assert names_of(main) == ["mu", "jes", "norm"]
    assert "-60" in [text.get_text() for text in main.texts]
    assert len(names_of(PICTURES["correlation"](threshold=0.0).axes[0])) == 4  # not the held one


def test_scan_shows_the_contours_of_two_parameters():
    assert legend(PICTURES["scan 2"]().axes[0]) == ["68 %", "95 %", "best fit"]
    ax = PICTURES["scan"]().axes[0]
    curve = ax.lines[0]  # a parabola of width 0.5 around 1.2
    np.testing.assert_allclose(
        curve.get_ydata(), ((np.asarray(curve.get_xdata()) - 1.2) / 0.5) ** 2, atol=1e-5
    )
    assert [text.get_text() for text in ax.texts] == ["68 %", "95 %"]


def test_brazil_sorts_the_signals():
    ax = PICTURES["brazil"]().axes[0]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [100, 200, 300])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.3, 1, 3])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.2, 0.7, 2])
    assert ax.get_yscale() == "log"
    assert PICTURES["brazil"](log=False).axes[0].get_yscale() == "linear"


def test_exclusion_contours_lie_where_cls_is_alpha():
    """The quantile of CLs is nearly linear in the masses: so is its contour."""
    ax = plot.exclusion(*GRID.T, BAND, CLS, points=False).axes[0]
    contours = [c for c in ax.collections if hasattr(c, "levels") and len(c.levels) == 1]
    assert len(contours) == 4  # expected, two bands, observed
    total = 150 * np.log(0.05 / 1e-4)
    shifts = {-1: 0.5, 0: 1.0, 1: 2.0}
    expected = sorted(total - 150 * np.log(x) for x in [*shifts.values(), 1.0])
    found = sorted(np.mean(c.get_paths()[0].vertices.sum(axis=1)) for c in contours)
    np.testing.assert_allclose(found, expected, atol=15)


def test_exclusion_without_a_contour_is_drawn():
    figure = plot.exclusion(*GRID.T, np.ones_like(BAND), np.full(len(GRID), np.nan))
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.filterwarnings("error")
def test_yields_before_and_after():
    data = np.array([100.0, 50.0, 190.0])
    figure = plot.yields(
        model_yields(), model_yields("post-fit"), channel="SR", data=data, signal="signal"
    )
    tops = figure.axes[:2]
    assert [ax.get_title(loc="right") for ax in tops] == ["SR, pre-fit", "SR, post-fit"]
    np.testing.assert_allclose(tops[0].containers[-1].lines[0].get_ydata(), data[:2])
    assert tops[0].get_ylim() == tops[1].get_ylim()
    control = plot.yields(model_yields(), channel="CR", data=data, edges=[0.0, 1.0])
    np.testing.assert_allclose(control.axes[0].containers[-1].lines[0].get_ydata(), data[2:])
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.correlation(fit_result(), threshold=0.9), "lower the threshold"),
        (lambda: plot.brazil(MASS, LIMITS[:2]), "expected limits of shape"),
        (lambda: plot.brazil(MASS, LIMITS, MASS[:2]), "observed"),
        (lambda: plot.exclusion(*GRID.T, BAND[:, :3]), "expected CLs of shape"),
        (lambda: plot.exclusion(*GRID.T, BAND, CLS[:3]), "observed CLs"),
        (lambda: plot.exclusion(MASS, MASS, np.ones((3, 5))), "not all on one line"),
        (lambda: plot.yields(channel="SR"), "no yields"),
        (lambda: plot.yields(model_yields(), channel="SR", data=[1.0]), "3 bins"),
    ],
)
def test_wrong_input_names_the_culprit(call, message):
    with pytest.raises(InputError, match=message):
        call()
