"""HS3 JSON: its parts, read one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from difana._errors import ModelError, nearest
from difana.likelihood import modifiers as mod
from difana.likelihood.formats._hs3_lists import listed_constraints
from difana.likelihood.formats._hs3_parts import bins_of, fail, get, number, numbers

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
USUAL = {
    "normfactor": "none",
    "shapefactor": "none",
    "normsys": "gaussian",
    "histosys": "gaussian",
    "staterror": "gaussian",
    "lumi": "gaussian",
    "shapesys": "poisson",
}
_VECTORS = ("staterror", "shapesys", "shapefactor")


class Gaussian(NamedTuple):
    """A Gaussian constraint that the file writes as a distribution."""

    center: float
    width: float


@dataclasses.dataclass
class _Set:
    """A parameter set while a file is read."""

    name: str
    parameters: tuple[str, ...]
    kind: str
    place: str
    constraint: str | None = None
    named: str | None = None  # the distribution that constrains it
    centers: np.ndarray | None = None  # of the constraints of single bins


class Reader:
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
        self.functions: Mapping[str, Mapping[str, Any]] = {}
        self.constrained: set[Any] = set()  # what distributions beside the channels constrain

    def register(
        self, name: str, parameters: tuple[str, ...], kind: str, place: str, channel: str
    ) -> _Set:
        """Return the set of some parameters: modifiers that share them are correlated."""
        for parameter in parameters:
            if self.owner.setdefault(parameter, parameters) != parameters:
                fail(
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
            named = get(modifier, "constraint_name", found.place, (str,))
        for key in ("constraint_type", "constraint"):
            if isinstance(modifier.get(key), str):
                word = modifier[key]
                if word in _CONSTRAINTS:
                    kind = _CONSTRAINTS[word]
                elif word in self.distributions:
                    named = word
                else:
                    fail(found.place, f"no constraint '{word}'.{nearest(word, _CONSTRAINTS)}")
        if "constraints" in modifier:
            listed = get(modifier, "constraints", found.place, (list,))
            if len(listed) != 1 or not isinstance(listed[0], str):
                fail(found.place, "'constraints' must be a list with the name of one distribution")
            named = listed[0]
        if named is not None and named not in self.distributions:
            near = nearest(named, self.distributions)
            fail(found.place, f"no distribution '{named}' for its constraint.{near}")
        for key, value in (("constraint", kind), ("named", named)):
            known = getattr(found, key)
            if known is not None and value is not None and known != value:
                fail(found.place, f"constraints '{known}' and '{value}' for one parameter")
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
            fail(place, f"the interpolation {code!r} of a {kind} is not supported")
        if self.codes.setdefault(kind, found) != found:
            fail(place, f"{kind} with interpolation {found} beside {self.codes[kind]}: all of "
                  "one model must agree")  # fmt: skip

    def modifier(
        self, entry: Any, channel: Mapping[str, Any], sample: Mapping, values: np.ndarray, i: int
    ) -> mod.AbstractModifier:
        """Return one modifier of a sample."""
        place = f"distribution '{channel['name']}', sample '{sample.get('name', '')}'"
        kind = get(entry, "type", f"{place}, modifiers[{i}]", (str,))
        parameter = get(entry, "parameter", place, (str,), "-")
        name = get(entry, "name", place, (str,), "" if parameter == "-" else parameter)
        place = f"{place}, {kind} '{name}'"
        if kind in _VECTORS:
            return self.vector(entry, channel, sample, values, kind, name, place)
        if kind not in ("normfactor", "normsys", "histosys"):
            fail(place, f"modifiers of type '{kind}' are not supported")
        if parameter == "-":
            parameter = name if kind == "normfactor" else f"alpha_{name}"
        if kind == "normfactor" and parameter == "lumi" in self.constrained:
            kind = "lumi"
        found = self.register(parameter, (parameter,), kind, place, channel["name"])
        if kind in ("normfactor", "lumi"):
            self.constrain(found, entry, None)
            return mod.Lumi(found.name) if kind == "lumi" else mod.NormFactor(found.name)
        self.constrain(found, entry, "gaussian" if found.constraint is None else None)
        data = get(entry, "data", place, (Mapping,))
        self.interpolation(entry, data, channel.get("default_interpolation"), place)
        if kind == "normsys":
            hi, lo = number(data, "hi", place), number(data, "lo", place)
            if min(hi, lo) < 0:
                fail(place, f"a factor is negative (hi {hi:g}, lo {lo:g})")
            return mod.NormSys(hi, lo, found.name)
        pair = [
            numbers(get(data, side, place, (Mapping,)), "contents", f"{place}, {side}", len(values))
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
        names = get(entry, "parameters", place, (list,), [])
        names = names or [f"gamma_{usual}_bin_{b}" for b in range(len(values))]
        if len(names) != len(values) or not all(isinstance(x, str) for x in names):
            fail(place, f"'parameters' must be {len(values)} names")
        data = get(entry, "data", place, (Mapping,), {})
        listed = None
        if kind == "shapesys" and "constraints" in entry:
            widths = numbers(data, "vals", place, len(values)) if "vals" in data else np.zeros(0)
            if self.absolute and widths.size:
                widths = widths / np.where(values > 0, values, 1.0)
            listed = listed_constraints(self, entry["constraints"], names, widths.tolist(), place)
        elif kind == "shapesys" and "vals" not in data:
            kind = "shapefactor"
        found = self.register(name, tuple(names), kind, place, channel["name"])
        if kind == "shapefactor":
            self.constrain(found, entry, None)
            return mod.ShapeFactor(found.name)
        if listed is not None:
            found.constraint, found.centers = listed.kind, listed.centers
            return mod.ShapeSys(listed.widths * values, found.name)
        if kind == "shapesys":
            self.constrain(found, entry, "poisson" if found.constraint is None else None)
            widths = numbers(data, "vals", place, len(values))
            return mod.ShapeSys(widths if self.absolute else widths * values, found.name)
        general = get(channel, "staterror", place, (Mapping,), {})
        word = general.get("constraint_type", general.get("constraint", "Poisson"))
        if word not in _CONSTRAINTS:
            fail(place, f"no constraint {word!r}")
        given = "constraint" in entry or "constraint_type" in entry
        self.constrain(found, entry, None if given else _CONSTRAINTS[word])
        self.thresholds[found.name] = float(general.get("relThreshold", 0.0))
        if "uncertainties" in data:
            return mod.StatError(numbers(data, "uncertainties", place, len(values)), found.name)
        errors = numbers(sample["data"], "errors", f"{place}: the sample", len(values))
        return mod.StatError(errors, found.name)

    def channel(self, entry: Mapping[str, Any]) -> mod.Channel:
        """Return one channel."""
        place = f"distribution '{entry['name']}'"
        if entry.get("type") != "histfactory_dist":
            fail(place, f"type {entry.get('type')!r} is not supported, only histfactory_dist")
        bins = bins_of(get(entry, "axes", place, (list,)), place)
        templates = []
        for s, sample in enumerate(get(entry, "samples", place, (list,))):
            name = get(sample, "name", f"{place}, samples[{s}]", (str,), f"sample_{s}")
            where = f"{place}, sample '{name}'"
            values = numbers(get(sample, "data", where, (Mapping,)), "contents", where, bins)
            found = [
                self.modifier(modifier, entry, sample, values, i)
                for i, modifier in enumerate(get(sample, "modifiers", where, (list,), []))
            ]
            templates.append(mod.Template(values, tuple(found), name=name))
        return mod.Channel(tuple(templates), name=entry["name"])

    def gaussian(self, name: str) -> tuple[str, Gaussian]:
        """Return the parameter that a Gaussian distribution constrains, centre and width."""
        entry, place = self.distributions[name], f"distribution '{name}'"
        if entry.get("type") not in ("gaussian_dist", "normal_dist"):
            fail(place, f"a constraint of type {entry.get('type')!r} is not supported")
        x, mean = entry.get("x"), entry.get("mean")
        # RooFit writes the global observable as x or as mean, nom_... with its value elsewhere
        parameter = next((v for v in (x, mean) if isinstance(v, str) and (v,) in self.sets), None)
        if parameter is None:
            fail(place, "neither 'x' nor 'mean' is the parameter of a modifier")
        other = mean if parameter == x else x
        return parameter, Gaussian(self.value(other, place), self.value(entry.get("sigma"), place))

    def value(self, entry: Any, place: str) -> float:
        """Return a number, or the value of a parameter that stands for one."""
        if isinstance(entry, str) and entry in self.points:
            return number(self.points[entry], "value", f"parameter '{entry}'")
        return number({"value": entry}, "value", place)
