"""Bayesian inference: the posterior of a model by the No-U-Turn sampler of NumPyro."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from difana._errors import ConfigError, ModelError
from difana.infer.fit import fit
from difana.infer.sampling import poisson
from difana.infer.status import Status, describe, flag, trustworthy
from difana.likelihood import Model

_LARGEST_R_HAT = 1.05
_FEWEST_EFFECTIVE = 50.0


class PosteriorSummary(eqx.Module):
    """One number a parameter, ``[params]`` each.

    Attributes:
        mean: Mean of the draws.
        std: Standard deviation.
        median: Median.
        low: Lower end of the central interval.
        high: Upper end.
        r_hat: Split Gelman-Rubin ratio; NaN for held parameters.
        effective: Effective sample size; NaN for held parameters.
        names: Parameter names (static).
        level: Credible level of the interval (static).
    """

    mean: Float[Array, " params"]
    std: Float[Array, " params"]
    median: Float[Array, " params"]
    low: Float[Array, " params"]
    high: Float[Array, " params"]
    r_hat: Float[Array, " params"]
    effective: Float[Array, " params"]
    names: tuple[str, ...] = eqx.field(static=True)
    level: float = eqx.field(static=True)


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

    def _drawn(self, level: float, name: str | None) -> Float[Array, " draws"]:
        if not 0 < level < 1:
            raise ConfigError(f"the credible level must lie between 0 and 1, not {level}")
        if name is None and self.poi is None:
            raise ModelError("the model has no parameter of interest; give `poi` when building it")
        return jnp.ravel(self[name or str(self.poi)])

    def credible_upper_limit(
        self, level: float = 0.95, *, name: str | None = None
    ) -> Float[Array, ""]:
        """Return the value below which ``level`` of the draws lie.

        Args:
            level: Credible level.
            name: A parameter; the parameter of interest by default.

        Raises:
            ModelError: If the model has no such parameter.
            ConfigError: If the level does not lie between 0 and 1.
        """
        return jnp.quantile(self._drawn(level, name), level)

    def credible_interval(
        self, level: float = 0.6827, *, name: str | None = None, kind: str = "central"
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return an interval that holds ``level`` of the draws.

        Args:
            level: Credible level.
            name: A parameter; the parameter of interest by default.
            kind: ``central``: as many draws below as above; ``hpd``: the shortest interval, which
                is that of highest density where the density has one peak.

        Raises:
            ModelError: If the model has no such parameter.
            ConfigError: If the level does not lie between 0 and 1, or there is no such kind.
        """
        draws = self._drawn(level, name)
        if kind == "central":
            low, high = jnp.quantile(draws, jnp.array([0.5 - level / 2, 0.5 + level / 2]))
            return low, high
        if kind != "hpd":
            raise ConfigError(f"no kind of interval '{kind}'; there are ['central', 'hpd']")
        ordered = jnp.sort(draws)
        inside = min(max(int(np.ceil(level * ordered.size)), 1), ordered.size - 1)
        start = jnp.argmin(ordered[inside:] - ordered[:-inside])
        return ordered[start], ordered[start + inside]

    def summary(self, level: float = 0.6827) -> PosteriorSummary:
        """Return mean, width, interval, R-hat and effective sample size of every parameter.

        Args:
            level: Credible level of the central interval.

        Raises:
            ConfigError: If the level does not lie between 0 and 1.
        """
        if not 0 < level < 1:
            raise ConfigError(f"the credible level must lie between 0 and 1, not {level}")
        flat = self.draws.reshape(-1, self.draws.shape[-1])
        borders = jnp.array([0.5 - level / 2, 0.5, 0.5 + level / 2])
        low, median, high = jnp.quantile(flat, borders, axis=0)
        return PosteriorSummary(
            flat.mean(0), flat.std(0), median, low, high,
            self.r_hat, self.effective, self.names, level,
        )  # fmt: skip


