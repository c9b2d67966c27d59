"""Models as HS3 JSON, the HEP Statistics Serialization Standard."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Float

import difana
from difana._errors import ModelError
from difana.likelihood.formats.pyhf_json import with_auxiliary
from difana.likelihood.model import Model
from difana.likelihood.structure import ChannelLayout, ModifierLayout, TemplateLayout

HS3_VERSION = "0.2"
_USUAL = {"normsys": "code4", "histosys": "code4p"}
_ROOT_CODES = {"code0": 0, "code1": 1, "code2": 2, "code4": 4, "code4p": 4}


def entry_names(name: str, size: int, kind: str) -> list[str]:
    """Return the names of the parameters of a set: those of ROOT for factors of bins."""
    vector = kind in ("staterror", "shapesys", "shapefactor")
    return [f"gamma_{name}_bin_{i}" for i in range(size)] if vector else [name]


class _Writer:
    """The numbers of a model, and what its constraints are."""

    def __init__(self, model: Model, shapesys: str) -> None:
        if shapesys not in ("relative", "absolute"):
            raise ModelError(f"shapesys '{shapesys}': expected 'relative' or 'absolute'")
        s = model.structure
        if s.correlated.size:
            raise ModelError("the model has correlated constraints, which are not written as HS3")
        self.model, self.absolute = model, shapesys == "absolute"
        self.nominal = np.asarray(model.nominal, float)
        self.centers = np.asarray(model.centers, float)
        self.widths = np.asarray(model.constraint_scales()[0], float)
        self.fixed = np.asarray(model.fixed)
        self.codes: dict[str, str] = dict(
            zip(("normsys", "histosys"), s.interpolation, strict=True)
        )
        self.constraint = {int(p): i for i, p in enumerate(s.constrained)}
        self.extra: dict[str, dict[str, Any]] = {}  # constraints as distributions, by name
        self.kinds = {  # of the modifiers, by parameter set
            layout.name: layout.kind
            for channel in s.channels
            for template in channel.templates
            for layout in template.modifiers
        }

    def type_of(self, parameter: int) -> str:
        """Return the type of a constraint in the words of HS3."""
        s, i = self.model.structure, self.constraint.get(parameter)
        if i is None:
            return "none"
        return "Poisson" if s.poisson[i] else "LogNormal" if s.lognormal[i] else "Gauss"

    def single(self, layout: ModifierLayout) -> dict[str, Any]:
        """Return the constraint of a modifier with one parameter."""
        name, kind = layout.name, self.type_of(layout.parameter)
        if kind == "none":
            if layout.kind in ("normsys", "histosys"):
                raise ModelError(f"{layout.kind} '{name}' has no constraint, which HS3 cannot say")
            return {}
        i = self.constraint[layout.parameter]
        center, width = float(self.centers[i]), float(self.widths[i])
        if kind != "Gauss":
            raise ModelError(
                f"{layout.kind} '{name}' has a {kind} constraint, which is not written"
            )
        if layout.kind in ("normsys", "histosys") and (center, width) == (0.0, 1.0):
            return {"constraint": "Gauss"}
        constraint = f"{name}_constraint"
        self.extra[constraint] = {
            "name": constraint,
            "type": "gaussian_dist",
            "x": name,
            "mean": center,
            "sigma": width,
        }
        return {"constraint_name": constraint} if layout.kind in ("normsys", "histosys") else {}

    def several(self, layout: ModifierLayout, bins: int) -> dict[str, Any]:
        """Return parameters and constraint of a modifier with one parameter a bin."""
        found: dict[str, Any] = {"parameters": entry_names(layout.name, bins, layout.kind)}
        kind = self.type_of(layout.parameter)
        if layout.kind == "shapefactor" and kind == "none":
            return found
        if kind == "none" or layout.kind == "shapefactor":
            raise ModelError(f"{layout.kind} '{layout.name}' has {kind} constraint: not written")
        first = self.constraint[layout.parameter]
        if (self.centers[first : first + bins] != 1.0).any():
            raise ModelError(
                f"{layout.kind} '{layout.name}' has other auxiliary data than its nominal ones, "
                "which HS3 cannot say"
            )
        return found | {"constraint": kind}

    def modifier(self, layout: ModifierLayout, template: TemplateLayout, bins: int) -> dict:
        """Return one modifier."""
        model, start, stop = self.model, layout.start, layout.start + bins
        kind = "normfactor" if layout.kind == "lumi" else layout.kind
        found: dict[str, Any] = {"name": layout.name, "type": kind}
        if kind in ("staterror", "shapesys", "shapefactor"):
            found |= self.several(layout, bins)
        else:
            found |= {"parameter": layout.name} | self.single(layout)
        if kind == "normsys":
            found["data"] = {
                "hi": float(model.normsys_hi[start]),
                "lo": float(model.normsys_lo[start]),
            }
        elif kind == "histosys":
            found["data"] = {
                "hi": {"contents": np.asarray(model.histosys_hi[start:stop], float).tolist()},
                "lo": {"contents": np.asarray(model.histosys_lo[start:stop], float).tolist()},
            }
        elif kind == "shapesys":
            values = np.asarray(model.shapesys[start:stop], float)
            if not self.absolute:
                nominal = self.nominal[template.start : template.start + bins]
                good = nominal > 0
                values = np.where(good, values / np.where(good, nominal, 1.0), 0.0)
            found["data"] = {"vals": values.tolist()}
        code = self.codes.get(kind)
        if code is not None and code != _USUAL[kind]:
            found["interpolation"] = _ROOT_CODES[code]
            found["data"] = {**found["data"], "interpolation": code}
        return found

    def sample(self, template: TemplateLayout, bins: int) -> dict[str, Any]:
        """Return one sample; its errors are the uncertainties of its staterror."""
        data = {"contents": self.nominal[template.start : template.start + bins].tolist()}
        statistics = [layout for layout in template.modifiers if layout.kind == "staterror"]
        if len(statistics) > 1:
            raise ModelError(f"sample '{template.name}' has two staterrors, which HS3 cannot say")
        for layout in statistics:
            values = self.model.staterror[layout.start : layout.start + bins]
            data["errors"] = np.asarray(values, float).tolist()
        return {
            "name": template.name,
            "data": data,
            "modifiers": [self.modifier(layout, template, bins) for layout in template.modifiers],
        }

    def channel(self, channel: ChannelLayout) -> dict[str, Any]:
        """Return one channel, a distribution."""
        samples = [self.sample(template, channel.bins) for template in channel.templates]
        types = {
            modifier["constraint"]
            for sample in samples
            for modifier in sample["modifiers"]
            if modifier["type"] == "staterror"
        }
        found: dict[str, Any] = {
            "name": channel.name,
            "type": "histfactory_dist",
            "axes": _axes(channel),
            "samples": samples,
        }
        if len(types) == 1:  # ROOT reads it here, others at the modifier
            found["staterror"] = {"constraint_type": types.pop()}
        return found


def _axes(channel: ChannelLayout) -> list[dict[str, Any]]:
    name = f"obs_x_{channel.name}"
    return [{"name": name, "min": 0.0, "max": float(channel.bins), "nbins": channel.bins}]


def to_hs3(
    model: Model,
    data: Float[Array, " data"],
    *,
    name: str = "measurement",
    shapesys: str = "relative",
) -> dict[str, Any]:
    """Write a model and its data as HS3 JSON (version 0.2), ready for ``json.dump``.

    A lumi becomes a normfactor with a Gaussian constraint among ``aux_distributions``; templates
    of histosys are absolute, as ROOT and pyhs3 read them.

    Args:
        model: The model, with concrete numbers.
        data: Data vector: observed yields, and auxiliary data, which become the centres of the
            constraints (those of the model, if there are only yields).
        name: Name of the analysis and its likelihood.
        shapesys: ``"relative"`` writes its ``vals`` relative to the sample, as ROOT reads them;
            ``"absolute"`` writes events, as pyhs3 reads them.

    Raises:
        ModelError: If a constraint cannot be written, or a number is not finite.

    References:
        HS3 0.2; RooFit ``JSONFactories_HistFactory``.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([5.0], (NormFactor("mu"),), name="s"),),
        ...                              name="SR")])
        >>> to_hs3(model, model.data([4.0]))["distributions"][0]["samples"][0]["data"]
        {'contents': [5.0]}
    """
    model = with_auxiliary(model, data)
    writer = _Writer(model, shapesys)
    s, observed = model.structure, np.asarray(data, float)
    init, lower, upper = (np.asarray(x, float) for x in (model.init, model.lower, model.upper))
    if not np.isfinite(np.concatenate([observed, init, writer.nominal])).all():
        raise ModelError("the model holds a number that is not finite; inspect its yields")
    channels = [writer.channel(channel) for channel in s.channels]
    axes, point = [], []
    for set_name, start, size, _ in s.sets:
        for i, parameter in enumerate(entry_names(set_name, size, writer.kinds[set_name])):
            at = start + i
            axes.append({"name": parameter, "min": float(lower[at]), "max": float(upper[at])})
            entry: dict[str, Any] = {"name": parameter, "value": float(init[at])}
            point.append(entry | ({"const": True} if writer.fixed[at] else {}))
    sets = [
        {
            "name": f"{name}_{channel.name}",
            "type": "binned",
            "axes": _axes(channel),
            "contents": observed[channel.start : channel.start + channel.bins].tolist(),
        }
        for channel in s.channels
    ]
    likelihood = {
        "name": name,
        "distributions": [channel.name for channel in s.channels],
        "data": [entry["name"] for entry in sets],
    }
    named = {
        modifier.get("constraint_name")
        for channel in channels
        for sample in channel["samples"]
        for modifier in sample["modifiers"]
    }
    auxiliary = [constraint for constraint in writer.extra if constraint not in named]
    if auxiliary:
        likelihood["aux_distributions"] = auxiliary
    analysis = {
        "name": name,
        "likelihood": name,
        "domains": [f"{name}_domain"],
        "init": "default_values",
    }
    if s.poi is not None:
        analysis["parameters_of_interest"] = [s.poi]
    return {
        "metadata": {
            "hs3_version": HS3_VERSION,
            "packages": [{"name": "difana", "version": difana.__version__}],
        },
        "distributions": [*channels, *writer.extra.values()],
        "data": sets,
        "domains": [{"name": f"{name}_domain", "type": "product_domain", "axes": axes}],
        "parameter_points": [{"name": "default_values", "parameters": point}],
        "likelihoods": [likelihood],
        "analyses": [analysis],
    }
