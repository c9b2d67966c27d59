"""Build a model from channels, templates and modifiers; traced numbers welcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError, nearest
from difana.likelihood._collect import PER_BIN, Collected
from difana.likelihood._parameters import precision_of, settings_of
from difana.likelihood.barlow_beeston import full_statistics
from difana.likelihood.interpolation import FACTOR_CODES, SHIFT_CODES
from difana.likelihood.masking import mask
from difana.likelihood.model import Model
from difana.likelihood.modifiers import Channel, Correlation, Parameter
from difana.likelihood.structure import Structure, private_factors

_CODES = {"normsys": FACTOR_CODES, "histosys": SHIFT_CODES}
_DEFAULT_CODES = {"normsys": "code4", "histosys": "code4p"}


def _flat(parts: Sequence[Any]) -> Float[Array, " entries"]:
    """Join scalars and vectors into one vector, in NumPy as long as nothing is traced.

    ``device_put`` moves numbers; ``asarray`` compiles a program for every new shape.
    """
    if not parts:
        return jax.device_put(np.zeros(0))
    if any(isinstance(part, jax.Array) for part in parts):
        # one precision for all numbers: networks may run in float32, yields may be integers
        return jnp.concatenate([jnp.ravel(jnp.asarray(part)).astype(float) for part in parts])
    return jax.device_put(np.concatenate([np.atleast_1d(np.asarray(x, float)) for x in parts]))


def build_model(
    channels: Sequence[Channel],
    *,
    poi: str | None = "mu",
    parameters: Sequence[Parameter] = (),
    correlations: Sequence[Correlation] = (),
    interpolation: Mapping[str, str] | None = None,
    masked: Sequence[str] = (),
    barlow_beeston: str = "lite",
) -> Model:
    """Build a model; inside ``jit`` every yield and uncertainty may be traced.

    Args:
        channels: Regions with their templates and modifiers; modifiers of equal name share one
            parameter (normsys and histosys too).
        poi: Name of the parameter of interest, or None.
        parameters: Settings that replace the defaults: starting values, bounds, constraints with
            their centres and widths, held parameters. A ``lumi`` modifier needs ``auxdata`` and
            ``sigma`` here.
        correlations: Correlations among parameters with Gaussian constraints; a parameter may
            stand in one of them.
        interpolation: Codes of "normsys" ("code4", "code1") and "histosys" ("code4p", "code2",
            "code0").
        masked: Names of channels that no fit looks at; see :func:`difana.likelihood.mask`.
        barlow_beeston: Simulation statistics by one factor a bin (``"lite"``), or by one for each
            sample and bin (``"full"``: Poisson constraints, ``"full-gaussian"``); see
            :func:`difana.likelihood.full_statistics`.

    Returns:
        The model. Its parameters are ordered by first appearance.

    Raises:
        ModelError: Names the channel, sample and modifier at fault.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> model.parameters
        ('mu', 'unc[0]', 'unc[1]')
        >>> model.expected_main(model.init).tolist()
        [62.0, 63.0]
    """
    if not channels:
        raise ModelError("a model needs at least one channel")
    channels, parameters, _ = full_statistics(channels, parameters, method=barlow_beeston)
    found = Collected()
    for channel in channels:
        found.add_channel(channel)
    codes = {**_DEFAULT_CODES, **(interpolation or {})}
    for kind, code in codes.items():
        if code not in _CODES.get(kind, ()):
            raise ModelError(
                f"no interpolation '{code}' for '{kind}'; there are "
                + ", ".join(f"{k}: {v}" for k, v in _CODES.items())
            )
    if poi is not None and poi not in found.sets.entries:
        raise ModelError(
            f"the parameter of interest '{poi}' steers no sample: add NormFactor('{poi}') to the "
            f"signal.{nearest(poi, found.sets.entries)}"
        )
    given = {setting.name for setting in parameters}
    brought = [p for channel in channels for p in channel.parameters if p.name not in given]
    model = _finish(found, poi, (*parameters, *brought), correlations, codes)
    return mask(model, masked) if masked else model


def _finish(
    found: Collected,
    poi: str | None,
    parameters: Sequence[Parameter],
    correlations: Sequence[Correlation],
    codes: Mapping[str, str],
) -> Model:
    """Apply the parameter settings and freeze the structure."""
    layouts = tuple(found.layouts)
    vectors = {
        layout.name
        for channel in layouts
        for template in channel.templates
        for layout in template.modifiers
        if layout.kind in PER_BIN
    }
    settings = settings_of(found.sets.entries, vectors, parameters)
    longest = max(len(entry) for entry in found.factors)
    padded = np.full((len(found.factors), longest), len(settings.names), np.int32)
    for i, entry in enumerate(found.factors):
        padded[i, : len(entry)] = entry
    index = {key: np.asarray(value, np.int32) for key, value in found.rows.items()}
    correlated, precision = precision_of(
        correlations, settings.names, settings.constrained, settings.constraints
    )
    # a parameter that acts elsewhere too is no private factor of a bin
    taken = np.zeros(len(settings.names), bool)
    taken[index["histosys_p"]] = True
    taken[index["normsys_p"]] = True
    taken[[settings.names.index(poi)] if poi in settings.names else []] = True
    kinds = np.asarray(settings.constraints)
    constrained = np.asarray(settings.constrained, int)
    taken[constrained[kinds == "lognormal"]] = True
    taken[constrained[correlated]] = True
    structure = Structure(
        channels=layouts,
        parameters=tuple(settings.names),
        sets=tuple((name, *entry) for name, entry in found.sets.entries.items()),
        poi=poi,
        row_bin=index["bin"],
        row_block=index["block"],
        histosys_row=index["histosys"],
        histosys_parameter=index["histosys_p"],
        normsys_block=index["normsys"],
        normsys_parameter=index["normsys_p"],
        staterror_row=index["staterror"],
        staterror_parameter=index["staterror_p"],
        shapesys_row=index["shapesys"],
        shapesys_parameter=index["shapesys_p"],
        factors=padded,
        constrained=np.asarray(settings.constrained, np.int32),
        poisson=kinds == "poisson",
        lognormal=kinds == "lognormal",
        correlated=correlated,
        private=private_factors(
            padded,
            index["bin"],
            taken,
            bins=found.bins,
            parameters=len(settings.names),
        ),
        interpolation=(codes["normsys"], codes["histosys"]),
        fixed=np.asarray(settings.fixed, bool),
    )
    return Model(
        **{key: _flat(parts) for key, parts in found.numbers.items()},
        centers=_flat(settings.centers),
        widths=_flat(settings.widths),
        precision=precision,
        init=_flat(settings.init),
        lower=_flat(settings.lower),
        upper=_flat(settings.upper),
        structure=structure,
    )