def numpyro_model(
    model: Model,
    data: Float[Array, " data"],
    *,
    poi_prior: Any = None,
    priors: Mapping[str, Any] | None = None,
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
    does not grow with the model: ``free``, ``gaussian``, ``lognormal``, ``poisson``,
    ``correlated``, and one for each parameter with a prior of its own (``poi`` for that of
    interest). The site ``parameters`` holds all parameters in the order of the model,
    ``data`` the logarithm of the likelihood of the observed yields.

    Args:
        model: The model.
        data: Data vector: observed yields, then auxiliary data.
        poi_prior: A NumPyro distribution for the parameter of interest, instead of the default.
        priors: NumPyro distributions for unconstrained parameters by name, instead of the
            default.

    Raises:
        ModelError: If the data have the wrong length, there is a prior but no such parameter, or
            it has a constraint, which is its prior.

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
    sites = _priors(model, data, poi_prior, priors)
    observed = data[: model.bins]

    @eqx.filter_jit
    def log_likelihood(model: Model, params: Array, observed: Array) -> Array:
        rates = model.expected_main(params)
        # Poisson for any real number: Asimov data are no integers
        safe = jnp.maximum(rates, jnp.finfo(rates.dtype).tiny)
        return jnp.sum(observed * jnp.log(safe) - rates - jax.lax.lgamma(observed + 1.0))

    def program() -> None:
        params = model.init
        for site, (places, prior) in sites.items():
            params = params.at[places].set(numpyro.sample(site, prior))
        numpyro.deterministic("parameters", params)
        numpyro.factor("data", log_likelihood(model, params, observed))

    return program


@eqx.filter_jit
def _held_and_scales(model: Model) -> tuple[Array, Array, Array]:
    widths, tau = model.constraint_scales()
    return model.fixed, widths, tau


def _priors(
    model: Model, data: Array, poi_prior: Any, given: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """Return places and joint prior of the free parameters by name of the site."""
    import numpyro.distributions as dist

    held, widths, tau = _held_and_scales(model)
    s, held = model.structure, np.asarray(held)
    priors: dict[str, tuple[Any, Any]] = {}
    open_ = ~held
    constrained = np.zeros(held.size, bool)
    constrained[s.constrained] = True
    own = {name: (model.index(name), prior) for name, prior in (given or {}).items()}
    if poi_prior is not None:
        own["poi"] = (model.poi_index, poi_prior)
    for site, (place, prior) in own.items():
        if constrained[place]:
            raise ModelError(f"'{model.parameters[place]}' is constrained: that is its prior")
        if open_[place]:
            priors[site] = (place, prior)
        open_[place] = False
    free = np.flatnonzero(open_ & ~constrained)
    if free.size:
        priors["free"] = (free, dist.Uniform(model.lower[free], model.upper[free]).to_event(1))
    auxiliary = data[model.bins :]
    usable = open_[s.constrained]
    joint = np.isin(np.arange(usable.size), s.correlated)
    counting = np.flatnonzero(usable & s.poisson)
    ratio = np.flatnonzero(usable & s.lognormal & ~joint)
    normal = np.flatnonzero(usable & ~s.poisson & ~s.lognormal & ~joint)
    if normal.size:
        places = s.constrained[normal]
        prior = dist.TruncatedNormal(
            auxiliary[normal], widths[normal], low=model.lower[places], high=model.upper[places]
        )
        priors["gaussian"] = (places, prior.to_event(1))
    if ratio.size:
        # exp(-ln(a / theta)^2 / 2 sigma^2) with a flat prior before it: theta LogNormal
        shift = widths[ratio] ** 2
        prior = dist.LogNormal(jnp.log(auxiliary[ratio]) + shift, widths[ratio])
        priors["lognormal"] = (s.constrained[ratio], prior.to_event(1))
    if counting.size:
        prior = dist.Gamma(auxiliary[counting] + 1.0, tau[counting])
        priors["poisson"] = (s.constrained[counting], prior.to_event(1))
    if s.correlated.size and usable[s.correlated].any():
        if not usable[s.correlated].all():
            raise ModelError("a correlated parameter is held: the others then have no prior")
        spread = widths[s.correlated]
        prior = dist.MultivariateNormal(
            auxiliary[s.correlated],
            precision_matrix=model.precision / (spread[:, None] * spread[None, :]),
        )
        priors["correlated"] = (s.constrained[s.correlated], prior)
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
        if value < least:
            raise ConfigError(f"{name} = {value}: must be at least {least}")
    program = numpyro_model(model, data, poi_prior=poi_prior, priors=priors)
    sites = _priors(model, data, poi_prior, priors)
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
        if number < 1:
            raise ConfigError(f"number = {number}: must be at least 1")
        key, own = jax.random.split(key)
        draws = draws[jax.random.randint(own, (number,), 0, draws.shape[0])]
    return _predict(model, draws, jax.random.split(key, draws.shape[0]))


@eqx.filter_jit
def _predict(model: Model, draws: Array, keys: Array) -> Array:
    return jax.vmap(lambda params, key: poisson(key, model.expected_main(params)))(draws, keys)
