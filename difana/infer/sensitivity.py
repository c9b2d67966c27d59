"""What the expected limit depends on: one backward pass to every number of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from difana._errors import InputError
from difana.infer._many import Report, in_chunks
from difana.infer.limit import expected_limits
from difana.infer.status import describe, trustworthy
from difana.likelihood import Model


class Scales(NamedTuple):
    """Relative changes of a model; all 1 leave it as it is."""

    widths: Float[Array, " params"]  # of the uncertainty behind each constrained parameter
    statistics: Float[Array, " samples"]  # amount of simulation of each sample
    luminosity: Float[Array, ""]


class SensitivityResult(eqx.Module):
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


def _limit(model: Model, scales: Scales, data: Array | None, level: float) -> tuple[Array, Array]:
    changed = scaled(model, scales)
    if data is not None:
        # observed events grow with the luminosity; auxiliary data follow the constraints
        given, nominal = data[model.bins :], jax.lax.stop_gradient(model.auxiliary())
        counts = scales.luminosity * data[: model.bins]
        data = jnp.concatenate([counts, given + changed.auxiliary() - nominal])
    found = expected_limits(changed, data=data, level=level, median_only=True)
    return found.median, found.status


@eqx.filter_jit
def _differentiate(
    model: Model, scales: Scales, data: Array | None, level: float
) -> tuple[tuple[Array, Array], tuple[Model, Scales]]:
    def function(both: tuple[Model, Scales]) -> tuple[Array, Array]:
        return _limit(*both, data, level)

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


class HelpResult(eqx.Module):
    """What would lower the expected limit most.

    Attributes:
        limit: The median expected limit as it is.
        limits: The limit after each change, ``[changes]``.
        status: Bit flags, ``[changes]``.
        changes: What is changed (static).
        method: ``"gradient"`` or ``"recompute"`` (static).
    """

    limit: Float[Array, ""]
    limits: Float[Array, " changes"]
    status: Int[Array, " changes"]
    changes: tuple[str, ...] = eqx.field(static=True)
    method: str = eqx.field(static=True)

    @property
    def improvements(self) -> Float[Array, " changes"]:
        """Relative decrease of the limit by each change."""
        return 1 - self.limits / self.limit

    @property
    def ok(self) -> bool:
        """True if all numbers can be trusted."""
        return bool(jnp.all(trustworthy(self.status)))

    @property
    def message(self) -> str:
        """The status in words."""
        return describe(self.status)

    def rows(self) -> list[tuple[str, float, float]]:
        """Return (change, limit, relative improvement), the best first."""
        gains = np.asarray(self.improvements)
        order = np.argsort(-gains, kind="stable")
        return [(self.changes[i], float(self.limits[i]), float(gains[i])) for i in order]

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON, the best change first."""
        keys = ("change", "limit", "improvement")
        table = [dict(zip(keys, row, strict=True)) for row in self.rows()]
        return {
            "limit": float(self.limit),
            "method": self.method,
            "changes": table,
            "status": self.message,
        }


def _recompute(shared: tuple, scales: Scales) -> tuple[Array, Array]:
    model, data, level = shared
    return _limit(model, scales, data, level)


