"""How much a better known nuisance, more simulation or more data would lower the limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from difana._errors import InputError
from difana._result import AbstractResult
from difana.infer.after_fit.sensitivity import (
    Scales,
    limit_of,
    no_change,
    sample_names,
    sensitivity,
)
from difana.infer.parallel._many import Report, in_chunks
from difana.likelihood import Model


class HelpResult(AbstractResult):
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
    return limit_of(model, scales, data, level)


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
