"""What the expected limit depends on: one backward pass to every number of the model."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import InputError
from difana._result import AbstractResult
from difana.infer.limit import expected_limits
from difana.likelihood import Model


class Scales(NamedTuple):
    """Relative changes of a model; all 1 leave it as it is."""

    widths: Float[Array, " params"]  # of the uncertainty behind each constrained parameter
    statistics: Float[Array, " samples"]  # amount of simulation of each sample
    luminosity: Float[Array, ""]


class SensitivityResult(AbstractResult):
    """Derivatives of the median expected limit.

    Attributes:
        limit: The median expected limit.
        gradient: Its derivative by every number of the model, all others kept: a tree like the
            model (``gradient.nominal`` are the template bins, ``[rows]``).
        widths: d(limit)/d(ln width) of the uncertainty behind each parameter; 0 without one,
            ``[params]``.
        statistics: d(limit)/d(ln amount of simulation) of each sample, ``[samples]``.
        luminosity: d(limit)/d(ln luminosity).
        status: Bit flags of the limit.
        names: Names of the parameters (static).
        samples: Names of the samples (static).
    """

    limit: Float[Array, ""]
    gradient: Model
    widths: Float[Array, " params"]
    statistics: Float[Array, " samples"]
    luminosity: Float[Array, ""]
    status: Int[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    samples: tuple[str, ...] = eqx.field(static=True)

    def template(self, channel: str, sample: str) -> Float[Array, " bins"]:
        """Return d(limit)/d(yield) of every bin of one template.

        Raises:
            InputError: If there is no such template.
        """
        for layout in self.gradient.structure.channels:
            for entry in layout.templates:
                if (layout.name, entry.name) == (channel, sample):
                    return self.gradient.nominal[entry.start : entry.start + layout.bins]
        raise InputError(f"there is no sample '{sample}' in a channel '{channel}'")


def sample_names(model: Model) -> tuple[str, ...]:
    """Return the names of all samples, each once, in order of appearance."""
    names = (t.name for channel in model.structure.channels for t in channel.templates)
    return tuple(dict.fromkeys(names))


def no_change(model: Model) -> Scales:
    """Return the scales that leave a model as it is."""
    dtype = model.nominal.dtype
    params, samples = len(model.parameters), len(sample_names(model))
    return Scales(jnp.ones(params, dtype), jnp.ones(samples, dtype), jnp.ones((), dtype))


def scaled(model: Model, scales: Scales) -> Model:
    r"""Return the model with other uncertainties, more simulation or more luminosity.

    Widths scale the constraint of lumi, normsys and histosys parameters, and the uncertainties of
    staterror and shapesys bins. ``statistics`` divides the staterror of a sample by its root.
    The luminosity scales all yields with their uncertainties: relative ones stay.

    Args:
        model: The model.
        scales: Factors; may be traced.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([4.0], (NormFactor("mu"),), name="s"),),
        ...                              name="SR")])
        >>> scaled(model, no_change(model)._replace(luminosity=2.0)).nominal.tolist()
        [8.0]
    """
    s = model.structure
    names = sample_names(model)
    block_sample = [names.index(t.name) for channel in s.channels for t in channel.templates]
    row_sample = np.asarray(block_sample, np.int32)[s.row_block]
    more = jax.lax.rsqrt(scales.statistics)[row_sample[s.staterror_row]]
    lumi = jnp.asarray(scales.luminosity, model.nominal.dtype)
    return eqx.tree_at(
        lambda m: (m.nominal, m.histosys_hi, m.histosys_lo, m.staterror, m.shapesys, m.widths),
        model,
        (
            lumi * model.nominal,
            lumi * model.histosys_hi,
            lumi * model.histosys_lo,
            lumi * model.staterror * scales.widths[s.staterror_parameter] * more,
            lumi * model.shapesys * scales.widths[s.shapesys_parameter],
            model.widths * scales.widths[s.constrained],
        ),
    )


def limit_of(model: Model, scales: Scales, data: Array | None, level: float) -> tuple[Array, Array]:
    """Return the median expected limit of the scaled model, and its status."""
    changed = scaled(model, scales)
    if data is not None:
        # observed events grow with the luminosity; auxiliary data follow the constraints
        given, nominal = data[model.bins :], jax.lax.stop_gradient(model.auxiliary())
        counts = scales.luminosity * data[: model.bins]
        data = jnp.concatenate([counts, given + changed.auxiliary() - nominal])
    found = expected_limits(changed, data, level=level, median_only=True)
    return found.median, found.status


@eqx.filter_jit
def _differentiate(
    model: Model, scales: Scales, data: Array | None, level: float
) -> tuple[tuple[Array, Array], tuple[Model, Scales]]:
    def function(both: tuple[Model, Scales]) -> tuple[Array, Array]:
        return limit_of(*both, data, level)

    return eqx.filter_value_and_grad(function, has_aux=True)((model, scales))


def sensitivity(
    model: Model, data: Float[Array, " data"] | None = None, *, level: float = 0.95
) -> SensitivityResult:
    """Return the derivatives of the median expected limit from one backward pass.

    Args:
        model: The model.
        data: If given, the nuisances of the Asimov data are fitted to them.
        level: Confidence level.

    Returns:
        Derivatives by every number of the model, and by relative changes of the widths of the
        uncertainties, the amount of simulation and the luminosity.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = sensitivity(model)
        >>> [round(float(x), 3) for x in (result.limit, result.luminosity, *result.widths)]
        [1.069, -0.433, 0.0, 0.084, 0.161]
    """
    scales = no_change(model)
    (limit, status), (gradient, by_scale) = _differentiate(model, scales, data, level)
    return SensitivityResult(
        limit,
        gradient,
        widths=jnp.where(model.fixed, 0.0, by_scale.widths),
        statistics=by_scale.statistics,
        luminosity=by_scale.luminosity,
        status=status,
        names=model.parameters,
        samples=sample_names(model),
    )
