from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data import Events
from difana.unfold import response, unfolding_problem

Z = np.linspace(-1.0, 1.0, 8)
NONE = np.zeros(8, bool)
HALF = np.arange(8) % 2 == 0
NAN = np.where(np.arange(8) == 3, np.nan, Z)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reco": Z[:5]}, "gen holds 8 events and reco 5"),
        ({"gen_ids": np.arange(8), "reco_ids": np.arange(8)[::-1]}, "different events in 8 rows"),
        ({"gen_ids": np.arange(8)}, "both gen_ids and reco_ids"),
        ({"gen_ids": np.arange(7), "reco_ids": np.arange(7)}, "gen_ids have shape"),
        ({"pass_reco": NONE}, "pass_reco passes no event"),
        ({"pass_gen": NONE}, "pass_gen passes no event"),
        ({"pass_gen": HALF, "pass_reco": ~HALF}, "no event passes both"),
        ({"pass_gen": np.ones(8)}, "one boolean"),
        ({"gen_weights": np.zeros(8)}, "gen_weights .* all zero"),
        ({"reco_weights": -np.ones(8)}, "reco_weights .* total of -8"),
        ({"data_weights": np.zeros(8)}, "data_weights are all zero"),
        ({"data_weights": np.ones(3)}, "data_weights have shape"),
        ({"gen_weights": NAN}, "gen_weights are not finite, first at event 3"),
        ({"gen": NAN}, "gen is not finite in 1 events, first in event 3"),
        ({"reco": NAN}, "reco is not finite"),
        ({"data": NAN}, "data is not finite"),
        ({"data": np.ones((8, 2))}, "the same observables"),
        ({"background": Z, "background_weights": 2 * np.ones(8)}, "total weight of -8"),
        ({"background": NAN[:4]}, "background is not finite"),
        ({"background_weights": np.ones(8)}, "without background"),
        ({"names": ("a", "b")}, "2 names for 1"),
        ({"data": np.ones(0)}, "at least one event"),
    ],
)
def test_bad_input_is_refused_with_its_reason(change, message):
    with pytest.raises(InputError, match=message):
        unfolding_problem(**{"gen": Z, "reco": Z, "data": Z, **change})


def test_events_outside_the_masks_may_hold_anything():
    problem = unfolding_problem(NAN, NAN, Z, pass_gen=~np.isnan(NAN), pass_reco=~np.isnan(NAN))
    inside = ~np.isnan(NAN)
    for level in (problem.gen, problem.reco):
        np.testing.assert_array_equal(level[inside, 0], NAN[inside])
        np.testing.assert_array_equal(level[~inside, 0], level[~inside, 0])  # numbers
    binned = response(problem, gen_edges=[-5.0, 5.0], reco_edges=[-5.0, 5.0])
    assert (float(binned.prior[0]), float(binned.matrix[0, 0])) == (7.0, 1.0)


def test_weights_of_the_two_levels_and_of_events():
    gen = Events(jnp.asarray(Z)[:, None], jnp.full(8, 2.0), columns=("pt",), units=("GeV",))
    problem = unfolding_problem(gen, Z, Z)
    assert problem.names == ("pt",)
    assert problem.units == ("GeV",)
    np.testing.assert_array_equal(problem.reco_weights, 2.0)
    problem = unfolding_problem(gen, Z, Z, reco_weights=np.full(8, 3.0))
    np.testing.assert_array_equal(problem.gen_weights, 2.0)
    np.testing.assert_array_equal(problem.reco_weights, 3.0)


def test_inputs_are_not_changed_and_may_be_traced():
    weights = np.full(8, 2.0)
    unfolding_problem(Z, Z, Z, gen_weights=weights)
    np.testing.assert_array_equal(weights, 2.0)

    @jax.jit
    def total(shift):
        return unfolding_problem(Z, Z + shift, Z, gen_weights=Z + shift).reco_weights.sum()

    assert float(jax.grad(total)(0.5)) == 8.0