def what_would_help(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    method: Literal["gradient", "recompute"] = "gradient",
    width: float = 0.5,
    statistics: float = 2.0,
    luminosity: float = 1.1,
    samples: Sequence[str] | None = None,
    level: float = 0.95,
    batch: int = 8,
    report: Report | None = None,
) -> HelpResult:
    r"""Return the limit after halving each uncertainty, doubling each simulation, or more data.

    ``gradient``: all predictions from one backward pass. An uncertainty adds to the limit in
    quadrature, so with :math:`f = d\ln(\mathrm{limit})/d\ln(\mathrm{width})` the limit at ``x``
    times the width is predicted as :math:`\sqrt{1 - f(1 - x^2)}` of the limit (for simulation
    :math:`x^2 = 1/\mathrm{statistics}`), and as :math:`\ell^{\,g}` of it at :math:`\ell` times the
    luminosity, :math:`g = d\ln(\mathrm{limit})/d\ln(\mathrm{luminosity})`. ``recompute``: the limit
    of every changed model, by one compiled program.

    Args:
        model: The model.
        data: If given, the nuisances of the Asimov data are fitted to them.
        method: ``"gradient"`` or ``"recompute"``.
        width: Factor on each uncertainty (bins of one modifier together).
        statistics: Factor on the simulation of each sample with a staterror.
        luminosity: Factor on the luminosity.
        samples: Samples whose simulation is changed; all by default.
        level: Confidence level.
        batch: Limits recomputed at the same time.
        report: Called with the number of limits recomputed and of all limits.

    Returns:
        The limits; ``rows()`` is the table, best first.

    Raises:
        InputError: If the method or a sample is unknown, or a factor is not positive.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> help = what_would_help(model)
        >>> for change, limit, gain in help.rows():
        ...     print(f"{change}: {limit:.3f} ({100 * gain:.1f} % better)")
        unc, 0.5 times the uncertainty: 0.973 (9.0 % better)
        1.1 times the luminosity: 1.028 (3.8 % better)
    """
    if method not in ("gradient", "recompute"):
        raise InputError(f"method must be 'gradient' or 'recompute', not '{method}'")
    for name, x in (("width", width), ("statistics", statistics), ("luminosity", luminosity)):
        if not x > 0:
            raise InputError(f"the factor {name} must be positive, not {x}")
    changes, scales = _changes(model, width, statistics, luminosity, samples)
    if method == "recompute":
        first = jax.tree.map(lambda all_, one: jnp.concatenate([one[None], all_]),
                             scales, no_change(model))  # fmt: skip
        limits, status = in_chunks(
            _recompute, (model, data, level), first, batch=batch, report=report
        )
        return HelpResult(limits[0], limits[1:], status[1:] | status[0], changes, method)
    found = sensitivity(model, data, level=level)
    part = scales.widths**2 - 1, 1 / scales.statistics - 1
    # the variance is proportional to 1 / statistics: d ln(limit) / d ln(width) = -2 d/d ln(stat.)
    slope = part[0] @ found.widths - 2 * part[1] @ found.statistics
    ratio = jnp.sqrt(jnp.maximum(1 + slope / found.limit, 0.0))
    ratio = ratio * scales.luminosity ** (found.luminosity / found.limit)
    status = jnp.broadcast_to(found.status, ratio.shape)
    return HelpResult(found.limit, found.limit * ratio, status, changes, method)


def _changes(
    model: Model,
    width: float,
    statistics: float,
    luminosity: float,
    chosen: Sequence[str] | None,
) -> tuple[tuple[str, ...], Scales]:
    """Return the names of the changes and their scales, one row a change."""
    s, same = model.structure, no_change(model)
    names = sample_names(model)
    unknown = set(chosen or ()) - set(names)
    if unknown:
        raise InputError(f"there is no sample '{sorted(unknown)[0]}'; there are {list(names)}")
    table: list[tuple[str, Scales]] = []

    def add(name: str, **parts: ArrayLike) -> None:
        table.append((name, same._replace(**parts)))

    constrained = np.zeros(len(s.parameters), bool)
    constrained[s.constrained] = True
    for name, first, size, _ in s.sets:
        inside = constrained & ~s.fixed
        inside[:first], inside[first + size :] = False, False
        if inside.any():
            add(f"{name}, {width:g} times the uncertainty", widths=jnp.where(inside, width, 1.0))
    simulated = {
        t.name
        for channel in s.channels
        for t in channel.templates
        if any(modifier.kind == "staterror" for modifier in t.modifiers)
    }
    for i, name in enumerate(names):
        if name in simulated and (chosen is None or name in chosen):
            more = same.statistics.at[i].set(statistics)
            add(f"{name}, {statistics:g} times the simulation", statistics=more)
    lumi = jnp.asarray(luminosity, model.nominal.dtype)
    add(f"{luminosity:g} times the luminosity", luminosity=lumi)
    rows = [scales for _, scales in table]
    return tuple(name for name, _ in table), jax.tree.map(lambda *x: jnp.stack(x), *rows)
