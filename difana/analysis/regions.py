"""The yields of every region before and after the fit, sorted into samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from difana.analysis.config import AnalysisConfig
from difana.analysis.evaluate import Evaluated
from difana.data import is_signal


@dataclasses.dataclass(frozen=True)
class RegionYields:
    """Yields of one region, before and after the fit.

    Attributes:
        name: Its name.
        xlabel: Name of its observable.
        edges: Bin edges.
        prefit: Yields by sample, the signal at zero strength.
        postfit: Yields by sample after the fit.
        prefit_errors: Standard deviation of the total before the fit, ``[bins]``.
        postfit_errors: The same after the fit.
        signal: Yields of the signal samples at unit strength.
        data: Observed yields, or Asimov data.
        observed: Whether the data are observed: there are some, and the region is not blinded.
    """

    name: str
    xlabel: str
    edges: Float[np.ndarray, " edges"]
    prefit: Mapping[str, Float[np.ndarray, " bins"]]
    postfit: Mapping[str, Float[np.ndarray, " bins"]]
    prefit_errors: Float[np.ndarray, " bins"]
    postfit_errors: Float[np.ndarray, " bins"]
    signal: Mapping[str, Float[np.ndarray, " bins"]]
    data: Float[np.ndarray, " bins"]
    observed: bool


def region_yields(config: AnalysisConfig, found: Evaluated) -> tuple[RegionYields, ...]:
    """Return the yields of every region, sorted into samples."""
    model, final = found.model, found.statistics
    binnings = {r.name: r.binning for r in config.regions if not r.trained} | dict(found.edges)
    labels = {region.name: region.variable for region in config.regions}
    rows = {"prefit": final.prefit.rows, "postfit": final.postfit.rows}
    poi, observed = config.general.interest, np.asarray(found.data)
    output = f"network output ({'in bins' if config.folds else 'logit'})"
    listed = []
    for channel in model.structure.channels:
        own = slice(channel.start, channel.start + channel.bins)
        parts = {t.name: slice(t.start, t.start + channel.bins) for t in channel.templates}
        signals = [t.name for t in channel.templates if is_signal(t, poi)]
        by_sample = {
            when: {name: np.asarray(values[part]) for name, part in parts.items()}
            for when, values in rows.items()
        }
        listed.append(
            RegionYields(
                name=channel.name,
                xlabel=labels[channel.name] or output,
                edges=np.asarray(binnings[channel.name], float),
                prefit=by_sample["prefit"],
                postfit=by_sample["postfit"],
                prefit_errors=np.asarray(final.prefit.bin_errors[own]),
                postfit_errors=np.asarray(final.postfit.bin_errors[own]),
                signal={name: np.asarray(final.unit.rows[parts[name]]) for name in signals},
                data=observed[own],
                observed=config.observed is not None and channel.name not in config.blinded,
            )
        )
    return tuple(listed)
