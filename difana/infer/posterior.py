"""Bayesian inference: the posterior of a model by the No-U-Turn sampler of NumPyro."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from difana._errors import ConfigError, ModelError
from difana.infer.fit import fit
from difana.infer.status import Status, describe, flag, trustworthy
from difana.likelihood import Model

_LARGEST_R_HAT = 1.05
_FEWEST_EFFECTIVE = 50.0


class PosteriorResult(eqx.Module):
    """Draws from the posterior of a model, and whether they can be trusted.

    Attributes:
        draws: All parameters of all draws, held ones included, ``[chains, draws, params]``.
        r_hat: Split Gelman-Rubin ratio of each parameter, near 1 when the chains agree; NaN for
            held parameters, ``[params]``.
        effective: Effective sample size of each parameter; NaN for held ones, ``[params]``.
        divergences: Number of divergent transitions after the warm-up.
        status: Bit flags of :class:`Status`: NOT_CONVERGED for a split R-hat above 1.05, fewer
            than 50 effective draws, or divergences in more than 1 % of the draws.
        names: Parameter names (static).
        poi: Name of the parameter of interest (static).
    """

    draws: Float[Array, "chains draws params"]
    r_hat: Float[Array, " params"]
    effective: Float[Array, " params"]
    divergences: Int[Array, ""]
    status: Int[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    poi: str | None = eqx.field(static=True)

    @property
    def ok(self) -> bool:
        """True if the numbers can be trusted."""
        return bool(trustworthy(self.status))

    @property
    def message(self) -> str:
        """The status in words."""
        return describe(self.status)

    def __getitem__(self, name: str) -> Float[Array, "chains draws"]:
        """Return the draws of one parameter by name."""
        if name not in self.names:
            raise ModelError(f"no parameter '{name}'; there are {list(self.names)}")
        return self.draws[:, :, self.names.index(name)]

    def credible_upper_limit(self, level: float = 0.95) -> Float[Array, ""]:
        """Return the value of the parameter of interest below which ``level`` of the draws lie.

        Args:
            level: Credible level.

        Raises:
            ModelError: If the model has no parameter of interest.
            ConfigError: If the level does not lie between 0 and 1.
        """
        if not 0 < level < 1:
            raise ConfigError(f"the credible level must lie between 0 and 1, not {level}")
        if self.poi is None:
            raise ModelError("the model has no parameter of interest; give `poi` when building it")
        return jnp.quantile(self[self.poi], level)


def numpyro_model(
    model: Model, data: Float[Array, " data"], *, poi_prior: Any = None
) -> Callable[[], None]:
    r"""Return the model as a NumPyro program.

    .. math:: p(\theta | n, a) \propto \mathrm{Pois}(n | \lambda(\theta))
              \prod_c C_c(a_c | \theta_c)\, \pi(\theta)

    The constraint terms become the priors: a Gaussian of its width around the auxiliary datum,
    truncated to the bounds; for a Poisson constraint the Gamma density
    :math:`\propto (\theta\tau)^{a} e^{-\theta\tau}`, which is the constraint with a flat
    prior before it. Unconstrained parameters are uniform within their bounds; held ones stay at
    their starting values.

    The sites are vectors, as many as there are kinds of priors, so that the size of the program
    does not grow with the model: ``free``, ``gaussian``, ``poisson``, and ``poi`` where it has a
    prior of its own. The site ``parameters`` holds all parameters in the order of the model,
    ``data`` the logarithm of the likelihood of the observed yields.

    Args:
        model: The model.
        data: Data vector: observed yields, then auxiliary data.
        poi_prior: A NumPyro distribution for the parameter of interest, instead of the default.

    Raises:
        ModelError: If the data have the wrong length, or there is a prior but no parameter of
            interest.

    Example:
        >>> import jax
        >>> from numpyro.handlers import seed, trace
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0], (ShapeSys([5.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> program = numpyro_model(model, model.data([51.0]))
        >>> list(trace(seed(program, jax.random.key(0))).get_trace())
        ['free', 'poisson', 'parameters', 'data']
    """
    import numpyro

    model.check_data(data)
    priors = _priors(model, data, poi_prior)
    observed = data[: model.bins]

    @eqx.filter_jit
    def log_likelihood(model: Model, params: Array, observed: Array) -> Array:
        rates = model.expected_main(params)
        # Poisson for any real number: Asimov data are no integers
        safe = jnp.maximum(rates, jnp.finfo(rates.dtype).tiny)
        return jnp.sum(observed * jnp.log(safe) - rates - jax.lax.lgamma(observed + 1.0))

    def program() -> None:
        params = model.init
        for site, (places, prior) in priors.items():
            params = params.at[places].set(numpyro.sample(site, prior))
        numpyro.deterministic("parameters", params)
        numpyro.factor("data", log_likelihood(model, params, observed))

    return program


@eqx.filter_jit
def _held_and_scales(model: Model) -> tuple[Array, Array, Array]:
    widths, tau = model.constraint_scales()
    return model.fixed, widths, tau


def _priors(model: Model, data: Array, poi_prior: Any) -> dict[str, tuple[Any, Any]]:
    """Return places and joint prior of the free parameters by name of the site."""
    import numpyro.distributions as dist

    held, widths, tau = _held_and_scales(model)
    s, held = model.structure, np.asarray(held)
    priors: dict[str, tuple[Any, Any]] = {}
    open_ = ~held
    if poi_prior is not None:
        poi = model.poi_index
        if open_[poi]:
            priors["poi"] = (poi, poi_prior)
        open_[poi] = False
    constrained = np.zeros(held.size, bool)
    constrained[s.constrained] = True
    free = np.flatnonzero(open_ & ~constrained)
    if free.size:
        priors["free"] = (free, dist.Uniform(model.lower[free], model.upper[free]).to_event(1))
    auxiliary = data[model.bins :]
    usable = open_[s.constrained]
    normal, counting = np.flatnonzero(usable & ~s.poisson), np.flatnonzero(usable & s.poisson)
    if normal.size:
        places = s.constrained[normal]
        prior = dist.TruncatedNormal(
            auxiliary[normal], widths[normal], low=model.lower[places], high=model.upper[places]
        )
        priors["gaussian"] = (places, prior.to_event(1))
    if counting.size:
        prior = dist.Gamma(auxiliary[counting] + 1.0, tau[counting])
        priors["poisson"] = (s.constrained[counting], prior.to_event(1))
    return priors


def posterior(
    model: Model,
    data: Float[Array, " data"],
    *,
    key: PRNGKeyArray,
    samples: int = 1000,
    warmup: int = 500,
    chains: int = 1,
    poi_prior: Any = None,
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
        if value < least:
            raise ConfigError(f"{name} = {value}: must be at least {least}")
    program = numpyro_model(model, data, poi_prior=poi_prior)
    priors = _priors(model, data, poi_prior)
    if not priors:
        raise ModelError("no free parameter: there is nothing to sample")
    best = eqx.filter_jit(fit)(model, data).params
    # a bound lies at infinity in the coordinates of the sampler
    margin = 0.01 * (model.upper - model.lower)
    best = jnp.clip(best, model.lower + margin, model.upper - margin)
    values = {site: best[places] for site, (places, _) in priors.items()}
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
    free = np.sort(np.concatenate([np.atleast_1d(places) for places, _ in priors.values()]))
    unknown = np.full(model.init.size, np.nan)
    r_hat, effective = unknown.copy(), unknown.copy()
    chosen = np.asarray(draws[:, :, free])
    r_hat[free] = np.asarray(split_gelman_rubin(chosen))
    effective[free] = np.asarray(effective_sample_size(chosen))
    divergences = jnp.sum(sampler.get_extra_fields()["diverging"])
    mixed = (r_hat[free] < _LARGEST_R_HAT) & (effective[free] >= _FEWEST_EFFECTIVE)
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
