"""Profile-likelihood scans over a grid of any dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from difana._errors import InputError, ModelError
from difana._result import AbstractResult
from difana.infer._checks import check_free_poi
from difana.infer.fit_result import FitResult
from difana.infer.parallel._many import Report, best_fit, conditional_fits
from difana.likelihood import Model


class ScanResult(AbstractResult):
    """A profile-likelihood scan.

    Attributes:
        values: Scanned values of each parameter.
        twice_delta_nll: Twice the nll above that of the best fit, one axis a scanned parameter.
            It is negative where a point outside the bounds of a parameter fits better.
        params: Best-fit parameters at each point, ``[*grid, params]``.
        best: The best fit without anything held.
        status: Bit flags at each point, ``[*grid]``.
        names: Names of the scanned parameters (static).
    """

    values: tuple[Float[Array, " points"], ...]
    twice_delta_nll: Float[Array, "*grid"]
    params: Float[Array, "*grid params"]
    best: FitResult
    status: Int[Array, "*grid"]
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def all_status(self) -> Int[Array, " fits"]:
        """The status of all points and of the best fit."""
        return jnp.append(self.status, self.best.status)

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return {
            "parameters": {
                name: np.asarray(values).tolist()
                for name, values in zip(self.names, self.values, strict=True)
            },
            "best": {name: float(self.best[name]) for name in self.names},
            "uncertainty": {
                name: float(self.best.uncertainties[self.best.names.index(name)])
                for name in self.names
            },
            "twice_delta_nll": np.asarray(self.twice_delta_nll).tolist(),
            "status": self.message,
        }


def profile_scan(
    model: Model,
    data: Float[Array, " data"],
    values: Mapping[str, ArrayLike],
    *,
    fit: FitResult | None = None,
    batch: int = 8,
    report: Report | None = None,
    devices: Any = None,
    client: Any = None,
) -> ScanResult:
    r"""Fit the other parameters on a grid of held ones.

    Returns :math:`2[L(\theta_s, \hat{\hat\theta}(\theta_s)) - L(\hat\theta)]` at every point of
    the product of the given values; one compiled program for all points. Held values may lie
    outside the bounds of their parameters.

    Differentiable in the model, the data and the values: the ratio by the envelope
    theorem, ``params`` by the implicit function theorem.

    Args:
        model: The model.
        data: Data vector.
        values: Values of each scanned parameter, by name: as many axes of the result.
        fit: The best fit, if already at hand.
        batch: Points fitted at the same time.
        report: Called with the number of points done and of all points.
        devices: Spread the fits over these devices of this machine (or a mesh with one axis).
        client: Spread them over the workers of this ``dask.distributed.Client``.

    Returns:
        The scan.

    Raises:
        ModelError: If a parameter does not exist, or none is given.
        InputError: If values are not a row of numbers.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = profile_scan(model, model.data([55.0, 60.0]), {"mu": [0.0, 0.5, 1.0]})
        >>> [f"{rise:.4f}" for rise in result.twice_delta_nll]
        ['0.9260', '0.0014', '0.7322']
    """
    if not values:
        raise ModelError("a scan needs at least one parameter: {'mu': values}")
    names = tuple(values)
    if model.structure.poi in names:
        check_free_poi(model)
    indices = [model.index(name) for name in names]
    axes = tuple(jnp.asarray(values[name], model.nominal.dtype) for name in names)
    for name, axis in zip(names, axes, strict=True):
        if axis.ndim != 1 or axis.size == 0:
            raise InputError(f"the values of '{name}' must be a row of numbers, not {axis.shape}")
    best = best_fit(model, data) if fit is None else fit
    grid = jnp.stack([mesh.ravel() for mesh in jnp.meshgrid(*axes, indexing="ij")], axis=1)
    points = grid.shape[0]
    # all from the starting values: of two minima, neighbours then find the same
    start = jnp.broadcast_to(model.init, (points, len(model.parameters)))
    start = start.at[:, np.array(indices)].set(grid)
    held = model.fixed.at[np.array(indices)].set(True)
    held = jnp.broadcast_to(held, start.shape)
    fits = conditional_fits(
        model, data, start, held, batch=batch, report=report, devices=devices, client=client
    )
    shape = tuple(axis.size for axis in axes)
    return ScanResult(
        values=axes,
        twice_delta_nll=(2 * (fits.half_deviance - best.half_deviance)).reshape(shape),
        params=fits.params.reshape(*shape, -1),
        best=best,
        status=fits.status.reshape(shape),
        names=names,
    )
