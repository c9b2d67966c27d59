"""Simulation statistics with one factor for every sample and bin: the full method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from difana._errors import ModelError
from difana.likelihood.modifiers import Channel, Parameter, ShapeSys, StatError

METHODS = ("lite", "full", "full-gaussian")


class FullStatistics(NamedTuple):
    """Channels whose staterrors stand for one sample each.

    Attributes:
        channels: The channels.
        parameters: The settings, those of a staterror once for each of its samples.
        origin: Maps each new name to the name of the staterror that it came from.
    """

    channels: list[Channel]
    parameters: list[Parameter]
    origin: dict[str, str]


def full_statistics(
    channels: Sequence[Channel], parameters: Sequence[Parameter] = (), *, method: str = "full"
) -> FullStatistics:
    r"""Return channels in which every sample has statistical factors of its own.

    A staterror is one factor a bin for the sum of all samples (the *lite* method). The *full*
    method of Barlow and Beeston has one for each sample :math:`s` and bin :math:`b`,

    .. math::
        \lambda_b = \sum_s \gamma_{sb}\,\nu_{sb}(\theta), \qquad
        \prod_{sb} \mathrm{Pois}(m_{sb} | \gamma_{sb}\,m_{sb}), \quad
        m_{sb} = (\nu_{sb}/\sigma_{sb})^2,

    the effective numbers of simulated events: it matters where a sample whose normalisation is
    fitted has few of them. Each staterror ``name`` becomes a shapesys ``name_sample`` (method
    ``"full"``, Poisson constraints) or a staterror of that name (``"full-gaussian"``). Fits
    eliminate one factor a bin in closed form and fit the others.

    A bin whose yield is 0 has no factor, whatever its uncertainty.

    Args:
        channels: The channels.
        parameters: Settings of parameters; those of a staterror hold for each of its samples.
        method: ``"lite"`` (nothing changes), ``"full"`` or ``"full-gaussian"``.

    Returns:
        Channels, settings, and where the new names came from.

    Raises:
        ModelError: If the method is unknown, or a new name is taken.

    References:
        R. Barlow, C. Beeston, Comput. Phys. Commun. 77 (1993) 219; the lite method: J. S. Conway,
        arXiv:1103.0354.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, StatError, Template, build_model
        >>> signal = Template([5.0], (NormFactor("mu"), StatError([1.0], "stat")), name="signal")
        >>> bkg = Template([50.0], (StatError([5.0], "stat"),), name="background")
        >>> channel = Channel((signal, bkg), name="SR")
        >>> build_model([channel]).parameters
        ('mu', 'stat[0]')
        >>> full = build_model([channel], barlow_beeston="full")
        >>> full.parameters, full.auxiliary().round(6).tolist()
        (('mu', 'stat_signal[0]', 'stat_background[0]'), [25.0, 100.0])
    """
    if method not in METHODS:
        raise ModelError(
            f"barlow_beeston must be one of {', '.join(METHODS)}, not '{method}': lite is one "
            "factor a bin, full one for each sample and bin"
        )
    if method == "lite":
        return FullStatistics(list(channels), list(parameters), {})
    taken = {m.name for c in channels for t in c.templates for m in t.modifiers}
    origin: dict[str, str] = {}

    def modifier(old: Any, sample: str) -> Any:
        if old.kind != "staterror":
            return old
        name = f"{old.name}_{sample}"
        if name in taken:
            raise ModelError(
                f"sample '{sample}': the statistical factors of its own would be called '{name}', "
                "but a modifier has that name; rename it"
            )
        origin[name] = old.name
        if not isinstance(old, StatError):  # of a workspace that is being read
            return old._replace(name=name, kind="shapesys" if method == "full" else "staterror")
        kind = ShapeSys if method == "full" else StatError
        return kind(old.uncertainty, name)

    def template(old: Any) -> Any:
        modifiers = [modifier(m, old.name) for m in old.modifiers]
        return _with(old, modifiers=tuple(modifiers))

    found = [_with(c, templates=tuple(template(t) for t in c.templates)) for c in channels]
    found = [_with(c, parameters=tuple(_settings(c.parameters, origin))) for c in found]
    return FullStatistics(found, _settings(parameters, origin), origin)


def _settings(parameters: Sequence[Parameter], origin: dict[str, str]) -> list[Parameter]:
    """Return the settings, those of a staterror once for each new name."""
    found = []
    for setting in parameters:
        names = [new for new, old in origin.items() if old == setting.name] or [setting.name]
        found += [dataclasses.replace(setting, name=name) for name in names]
    return found


def _with(old: Any, **changes: Any) -> Any:
    """Return a module or a named tuple with other fields."""
    if hasattr(old, "_replace"):
        return cast("Any", old)._replace(**changes)
    return dataclasses.replace(old, **changes)
