"""One channel, one signal, one background: the models of first examples and of quick checks."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike, Float

from difana._errors import ModelError
from difana.likelihood.build import build_model
from difana.likelihood.model import Model
from difana.likelihood.modifiers import Channel, HistoSys, NormFactor, ShapeSys, Template


def uncorrelated_background(
    signal: Float[ArrayLike, " bins"],
    background: Float[ArrayLike, " bins"],
    background_uncertainty: Float[ArrayLike, " bins"],
) -> Model:
    r"""Return a model whose background has an independent uncertainty in every bin.

    .. math::
        \prod_b \mathrm{Pois}(n_b | \mu s_b + \gamma_b b_b)\,\mathrm{Pois}(a_b | \gamma_b \tau_b),
        \qquad \tau_b = (b_b/\sigma_b)^2

    Channel, samples and parameters have the names of ``pyhf.simplemodels``: ``singlechannel``,
    ``signal``, ``background``, ``mu``, ``uncorr_bkguncrt``. Numbers may be traced.

    Args:
        signal: Yields of the signal, ``[bins]``.
        background: Yields of the background, ``[bins]``.
        background_uncertainty: Their absolute standard deviations, ``[bins]``; a bin with 0 has no
            uncertainty.

    Returns:
        The model; its parameter of interest is ``mu``.

    Raises:
        ModelError: If the vectors differ in length or an uncertainty is negative.

    Example:
        >>> model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
        >>> model.parameters
        ('mu', 'uncorr_bkguncrt[0]', 'uncorr_bkguncrt[1]')
        >>> [round(x, 4) for x in model.expected(model.init).tolist()]
        [62.0, 63.0, 277.7778, 55.1837]
    """
    _check(signal=signal, background=background, background_uncertainty=background_uncertainty)
    if not isinstance(background_uncertainty, Tracer):
        negative = np.flatnonzero(np.asarray(background_uncertainty, float) < 0)
        if negative.size:
            raise ModelError(f"background_uncertainty of bin {negative[0]} is negative")
    modifier = ShapeSys(background_uncertainty, "uncorr_bkguncrt")
    return _model("singlechannel", signal, Template(background, (modifier,), name="background"))


def correlated_background(
    signal: Float[ArrayLike, " bins"],
    background: Float[ArrayLike, " bins"],
    up: Float[ArrayLike, " bins"],
    down: Float[ArrayLike, " bins"],
) -> Model:
    r"""Return a model whose background moves in all bins together.

    .. math::
        \prod_b \mathrm{Pois}(n_b | \mu s_b + b_b + \delta_b(\alpha))\,\mathrm{N}(a | \alpha, 1)

    with :math:`b + \delta` running through ``down``, ``background`` and ``up`` at
    :math:`\alpha = -1, 0, 1` (interpolation code 4p). Channel, samples and parameters have the
    names of ``pyhf.simplemodels``: ``single_channel``, ``signal``, ``background``, ``mu``,
    ``correlated_bkg_uncertainty``. Numbers may be traced.

    Args:
        signal: Yields of the signal, ``[bins]``.
        background: Yields of the background, ``[bins]``.
        up: Yields of the background varied by +1 standard deviation, ``[bins]``.
        down: The same at -1, ``[bins]``.

    Returns:
        The model; its parameter of interest is ``mu``.

    Raises:
        ModelError: If the vectors differ in length.

    Example:
        >>> model = correlated_background([12.0, 11.0], [50.0, 52.0], [45.0, 57.0], [55.0, 47.0])
        >>> model.expected_main(model.pack({"correlated_bkg_uncertainty": 1.0})).tolist()
        [57.0, 68.0]
    """
    _check(signal=signal, background=background, up=up, down=down)
    modifier = HistoSys(up, down, "correlated_bkg_uncertainty")
    return _model("single_channel", signal, Template(background, (modifier,), name="background"))


def _check(**vectors: Any) -> None:
    shapes = {name: np.shape(values) for name, values in vectors.items()}
    first = shapes["signal"]
    for name, shape in shapes.items():
        if len(shape) != 1 or shape != first or not shape[0]:
            raise ModelError(
                f"{name} has shape {shape}: {', '.join(shapes)} must be vectors of one number a "
                f"bin, and signal has shape {first}"
            )
    for name, values in vectors.items():
        if not isinstance(values, Tracer):
            bad = np.flatnonzero(~np.isfinite(np.asarray(values, float)))
            if bad.size:
                raise ModelError(f"{name} of bin {bad[0]} is not finite")


def _model(channel: str, signal: Any, background: Template) -> Model:
    samples = (Template(signal, (NormFactor("mu"),), name="signal"), background)
    return build_model([Channel(samples, name=channel)])
