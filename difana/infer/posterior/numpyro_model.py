"""Any model as a NumPyro program: constraints are priors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError
from difana.likelihood import Model


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
    sites = priors_of(model, data, poi_prior, priors)
    observed = data[: model.bins]

    @eqx.filter_jit
    def log_likelihood(model: Model, params: Array, observed: Array) -> Array:
        rates = model.expected_main(params)
        # Poisson for any real number: Asimov data are no integers
        safe = jnp.maximum(rates, jnp.finfo(rates.dtype).tiny)
        terms = observed * jnp.log(safe) - rates - jax.lax.lgamma(observed + 1.0)
        masked = model.structure.masked
        return jnp.sum(jnp.where(masked, 0.0, terms) if masked.size else terms)

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


def priors_of(
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
