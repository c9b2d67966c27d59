"""Models from HS3 JSON, the HEP Statistics Serialization Standard: its HistFactory part."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import DifanaError, ModelError, nearest
from difana.likelihood import modifiers as mod
from difana.likelihood.barlow_beeston import full_statistics
from difana.likelihood.build import build_model
from difana.likelihood.formats._hs3 import USUAL, Gaussian, Reader
from difana.likelihood.formats._hs3_parts import fail, get, named_entries, number, numbers
from difana.likelihood.formats._json import load
from difana.likelihood.model import Model


def _choose(spec: Mapping[str, Any], analysis: str | None) -> tuple[Mapping, Mapping]:
    """Return the analysis and its likelihood."""
    analyses = named_entries(get(spec, "analyses", "the file", (list,), []), "analyses")
    likelihoods = named_entries(get(spec, "likelihoods", "the file", (list,)), "likelihoods")
    known = analyses or likelihoods
    if analysis is None and len(known) != 1:
        raise ModelError(f"the file holds {len(known)} analyses, {list(known)}: name one")
    chosen = analysis if analysis is not None else next(iter(known))
    if chosen not in known:
        raise ModelError(f"no analysis '{chosen}' in the file.{nearest(chosen, known)}")
    if not analyses:
        return {}, likelihoods[chosen]
    name = get(analyses[chosen], "likelihood", f"analysis '{chosen}'", (str,))
    if name not in likelihoods:
        fail(f"analysis '{chosen}'", f"no likelihood '{name}'.{nearest(name, likelihoods)}")
    return analyses[chosen], likelihoods[name]


def interests_of(spec: Mapping[str, Any], analysis: str | None) -> list[str]:
    """Return the parameters of interest that an analysis names."""
    chosen, _ = _choose(spec, analysis)
    found = get(chosen, "parameters_of_interest", "the analysis", (list,), [])
    if not all(isinstance(name, str) for name in found):
        fail("the analysis, 'parameters_of_interest'", "expected a list of names")
    return found


def _bounds(spec: Mapping[str, Any], analysis: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    domains = named_entries(get(spec, "domains", "the file", (list,), []), "domains")
    usual = [analysis["domain"]] if "domain" in analysis else []
    names = get(analysis, "domains", "the analysis", (list,), usual)
    chosen = [name for name in names if isinstance(name, str)] or ["default_domain"]
    found = {}
    for name in chosen:
        place = f"domain '{name}'"
        if name not in domains:
            if name == "default_domain":
                continue
            fail(place, f"there is none.{nearest(name, domains)}")
        for axis in get(domains[name], "axes", place, (list,)):
            parameter = get(axis, "name", place, (str,))
            if "min" in axis and "max" in axis:
                found[parameter] = number(axis, "min", place), number(axis, "max", place)
    return found


def _points(spec: Mapping[str, Any], analysis: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    points = named_entries(
        get(spec, "parameter_points", "the file", (list,), []), "parameter_points"
    )
    found: dict[str, Mapping[str, Any]] = {}
    for name in ("default_values", analysis.get("init")):
        if name in points:
            entries = get(points[name], "parameters", f"parameter point '{name}'", (list,))
            found |= named_entries(entries, f"parameter point '{name}'")
        elif name is not None and name != "default_values":
            fail(f"parameter point {name!r}", "there is none")
    return found


def _settings(
    reader: Reader,
    bounds: Mapping[str, tuple[float, float]],
    constraints: Mapping[str, Gaussian],
) -> list[mod.Parameter]:
    """Return the settings of all parameter sets."""
    found = []
    for parameters, entry in reader.sets.items():
        points = [reader.points.get(parameter) for parameter in parameters]
        values = [
            number(point, "value", f"parameter '{point['name']}'")
            for point in points
            if point is not None
        ]
        limits = [bounds[parameter] for parameter in parameters if parameter in bounds]
        constraint = entry.constraint or "none"
        gaussian = constraints.get(parameters[0]) if len(parameters) == 1 else None
        sigma = None
        if gaussian is not None:
            constraint, sigma = "gaussian", gaussian.width
        elif entry.kind == "normfactor" and constraint != "none":
            sigma = 1.0  # unit width, as the standard says
        found.append(
            mod.Parameter(
                entry.name,
                init=np.array(values) if len(values) == len(parameters) else None,
                bounds=tuple(limits) if len(limits) == len(parameters) else None,
                auxdata=entry.centers if gaussian is None else gaussian.center,
                sigma=sigma,
                constraint=None if constraint == USUAL[entry.kind] else constraint,
            )
        )
    return found


def from_hs3(
    source: Mapping[str, Any] | str | Path | IO[bytes],
    *,
    analysis: str | None = None,
    poi: str | None = "",
    shapesys: str = "relative",
    masked: Sequence[str] = (),
    barlow_beeston: str = "lite",
) -> tuple[Model, Float[Array, " data"]]:
    """Read HS3 JSON (version 0.2 and later): likelihoods made of ``histfactory_dist``.

    Modifiers that name the same parameters share them; a parameter set is called after its
    parameter, or after the modifier if it has one parameter a bin. Templates of histosys are
    absolute, and a staterror without a word on its constraint has a Poisson one, as in ROOT.

    Args:
        source: A mapping, the path of a JSON file (gzipped or not), or a stream of bytes.
        analysis: Which analysis (or likelihood, if there are none) to read; needed for several.
        poi: Parameter of interest: None for none; by default that of the analysis.
        shapesys: Whether its ``vals`` are ``"relative"`` to the sample, as ROOT writes them, or
            ``"absolute"``, as pyhs3 reads them.
        masked: Names of channels that no fit looks at.
        barlow_beeston: Simulation statistics ``"lite"``, ``"full"`` or ``"full-gaussian"``, as of
            :func:`from_workspace`.

    Returns:
        The model and its data: observed yields, then auxiliary data.

    Raises:
        ModelError: If the file is broken, or uses what is not supported; names the place.

    References:
        HS3, https://github.com/hep-statistics-serialization-standard; RooFit
        ``JSONFactories_HistFactory``.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model, to_hs3
        >>> model = build_model([Channel((Template([5.0], (NormFactor("mu"),), name="s"),),
        ...                              name="SR")])
        >>> from_hs3(to_hs3(model, model.data([4.0])))[1].tolist()
        [4.0]
    """
    spec = load(source, what="HS3 file")
    try:
        return _read(spec, analysis, poi, shapesys, masked, barlow_beeston)
    except DifanaError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        # a list, mapping or number where another kind of value belongs
        raise ModelError(f"not a valid HS3 file: a value of the wrong type ({error})") from error


def _read(
    spec: Mapping[str, Any],
    analysis: str | None,
    poi: str | None,
    shapesys: str,
    masked: Sequence[str],
    barlow_beeston: str,
) -> tuple[Model, Float[Array, " data"]]:
    """Return the model and its data."""
    get(get(spec, "metadata", "the file", (Mapping,)), "hs3_version", "metadata", (str,))
    chosen, likelihood = _choose(spec, analysis)
    distributions = named_entries(get(spec, "distributions", "the file", (list,)), "distributions")
    sets = named_entries(get(spec, "data", "the file", (list,)), "data")
    place = f"likelihood '{likelihood['name']}'"
    names = get(likelihood, "distributions", place, (list,))
    data = get(likelihood, "data", place, (list,))
    if len(names) != len(data):
        fail(place, f"{len(names)} distributions and {len(data)} data")
    reader = Reader(distributions, shapesys)
    reader.points = _points(spec, chosen)
    functions = get(spec, "functions", "the file", (list,), [])
    reader.functions = named_entries(functions, "functions")
    auxiliary = get(likelihood, "aux_distributions", place, (list,), [])
    for name in auxiliary:
        if not isinstance(name, str) or name not in distributions:
            fail(place, f"no distribution {name!r}.{nearest(str(name), distributions)}")
        steered = (distributions[name].get("x"), distributions[name].get("mean"))
        reader.constrained |= {entry for entry in steered if isinstance(entry, str)}
    channels, observed = [], []
    for name, label in zip(names, data, strict=True):
        if not isinstance(name, str) or name not in distributions:
            fail(place, f"no distribution {name!r}.{nearest(str(name), distributions)}")
        if not isinstance(label, str) or label not in sets:
            fail(place, f"no data {label!r}.{nearest(str(label), sets)}")
        if sets[label].get("type") != "binned":
            fail(f"data '{label}'", f"type {sets[label].get('type')!r} is not supported")
        channel = reader.channel(distributions[name])
        channels.append(channel)
        bins = len(np.asarray(channel.templates[0].values)) if channel.templates else 0
        observed.append(numbers(sets[label], "contents", f"data '{label}'", bins))
    named = [entry.named for entry in reader.sets.values() if entry.named is not None]
    constraints = dict(reader.gaussian(name) for name in dict.fromkeys([*named, *auxiliary]))
    if poi == "":
        interests = interests_of(spec, analysis)
        if len(interests) > 1:
            raise ModelError(f"several parameters of interest, {interests}: name one with `poi`")
        poi = interests[0] if interests else None
    settings = _settings(reader, _bounds(spec, chosen), constraints)
    channels, settings, single = full_statistics(channels, settings, method=barlow_beeston)
    codes = reader.codes or None
    model = build_model(channels, poi=poi, parameters=settings, interpolation=codes, masked=masked)
    model = _hold(model, reader, single)
    return model, model.data(jnp.asarray(np.concatenate(observed)))


def _hold(model: Model, reader: Reader, origin: Mapping[str, str]) -> Model:
    """Hold constant parameters, and statistics below their threshold."""
    fixed = model.structure.fixed.copy()
    usual = np.asarray(model.fixed)  # bins without width are held anyway
    widths = np.zeros(len(model.parameters))
    widths[model.structure.constrained] = np.asarray(model.constraint_scales()[0])
    known = {entry.name: (parameters, entry) for parameters, entry in reader.sets.items()}
    for name, start, _, _ in model.structure.sets:
        parameters, entry = known[origin.get(name, name)]
        limit = reader.thresholds.get(entry.name, -math.inf)
        for i, parameter in enumerate(parameters):
            constant = reader.points.get(parameter, {}).get("const", False) is True
            if constant and not usual[start + i]:
                fixed[start + i] = True
            if widths[start + i] < limit:
                fixed[start + i] = True
    if (fixed == model.structure.fixed).all():
        return model
    return dataclasses.replace(model, structure=dataclasses.replace(model.structure, fixed=fixed))
