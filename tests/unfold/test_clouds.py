from __future__ import annotations

import jax
import numpy as np
import pytest

from difana._errors import InputError
from difana.data.generate import cloud_levels
from difana.nn import DeepSets, PointEdgeTransformer
from difana.train import Training
from difana.unfold import fit_omnifold, unfolding_problem

NETS = {
    "deep sets": lambda key: DeepSets(3, [32], latent=16, activation="silu", key=key),
    "transformer": lambda key: PointEdgeTransformer(3, 16, blocks=1, neighbours=2, key=key),
}


def test_particles_need_a_network():
    toy = cloud_levels(key=jax.random.key(0), events=20)
    with pytest.raises(InputError, match="give gen_net and reco_net"):
        fit_omnifold(unfolding_problem(**toy.inputs()), key=jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_clouds_are_unfolded(name):
    toy = cloud_levels(key=jax.random.key(0), events=10_000)
    problem = unfolding_problem(**toy.inputs())
    training = Training(epochs=12, batch_size=500, learning_rate=5e-3, final_rate=0.02)
    result = fit_omnifold(
        problem, key=jax.random.key(1), gen_net=NETS[name], reco_net=NETS[name], iterations=3,
        training=training,
    )  # fmt: skip
    w = np.asarray(result.weights())
    gen, truth = np.asarray(toy.gen), np.asarray(toy.truth)
    real = (gen != 0).any(-1)
    mean = np.sum(w[:, None] * gen[..., 2]) / np.sum(w[:, None] * real)
    wanted = truth[..., 2].sum() / (truth != 0).any(-1).sum()
    assert abs(mean - wanted) < 0.03
    # the number of particles is the same in simulation and data, and stays so
    number = np.average(real.sum(1), weights=w)
    assert abs(number - (truth != 0).any(-1).sum(1).mean()) < 0.08
    # the exact log ratio is a sum over the particles: their number counts
    exact = np.sum(np.where(real, 0.25 * gen[..., 2] - 0.25**2 / 2, 0) / 0.5**2, axis=1)
    for particles in (2, 6):
        chosen = real.sum(1) == particles
        slope = np.polyfit(exact[chosen], np.log(w[chosen]), 1)[0]
        assert abs(slope - 1) < 0.2
