from __future__ import annotations

import io

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from difana import plot
from difana._errors import InputError
from difana.unfold import UnfoldedEvents, UnfoldedHistogram, response, unfolding_problem

EDGES = jnp.array([0.0, 1.0, 2.0, 4.0])
VALUES = jnp.array([10.0, 20.0, 5.0])
TRUTH = np.array([12.0, 18.0, 5.0])


def histogram(values=VALUES):
    return UnfoldedHistogram(
        status=jnp.asarray(0), edges=(EDGES,), values=values,
        covariance=jnp.diag(jnp.array([4.0, 9.0, 1.0])), names=("pt",),
    )  # fmt: skip


def events(weights):
    return UnfoldedEvents(
        status=jnp.asarray(0), observables=jnp.zeros((len(weights), 1)),
        weights=jnp.asarray(weights), replicas={}, variations={},
        fiducial=jnp.ones(len(weights), bool),
    )  # fmt: skip


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), format="png")
    return figure


def test_unfolded_shows_errors_truth_and_ratio():
    both = {"IBU": histogram(), "OmniFold": histogram(1.1 * VALUES)}
    figure = drawn(plot.unfolded(both, truth=TRUTH, simulated=VALUES, xlabel="pt [GeV]"))
    main, lower = figure.axes
    names = [text.get_text() for text in main.get_legend().get_texts()]
    assert names == ["truth", "simulated", "IBU", "OmniFold"]
    points = lower.containers[0]
    np.testing.assert_allclose(points.lines[0].get_ydata(), VALUES / TRUTH)
    bars = np.array(points.lines[2][0].get_segments())
    np.testing.assert_allclose(np.ptp(bars[:, :, 1], axis=1), 2 * np.array([2, 3, 1]) / TRUTH)
    assert lower.get_ylabel() == "ratio to truth"
    assert lower.get_xlabel() == "pt [GeV]"
    assert drawn(plot.unfolded(histogram(), log=True)).axes[0].get_yscale() == "log"


def test_unfolded_goes_into_given_axes():
    figure = Figure()
    axes = figure.subplots(2, 1)
    assert plot.unfolded(histogram(), axes=axes, title="closure") is figure
    assert axes[0].get_title(loc="right") == "closure"


def test_correlation_response_and_weights():
    figure = drawn(plot.unfolded_correlation(histogram()))
    assert figure.axes[0].images[0].get_array().max() == 100
    z = np.array([0.5, 0.5, 1.5, 3.0])
    problem = unfolding_problem(z, z, z, pass_reco=np.array([True, False, True, True]))
    binned = response(problem, gen_edges=EDGES, reco_edges=EDGES)
    figure = drawn(plot.response(binned))
    assert figure.axes[0].get_title(loc="right") == "efficiency 50 to 100 %"
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), 100 * binned.matrix)
    positive = drawn(plot.unfolding_weights(events([0.5, 1.0, 2.0, 2.0])))
    assert positive.axes[0].get_xscale() == "log"
    signed = drawn(plot.unfolding_weights(events([-0.5, 1.0, 2.0])))
    assert signed.axes[0].get_xscale() == "linear"
    drawn(plot.unfolding_weights(events([1.0, 1.0])))


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="no histogram"):
        plot.unfolded({})
    other = histogram(jnp.ones(3))
    with pytest.raises(InputError, match="'truth' has shape"):
        plot.unfolded(other, truth=[1.0])
    flat = UnfoldedHistogram(
        status=jnp.asarray(0), edges=(EDGES, EDGES), values=jnp.ones((3, 3)),
        covariance=jnp.eye(9), names=("a", "b"),
    )  # fmt: skip
    with pytest.raises(InputError, match="2 axes"):
        plot.unfolded(flat)
    none = events([1.0])
    none = UnfoldedEvents(**{**none.__dict__, "fiducial": jnp.zeros(1, bool)})
    with pytest.raises(InputError, match="no event"):
        plot.unfolding_weights(none)
