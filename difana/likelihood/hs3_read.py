"""Models from HS3 JSON, the HEP Statistics Serialization Standard: its HistFactory part."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError, nearest
from difana.likelihood import modifiers as mod
from difana.likelihood._json import load
from difana.likelihood.build import build_model
from difana.likelihood.model import Model

_CONSTRAINTS = {
    "Gauss": "gaussian",
    "Gaussian": "gaussian",
    "Poisson": "poisson",
    "LogNormal": "lognormal",
    "Lognormal": "lognormal",
    "Const": "none",
}
_CODES: dict[str, dict[Any, str]] = {  # names of pyhs3, codes of ROOT, structs of ROOT, words
    "normsys": {
        "code1": "code1", 1: "code1", ("mult", "exp", "exp"): "code1", "log": "code1",
        "code4": "code4", 4: "code4", 5: "code4", ("mult", "poly6", "exp"): "code4",
    },
    "histosys": {
        "code0": "code0", 0: "code0", ("add", "poly1", "poly1"): "code0", "lin": "code0",
        "code2": "code2", 2: "code2", ("add", "poly2", "poly1"): "code2", "parabolic": "code2",
        "code4p": "code4p", 4: "code4p", ("add", "poly6", "poly1"): "code4p", "poly6": "code4p",
    },
}  # fmt: skip
_USUAL = {
    "normfactor": "none",
    "shapefactor": "none",
    "normsys": "gaussian",
    "histosys": "gaussian",
    "staterror": "gaussian",
    "lumi": "gaussian",
    "shapesys": "poisson",
}
_VECTORS = ("staterror", "shapesys", "shapefactor")


class _Gaussian(NamedTuple):
    """A Gaussian constraint that the file writes as a distribution."""

    center: float
    width: float


def _fail(place: str, problem: str) -> NoReturn:
    raise ModelError(f"not valid HS3: {place}: {problem}")


def _get(entry: Any, key: str, place: str, kinds: tuple[type, ...], default: Any = None) -> Any:
    """Return an entry of an object, of one of some types."""
    if not isinstance(entry, Mapping):
        _fail(place, f"expected an object, not a {type(entry).__name__}")
    if key not in entry:
        if default is None:
            _fail(place, f"the key '{key}' is missing")
        return default
    if not isinstance(entry[key], kinds) or (isinstance(entry[key], bool) and bool not in kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        _fail(f"{place}, '{key}'", f"expected {wanted}, not {type(entry[key]).__name__}")
    return entry[key]


def _named(entries: Any, place: str) -> dict[str, Mapping[str, Any]]:
    """Return a list of named objects by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for i, entry in enumerate(entries):
        name = _get(entry, "name", f"{place}[{i}]", (str,))
        if name in found:
            _fail(place, f"two are called '{name}'")
        found[name] = entry
    return found


def _vector(entry: Any, key: str, place: str, size: int | None = None) -> np.ndarray:
    """Return a list of finite numbers."""
    values = _get(entry, key, place, (list,))
    if not values or any(isinstance(x, bool) or not isinstance(x, (int, float)) for x in values):
        _fail(f"{place}, '{key}'", "expected a list of numbers")
    if any(not abs(x) <= 1e100 for x in values):
        _fail(f"{place}, '{key}'", "a number is not finite or beyond 1e+100")
    if size is not None and len(values) != size:
        _fail(f"{place}, '{key}'", f"{len(values)} numbers where {size} are needed")
    return np.array(values, float)


def _number(entry: Any, key: str, place: str) -> float:
    value = _get(entry, key, place, (int, float))
    if not abs(value) <= 1e100:
        _fail(f"{place}, '{key}'", "the number is not finite or beyond 1e+100")
    return float(value)


def _bins(axes: Any, place: str) -> int:
    """Return the number of bins of a histogram."""
    total = 1
    for i, axis in enumerate(axes):
        where = f"{place}, axes[{i}]"
        edges = "edges" if "edges" in axis else "bounds"  # the latter in files of older ROOT
        if isinstance(axis, Mapping) and edges in axis:
            values = _vector(axis, edges, where)
            if (np.diff(values) <= 0).any():
                _fail(where, "edges must increase")
            total *= len(values) - 1
        else:
            total *= _get(axis, "nbins", where, (int,))
    if not 0 < total < 10_000_000:
        _fail(place, f"{total} bins")
    return total


