"""Bayesian inference: the posterior of a model by the No-U-Turn sampler of NumPyro."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import ModelError
from difana._options import whole_number
from difana._status import Status, flag
from difana.infer.fit import fit
from difana.infer.posterior.numpyro_model import numpyro_model, priors_of
from difana.infer.posterior.posterior_result import FEWEST_EFFECTIVE, LARGEST_R_HAT, PosteriorResult
from difana.infer.toys.sampling import poisson
from difana.likelihood import Model


def posterior(
    model: Model,
    data: Float[Array, " data"],
    *,
    key: PRNGKeyArray,
    samples: int = 1000,
    warmup: int = 500,
    chains: int = 1,
    poi_prior: Any = None,
    priors: Mapping[str, Any] | None = None,
) -> PosteriorResult:
    """Draw from the posterior with the No-U-Turn sampler, chains side by side in one program.

    Not differentiable. The priors are those of :func:`numpyro_model`. Chains start at the best
    fit, moved off the bounds.

    Args:
        model: The model.
        data: Data vector: observed yields, then auxiliary data.
        key: Random key.
        samples: Draws of each chain, after the warm-up.
        warmup: Steps of each chain that adapt the sampler and are dropped.
        chains: Number of chains.
        poi_prior: A NumPyro distribution for the parameter of interest; by default it is uniform
            within its bounds.
        priors: NumPyro distributions for other unconstrained parameters by name.

    Returns:
        The draws; ``result.ok`` tells whether they can be trusted.

    Raises:
        ConfigError: If a number of draws or chains is too small.
        ModelError: As :func:`numpyro_model`, or if no parameter is free.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([10.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal,), name="SR")])
        >>> result = posterior(model, model.data([9.0]), key=jax.random.key(0), samples=400)
        >>> result.ok, abs(float(result["mu"].mean()) - 1.0) < 0.1  # Gamma(10, 10)
        (True, True)

    References:
        M. D. Hoffman, A. Gelman, arXiv:1111.4246; NumPyro, arXiv:1912.11554.
    """
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
    from numpyro.infer import MCMC, NUTS, init_to_value

    for name, value, least in (
        ("samples", samples, 4),
        ("warmup", warmup, 1),
        ("chains", chains, 1),
    ):
        whole_number(name, value, least=least)
    program = numpyro_model(model, data, poi_prior=poi_prior, priors=priors)
    sites = priors_of(model, data, poi_prior, priors)
    if not sites:
        raise ModelError("no free parameter: there is nothing to sample")
    best = eqx.filter_jit(fit)(model, data).params
    # a bound lies at infinity in the coordinates of the sampler
    margin = 0.01 * (model.upper - model.lower)
    best = jnp.clip(best, model.lower + margin, model.upper - margin)
    values = {site: best[places] for site, (places, _) in sites.items()}
    sampler = MCMC(
        NUTS(program, init_strategy=init_to_value(values=values)),
        num_warmup=warmup,
        num_samples=samples,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    sampler.run(key, extra_fields=("diverging",))
    draws = sampler.get_samples(group_by_chain=True)["parameters"]
    free = np.sort(np.concatenate([np.atleast_1d(places) for places, _ in sites.values()]))
    unknown = np.full(model.init.size, np.nan)
    r_hat, effective = unknown.copy(), unknown.copy()
    chosen = np.asarray(draws[:, :, free])
    r_hat[free] = np.asarray(split_gelman_rubin(chosen))
    effective[free] = np.asarray(effective_sample_size(chosen))
    divergences = jnp.sum(sampler.get_extra_fields()["diverging"])
    mixed = (r_hat[free] < LARGEST_R_HAT) & (effective[free] >= FEWEST_EFFECTIVE)
    bad = ~mixed.all() | (divergences > 0.01 * chains * samples)
    finite = jnp.all(jnp.isfinite(draws))
    status = flag(jnp.asarray(bad), Status.NOT_CONVERGED) | flag(~finite, Status.NOT_FINITE)
    return PosteriorResult(
        draws,
        jnp.asarray(r_hat),
        jnp.asarray(effective),
        divergences,
        status,
        model.parameters,
        model.structure.poi,
    )


def posterior_predictive(
    model: Model, result: PosteriorResult, *, key: PRNGKeyArray, number: int | None = None
) -> Float[Array, "number bins"]:
    r"""Draw counts of all bins as the posterior predicts them.

    .. math:: p(\tilde n | n, a) = \int \mathrm{Pois}(\tilde n | \lambda(\theta))
              \, p(\theta | n, a) \, d\theta

    Args:
        model: The model.
        result: Draws from its posterior.
        key: Random key.
        number: Number of draws, with parameters taken at random from the posterior; by default
            one for every draw of it.

    Raises:
        ConfigError: If the number is not positive.
        ModelError: If the draws belong to another model.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([10.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal,), name="SR")])
        >>> result = posterior(model, model.data([9.0]), key=jax.random.key(0), samples=400)
        >>> counts = posterior_predictive(model, result, key=jax.random.key(1))
        >>> counts.shape, abs(float(counts.mean()) - 10.0) < 1.0  # mean of the Gamma(10, 1)
        ((400, 1), True)
    """
    if result.names != model.parameters:
        raise ModelError("the draws belong to a model with other parameters")
    draws = result.draws.reshape(-1, result.draws.shape[-1])
    if number is not None:
        number = whole_number("number", number)
        key, own = jax.random.split(key)
        draws = draws[jax.random.randint(own, (number,), 0, draws.shape[0])]
    return _predict(model, draws, jax.random.split(key, draws.shape[0]))


@eqx.filter_jit
def _predict(model: Model, draws: Array, keys: Array) -> Array:
    return jax.vmap(lambda params, key: poisson(key, model.expected_main(params)))(draws, keys)
