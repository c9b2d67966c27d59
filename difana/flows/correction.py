"""One flow that corrects simulation to data, keeping the quantiles."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana._options import real_number
from difana.flows.fit import fit_flow
from difana.flows.flow import Flow
from difana.flows.make import coupling_flow
from difana.train import AbstractOneTraining, Training, TrainResult


class Correction(eqx.Module):
    r"""Moves simulated events to where data have the same quantile.

    .. math:: x_\text{corr} = f^{-1}(f(x \mid c, 0) \mid c, 1)

    with one flow :math:`f` of simulation and data, whose condition ends with a switch: 0 for
    simulation, 1 for data. Differentiable, so that it can stand inside an analysis.

    Attributes:
        flow: The flow; its last condition is the switch.

    References:
        arXiv:2403.18582.
    """

    flow: Flow

    def __call__(
        self, x: Float[Array, "events dims"], given: Float[Array, "events given"] | None = None
    ) -> Float[Array, "events dims"]:
        """Return simulated events corrected to data; columns that are not learned stay.

        Raises:
            InputError: If the numbers of columns are not those of the flow.
        """
        return self._from_to(x, given, 0.0, 1.0)

    def undone(
        self, x: Float[Array, "events dims"], given: Float[Array, "events given"] | None = None
    ) -> Float[Array, "events dims"]:
        """Return corrected events as they were simulated."""
        return self._from_to(x, given, 1.0, 0.0)

    def varied(
        self,
        x: Float[Array, "events dims"],
        given: Float[Array, "events given"] | None,
        alpha: Float[Array, ""] | float,
        *,
        size: float = 1.0,
    ) -> Float[Array, "events dims"]:
        r"""Return corrected events at ``alpha`` standard deviations of the correction.

        .. math:: x(\alpha) = x + \alpha\, s\, (x - x_\text{undone})

        the function of a `difana.data.Transformation`: 0 is the correction as it is, and with
        ``size`` one minus one standard deviation is no correction at all.

        Args:
            x: Corrected events.
            given: Their conditions.
            alpha: The nuisance parameter.
            size: Uncertainty, as a share of the correction.
        """
        x = jnp.asarray(x)
        real_number("size", size, least=0)
        step = jnp.asarray(alpha, x.dtype) * jnp.asarray(size, x.dtype)
        return x + step * (x - self.undone(x, given).astype(x.dtype))

    def _from_to(self, x: Any, given: Any, start: float, end: float) -> Array:
        x = jnp.asarray(x)
        one, two = (with_switch(given, len(x), switch, x.dtype) for switch in (start, end))
        z, _ = self.flow.transform(x, one)
        moved = self.flow.inverse(z, two)
        kept = np.isin(np.arange(x.shape[1]), self.flow.columns.kept)
        return jnp.where(jnp.broadcast_to(jnp.asarray(kept), x.shape), moved, x.astype(moved.dtype))


class CorrectionResult(AbstractOneTraining):
    """A trained correction.

    Attributes:
        correction: The function.
        loss: Lowest held-out loss of the flow.
        training: The record of the training.
    """

    correction: Correction
    loss: Float[Array, ""]
    training: TrainResult


def fit_correction(
    data: Float[Array, "data dims"],
    simulation: Float[Array, "simulated dims"],
    *,
    key: PRNGKeyArray,
    data_given: Float[Array, "data given"] | None = None,
    simulation_given: Float[Array, "simulated given"] | None = None,
    data_weights: Float[Array, " data"] | None = None,
    simulation_weights: Float[Array, " simulated"] | None = None,
    training: Training = Training(),
    **options: Any,
) -> CorrectionResult:
    """Learn the correction of simulated columns to data.

    Conditions (kinematics) must be distributed alike: reweight the simulation first, by
    ``difana.ratio.fit_ratio`` of the conditions, and give these weights. Both samples count as much
    as each other in the training, whatever their yields.

    Args:
        data: Columns of measured events.
        simulation: The same columns of simulated events.
        key: Random key.
        data_given: Conditions of measured events.
        simulation_given: The same of simulated events.
        data_weights: Weights, such as negative ones of a background.
        simulation_weights: Weights of the simulated events.
        training: Options of the training.
        options: Options of ``coupling_flow``: ``layers``, ``columns``, ...

    Returns:
        The correction.

    Raises:
        ConfigError: If an option makes no sense.
        InputError: If the samples have other columns, or as ``fit_flow``.

    Example:
        >>> import jax
        >>> x = jax.random.normal(jax.random.key(0), (2000, 1))
        >>> found = fit_correction(
        ...     2 * x + 1, x, key=jax.random.key(1), layers=1, hidden=(8,),
        ...     training=Training(epochs=40, learning_rate=1e-2))
        >>> bool(abs(found.correction(jnp.array([[0.5]]))[0, 0] - 2) < 0.2)
        True
    """
    if jnp.ndim(data) != 2 or jnp.ndim(simulation) != 2 or data.shape[1] != simulation.shape[1]:
        raise InputError(
            f"data of shape {jnp.shape(data)} and simulation {jnp.shape(simulation)}: give the same"
            " columns"
        )
    if (data_given is None) != (simulation_given is None):
        raise InputError("conditions of one sample only: give data_given and simulation_given")
    x: Any = np.concatenate([np.asarray(part, np.float64) for part in (simulation, data)])
    given = np.concatenate([
        np.asarray(with_switch(None if part is None else np.asarray(part, np.float64), number,
                               switch, np.float64))
        for part, number, switch in (
            (simulation_given, len(simulation), 0.0), (data_given, len(data), 1.0))
    ])  # fmt: skip
    weights: Any = np.concatenate([
        _share(w, number, name)
        for w, number, name in (
            (simulation_weights, len(simulation), "simulation"), (data_weights, len(data), "data"))
    ])  # fmt: skip
    flow = coupling_flow(x, given, key=key, weights=weights, **options)
    found = fit_flow(flow, x, given, key=key, weights=weights, training=training)
    return CorrectionResult(Correction(found.flow), found.loss, found.training)


def with_switch(given: Any, rows: int, switch: float, dtype: Any) -> Any:
    """Return conditions with a last column: 0 for simulation, 1 for data."""
    xp: Any = np if given is None or isinstance(given, np.ndarray) else jnp
    column = xp.full((rows, 1), switch, dtype)
    return column if given is None else xp.concatenate([given.astype(dtype), column], axis=1)


def _share(weights: Any, number: int, name: str) -> np.ndarray:
    w = np.ones(number) if weights is None else np.asarray(weights, np.float64)
    if w.shape != (number,) or not w.sum() > 0:
        raise InputError(
            f"weights of the {name} of shape {w.shape}, total {w.sum():g}: give one an event,"
            " with a positive total"
        )
    return w / w.sum()