@dataclasses.dataclass
class _Set:
    """A parameter set while a file is read."""

    name: str
    parameters: tuple[str, ...]
    kind: str
    place: str
    constraint: str | None = None
    named: str | None = None  # the distribution that constrains it


class _Reader:
    """Channels, and the parameter sets met in them."""

    def __init__(self, distributions: Mapping[str, Mapping[str, Any]], shapesys: str) -> None:
        if shapesys not in ("relative", "absolute"):
            raise ModelError(f"shapesys '{shapesys}': expected 'relative' or 'absolute'")
        self.distributions, self.absolute = distributions, shapesys == "absolute"
        self.sets: dict[tuple[str, ...], _Set] = {}
        self.owner: dict[str, tuple[str, ...]] = {}
        self.taken: set[str] = set()
        self.codes: dict[str, str] = {}
        self.thresholds: dict[str, float] = {}
        self.points: Mapping[str, Mapping[str, Any]] = {}
        self.constrained: set[Any] = set()  # what distributions beside the channels constrain

    def register(
        self, name: str, parameters: tuple[str, ...], kind: str, place: str, channel: str
    ) -> _Set:
        """Return the set of some parameters: modifiers that share them are correlated."""
        for parameter in parameters:
            if self.owner.setdefault(parameter, parameters) != parameters:
                _fail(
                    place,
                    f"parameter '{parameter}' also stands in a set of "
                    f"{len(self.owner[parameter])}; sets that overlap in part are not supported",
                )
        if parameters not in self.sets:
            chosen = name
            if chosen in self.taken and kind in _VECTORS:
                chosen = f"{name}_{channel}"  # one name, other parameters in each channel
            while chosen in self.taken:
                chosen += "'"
            self.taken.add(chosen)
            self.sets[parameters] = _Set(chosen, parameters, kind, place)
        return self.sets[parameters]

    def constrain(self, found: _Set, modifier: Mapping[str, Any], usual: str | None) -> None:
        """Note the constraint of a set; all its modifiers must agree."""
        kind, named = usual, None
        if "constraint_name" in modifier:
            named = _get(modifier, "constraint_name", found.place, (str,))
        for key in ("constraint_type", "constraint"):
            if isinstance(modifier.get(key), str):
                word = modifier[key]
                if word in _CONSTRAINTS:
                    kind = _CONSTRAINTS[word]
                elif word in self.distributions:
                    named = word
                else:
                    _fail(found.place, f"no constraint '{word}'.{nearest(word, _CONSTRAINTS)}")
        if "constraints" in modifier:
            _fail(found.place, "lists of constraints are not supported")
        if named is not None and named not in self.distributions:
            near = nearest(named, self.distributions)
            _fail(found.place, f"no distribution '{named}' for its constraint.{near}")
        for key, value in (("constraint", kind), ("named", named)):
            known = getattr(found, key)
            if known is not None and value is not None and known != value:
                _fail(found.place, f"constraints '{known}' and '{value}' for one parameter")
            setattr(found, key, value if value is not None else known)

    def interpolation(self, modifier: Mapping, data: Mapping, usual: Any, place: str) -> None:
        """Note the interpolation of a kind of modifiers; a model knows one for each."""
        kind = modifier["type"]
        code = modifier.get("interpolation", data.get("interpolation", usual))
        if isinstance(code, Mapping):
            out = code.get("out") or code.get("in")
            code = (code.get("type"), code.get("in"), out)
        try:
            found = _CODES[kind].get("code4" if kind == "normsys" else "code4p") if (
                code is None
            ) else _CODES[kind].get(code)  # fmt: skip
        except TypeError:
            found = None
        if found is None:
            _fail(place, f"the interpolation {code!r} of a {kind} is not supported")
        if self.codes.setdefault(kind, found) != found:
            _fail(place, f"{kind} with interpolation {found} beside {self.codes[kind]}: all of "
                  "one model must agree")  # fmt: skip

    def modifier(
        self, entry: Any, channel: Mapping[str, Any], sample: Mapping, values: np.ndarray, i: int
    ) -> mod.AbstractModifier:
        """Return one modifier of a sample."""
        place = f"distribution '{channel['name']}', sample '{sample.get('name', '')}'"
        kind = _get(entry, "type", f"{place}, modifiers[{i}]", (str,))
        parameter = _get(entry, "parameter", place, (str,), "-")
        name = _get(entry, "name", place, (str,), "" if parameter == "-" else parameter)
        place = f"{place}, {kind} '{name}'"
        if kind in _VECTORS:
            return self.vector(entry, channel, sample, values, kind, name, place)
        if kind not in ("normfactor", "normsys", "histosys"):
            _fail(place, f"modifiers of type '{kind}' are not supported")
        if parameter == "-":
            parameter = name if kind == "normfactor" else f"alpha_{name}"
        if kind == "normfactor" and parameter == "lumi" in self.constrained:
            kind = "lumi"
        found = self.register(parameter, (parameter,), kind, place, channel["name"])
        if kind in ("normfactor", "lumi"):
            self.constrain(found, entry, None)
            return mod.Lumi(found.name) if kind == "lumi" else mod.NormFactor(found.name)
        self.constrain(found, entry, "gaussian" if found.constraint is None else None)
        data = _get(entry, "data", place, (Mapping,))
        self.interpolation(entry, data, channel.get("default_interpolation"), place)
        if kind == "normsys":
            hi, lo = _number(data, "hi", place), _number(data, "lo", place)
            if min(hi, lo) < 0:
                _fail(place, f"a factor is negative (hi {hi:g}, lo {lo:g})")
            return mod.NormSys(hi, lo, found.name)
        pair = [
            _vector(
                _get(data, side, place, (Mapping,)), "contents", f"{place}, {side}", len(values)
            )
            for side in ("hi", "lo")
        ]
        return mod.HistoSys(pair[0], pair[1], found.name)

    def vector(
        self, entry: Any, channel: Mapping, sample: Mapping, values: np.ndarray, kind: str,
        name: str, place: str,
    ) -> mod.AbstractModifier:  # fmt: skip
        """Return a modifier with one parameter a bin."""
        name = name or f"{kind}_{channel['name']}"
        usual = f"stat_{channel['name']}" if kind == "staterror" else name
        names = _get(entry, "parameters", place, (list,), [])
        names = names or [f"gamma_{usual}_bin_{b}" for b in range(len(values))]
        if len(names) != len(values) or not all(isinstance(x, str) for x in names):
            _fail(place, f"'parameters' must be {len(values)} names")
        data = _get(entry, "data", place, (Mapping,), {})
        if kind == "shapesys" and "vals" not in data:
            kind = "shapefactor"
        found = self.register(name, tuple(names), kind, place, channel["name"])
        if kind == "shapefactor":
            self.constrain(found, entry, None)
            return mod.ShapeFactor(found.name)
        if kind == "shapesys":
            self.constrain(found, entry, "poisson" if found.constraint is None else None)
            widths = _vector(data, "vals", place, len(values))
            return mod.ShapeSys(widths if self.absolute else widths * values, found.name)
        general = _get(channel, "staterror", place, (Mapping,), {})
        word = general.get("constraint_type", general.get("constraint", "Poisson"))
        if word not in _CONSTRAINTS:
            _fail(place, f"no constraint {word!r}")
        given = "constraint" in entry or "constraint_type" in entry
        self.constrain(found, entry, None if given else _CONSTRAINTS[word])
        self.thresholds[found.name] = float(general.get("relThreshold", 0.0))
        if "uncertainties" in data:
            return mod.StatError(_vector(data, "uncertainties", place, len(values)), found.name)
        errors = _vector(sample["data"], "errors", f"{place}: the sample", len(values))
        return mod.StatError(errors, found.name)

    def channel(self, entry: Mapping[str, Any]) -> mod.Channel:
        """Return one channel."""
        place = f"distribution '{entry['name']}'"
        if entry.get("type") != "histfactory_dist":
            _fail(place, f"type {entry.get('type')!r} is not supported, only histfactory_dist")
        bins = _bins(_get(entry, "axes", place, (list,)), place)
        templates = []
        for s, sample in enumerate(_get(entry, "samples", place, (list,))):
            name = _get(sample, "name", f"{place}, samples[{s}]", (str,), f"sample_{s}")
            where = f"{place}, sample '{name}'"
            values = _vector(_get(sample, "data", where, (Mapping,)), "contents", where, bins)
            found = [
                self.modifier(modifier, entry, sample, values, i)
                for i, modifier in enumerate(_get(sample, "modifiers", where, (list,), []))
            ]
            templates.append(mod.Template(values, tuple(found), name=name))
        return mod.Channel(tuple(templates), name=entry["name"])

    def gaussian(self, name: str) -> tuple[str, _Gaussian]:
        """Return the parameter that a Gaussian distribution constrains, centre and width."""
        entry, place = self.distributions[name], f"distribution '{name}'"
        if entry.get("type") not in ("gaussian_dist", "normal_dist"):
            _fail(place, f"a constraint of type {entry.get('type')!r} is not supported")
        x, mean = entry.get("x"), entry.get("mean")
        # RooFit writes the global observable as x or as mean, nom_... with its value elsewhere
        parameter = next((v for v in (x, mean) if isinstance(v, str) and (v,) in self.sets), None)
        if parameter is None:
            _fail(place, "neither 'x' nor 'mean' is the parameter of a modifier")
        other = mean if parameter == x else x
        return parameter, _Gaussian(self.value(other, place), self.value(entry.get("sigma"), place))

    def value(self, entry: Any, place: str) -> float:
        """Return a number, or the value of a parameter that stands for one."""
        if isinstance(entry, str) and entry in self.points:
            return _number(self.points[entry], "value", f"parameter '{entry}'")
        return _number({"value": entry}, "value", place)


