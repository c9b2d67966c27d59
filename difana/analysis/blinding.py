"""The data that an analysis may look at: observed in some regions, predicted in blinded ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from difana.analysis.config import AnalysisConfig
from difana.analysis.load import Loaded
from difana.infer import FitResult, Inference
from difana.likelihood import Model, mask, model_with


@dataclasses.dataclass(frozen=True)
class Seen:
    """The data of a model.

    Attributes:
        vector: Observed yields; of blinded regions, and of all without data, those expected without
            signal; then auxiliary data.
        real: Whether all yields are observed.
        fit: The fit to the observed regions alone, without signal; None where all or none are.
        at: Parameters at which limits are expected: those of the fit; None for the starting values.
    """

    vector: Float[Array, " data"]
    real: bool
    fit: FitResult | None = None
    at: Float[Array, " params"] | None = None


def seen_data(
    config: AnalysisConfig,
    loaded: Loaded,
    model: Model,
    trained: Mapping[str, Float[np.ndarray, " bins"]],
) -> Seen:
    r"""Return the data of the final model.

    With nuisances :math:`\hat\theta` that maximise the likelihood of the observed regions at
    :math:`\mu = 0`, the data of a blinded bin are :math:`\lambda_b(0, \hat\theta)`. The fit without
    signal to all of this data is :math:`\hat\theta` again, so that limits expected from it are
    those expected after the fit to the observed regions.

    Args:
        config: The configuration; it says what is blinded.
        loaded: The events.
        model: The model of all regions.
        trained: Observed yields by trained region; without those that are blinded.
    """
    if config.observed is None:
        return Seen(asimov_vector(model), real=False)
    counts = dict(loaded.observed_yields)
    counts |= {name: tuple(own.tolist()) for name, own in trained.items()}
    layouts, start = model.structure.channels, asimov_vector(model)
    hidden = [layout for layout in layouts if layout.name in config.blinded]
    if not hidden:
        rows = [counts[layout.name] for layout in layouts]
        return Seen(data_vector(model, np.concatenate(rows)), real=True)

    def filled(expected: Array) -> Array:
        rows = np.array(expected[: model.bins])
        for layout in layouts:
            if layout not in hidden:
                rows[layout.start : layout.start + layout.bins] = counts[layout.name]
        return data_vector(model, rows)

    without = [layout.name for layout in hidden]
    fit = _fit_without(model, without, filled(start), pois=config.general.pois)
    at = fit.params if config.control_fit else None
    if at is not None:
        start = expected_vector(model, at)
    return Seen(filled(start), real=False, fit=fit, at=at)


def _fit_without(
    model: Model, hidden: list[str], data: Float[Array, " data"], *, pois: Sequence[str]
) -> FitResult:
    """Return the fit without signal to the regions that are not hidden."""
    held = model_with(model, fixed=dict.fromkeys(pois, 0.0))
    # without a parameter of interest: it may act in hidden regions only
    structure = dataclasses.replace(held.structure, poi=None)
    return Inference(mask(dataclasses.replace(held, structure=structure), hidden), data).best


# compiled whole: one by one, the operations of a model cost seconds of compilation


@jax.jit
def expected_vector(model: Model, params: Float[Array, " params"]) -> Float[Array, " data"]:
    """Return Asimov data."""
    return model.expected(params)


@jax.jit
def asimov_vector(model: Model) -> Float[Array, " data"]:
    """Return background-only Asimov data."""
    return model.expected(model.init.at[model.poi_index].set(0.0))


@jax.jit
def data_vector(model: Model, observed: Float[Array, " bins"]) -> Float[Array, " data"]:
    """Return observed yields and auxiliary data."""
    return model.data(observed)
