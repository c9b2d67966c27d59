"""Masked channels: predicted after a fit, but not seen by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from difana._errors import ModelError, nearest
from difana.likelihood.model import Model
from difana.likelihood.structure import Structure


def mask(model: Model, channels: str | Sequence[str]) -> Model:
    r"""Return the model with channels that no fit looks at: validation regions, blinded ones.

    The likelihood has no term for their bins,

    .. math::
        L = \prod_{b \notin \mathrm{masked}} \mathrm{Pois}(n_b | \lambda_b(\theta))
        \prod_c C_c(a_c | \theta_c),

    while :math:`\lambda_b` of all bins, :func:`difana.infer.yields` and
    :func:`difana.infer.observables` go on knowing them, with post-fit uncertainties. All
    constraints stay. Data keep one number for each masked bin (ignored);
    ``model.data(observed)`` also takes the observed yields without them. Parameters without
    constraint that act in masked channels only are held at their starting values: nothing
    measures them.

    Args:
        model: The model.
        channels: Names of the channels to mask, besides those that are masked already.

    Returns:
        A model with the same parameters and bins.

    Raises:
        ModelError: If there is no such channel, none is left, or the parameter of interest acts in
            masked channels only.

    Example:
        >>> from difana.infer import fit, yields
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model, mask
        >>> def region(name, events):
        ...     return Channel((Template([events], (NormFactor("k"),), name="ttbar"),), name=name)
        >>> model = build_model([region("CR", 100.0), region("VR", 20.0)], poi="k")
        >>> blind = mask(model, "VR")
        >>> best = fit(blind, blind.data([121.0]))
        >>> found = yields(blind, fit=best).channel("VR")
        >>> [round(x, 3) for x in (float(best["k"]), found["sum"], found["sum_error"])]
        [1.21, 24.2, 2.2]
    """
    wanted = [channels] if isinstance(channels, str) else list(channels)
    s = model.structure
    known = [channel.name for channel in s.channels]
    for name in wanted:
        if name not in known:
            raise ModelError(f"no channel '{name}' to mask.{nearest(name, known)}")
    masked = s.masked.copy() if s.masked.size else np.zeros(s.bins, bool)
    for channel in s.channels:
        if channel.name in wanted:
            masked[channel.start : channel.start + channel.bins] = True
    if not wanted:
        return model
    if masked.all():
        raise ModelError("all channels are masked: a fit needs at least one")
    unseen = ~_acting(s, ~masked[s.row_bin])
    if s.poi is not None and unseen[s.parameters.index(s.poi)]:
        raise ModelError(
            f"the parameter of interest '{s.poi}' acts in masked channels only: no fit can find it"
        )
    unseen[s.constrained] = False
    structure = dataclasses.replace(s, masked=masked, fixed=s.fixed | unseen)
    return dataclasses.replace(model, structure=structure)


def _acting(s: Structure, rows: np.ndarray) -> np.ndarray:
    """Return which parameters change one of the rows for which ``rows`` is True."""
    found = np.zeros(len(s.parameters) + 1, bool)
    found[s.factors[rows]] = True
    found[s.histosys_parameter[rows[s.histosys_row]]] = True
    blocks = np.zeros(s.blocks, bool)
    blocks[s.row_block[rows]] = True
    found[s.normsys_parameter[blocks[s.normsys_block]]] = True
    return found[:-1]