def _choose(spec: Mapping[str, Any], analysis: str | None) -> tuple[Mapping, Mapping]:
    """Return the analysis and its likelihood."""
    analyses = _named(_get(spec, "analyses", "the file", (list,), []), "analyses")
    likelihoods = _named(_get(spec, "likelihoods", "the file", (list,)), "likelihoods")
    known = analyses or likelihoods
    if analysis is None and len(known) != 1:
        raise ModelError(f"the file holds {len(known)} analyses, {list(known)}: name one")
    chosen = analysis if analysis is not None else next(iter(known))
    if chosen not in known:
        raise ModelError(f"no analysis '{chosen}' in the file.{nearest(chosen, known)}")
    if not analyses:
        return {}, likelihoods[chosen]
    name = _get(analyses[chosen], "likelihood", f"analysis '{chosen}'", (str,))
    if name not in likelihoods:
        _fail(f"analysis '{chosen}'", f"no likelihood '{name}'.{nearest(name, likelihoods)}")
    return analyses[chosen], likelihoods[name]


def _bounds(spec: Mapping[str, Any], analysis: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    domains = _named(_get(spec, "domains", "the file", (list,), []), "domains")
    names = analysis.get("domains", [analysis["domain"]] if "domain" in analysis else [])
    chosen = [name for name in names if isinstance(name, str)] or ["default_domain"]
    found = {}
    for name in chosen:
        place = f"domain '{name}'"
        if name not in domains:
            if name == "default_domain":
                continue
            _fail(place, f"there is none.{nearest(name, domains)}")
        for axis in _get(domains[name], "axes", place, (list,)):
            parameter = _get(axis, "name", place, (str,))
            if "min" in axis and "max" in axis:
                found[parameter] = _number(axis, "min", place), _number(axis, "max", place)
    return found


def _points(spec: Mapping[str, Any], analysis: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    points = _named(_get(spec, "parameter_points", "the file", (list,), []), "parameter_points")
    found: dict[str, Mapping[str, Any]] = {}
    for name in ("default_values", analysis.get("init")):
        if name in points:
            entries = _get(points[name], "parameters", f"parameter point '{name}'", (list,))
            found |= _named(entries, f"parameter point '{name}'")
        elif name is not None and name != "default_values":
            _fail(f"parameter point {name!r}", "there is none")
    return found


def _settings(
    reader: _Reader,
    bounds: Mapping[str, tuple[float, float]],
    constraints: Mapping[str, _Gaussian],
) -> list[mod.Parameter]:
    """Return the settings of all parameter sets."""
    found = []
    for parameters, entry in reader.sets.items():
        points = [reader.points.get(parameter) for parameter in parameters]
        values = [
            _number(point, "value", f"parameter '{point['name']}'")
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
                auxdata=None if gaussian is None else gaussian.center,
                sigma=sigma,
                constraint=None if constraint == _USUAL[entry.kind] else constraint,
            )
        )
    return found


def from_hs3(
    source: Mapping[str, Any] | str | Path | IO[bytes],
    *,
    analysis: str | None = None,
    poi: str | None = "",
    shapesys: str = "relative",
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
    _get(_get(spec, "metadata", "the file", (Mapping,)), "hs3_version", "metadata", (str,))
    chosen, likelihood = _choose(spec, analysis)
    distributions = _named(_get(spec, "distributions", "the file", (list,)), "distributions")
    sets = _named(_get(spec, "data", "the file", (list,)), "data")
    place = f"likelihood '{likelihood['name']}'"
    names = _get(likelihood, "distributions", place, (list,))
    data = _get(likelihood, "data", place, (list,))
    if len(names) != len(data):
        _fail(place, f"{len(names)} distributions and {len(data)} data")
    reader = _Reader(distributions, shapesys)
    reader.points = _points(spec, chosen)
    auxiliary = _get(likelihood, "aux_distributions", place, (list,), [])
    for name in auxiliary:
        if not isinstance(name, str) or name not in distributions:
            _fail(place, f"no distribution {name!r}.{nearest(str(name), distributions)}")
        reader.constrained |= {distributions[name].get("x"), distributions[name].get("mean")}
    channels, observed = [], []
    for name, label in zip(names, data, strict=True):
        if not isinstance(name, str) or name not in distributions:
            _fail(place, f"no distribution {name!r}.{nearest(str(name), distributions)}")
        if not isinstance(label, str) or label not in sets:
            _fail(place, f"no data {label!r}.{nearest(str(label), sets)}")
        if sets[label].get("type") != "binned":
            _fail(f"data '{label}'", f"type {sets[label].get('type')!r} is not supported")
        channel = reader.channel(distributions[name])
        channels.append(channel)
        bins = len(np.asarray(channel.templates[0].values)) if channel.templates else 0
        observed.append(_vector(sets[label], "contents", f"data '{label}'", bins))
    named = [entry.named for entry in reader.sets.values() if entry.named is not None]
    constraints = dict(reader.gaussian(name) for name in dict.fromkeys([*named, *auxiliary]))
    interests = _get(chosen, "parameters_of_interest", "the analysis", (list,), [])
    if poi == "":
        if len(interests) > 1:
            raise ModelError(f"several parameters of interest, {interests}: name one with `poi`")
        poi = interests[0] if interests else None
    settings = _settings(reader, _bounds(spec, chosen), constraints)
    model = build_model(channels, poi=poi, parameters=settings, interpolation=reader.codes or None)
    model = _hold(model, reader)
    return model, model.data(jnp.asarray(np.concatenate(observed)))


def _hold(model: Model, reader: _Reader) -> Model:
    """Hold constant parameters, and statistics below their threshold."""
    fixed = model.structure.fixed.copy()
    usual = np.asarray(model.fixed)  # bins without width are held anyway
    widths = np.zeros(len(model.parameters))
    widths[model.structure.constrained] = np.asarray(model.constraint_scales()[0])
    sets = {name: (start, size) for name, start, size, _ in model.structure.sets}
    for parameters, entry in reader.sets.items():
        start, _ = sets[entry.name]
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
