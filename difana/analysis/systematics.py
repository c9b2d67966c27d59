"""Systematic uncertainties of an analysis file: their sides, by type, and how they are treated."""

from __future__ import annotations

import dataclasses
from typing import Any

from difana.config import (
    EXPRESSION,
    Kind,
    Nested,
    Node,
    Problems,
    WrongError,
    choice,
    expressions,
    filled,
    json_schema,
    key,
    number,
    only,
    read_mapping,
    some_of,
)
from difana.likelihood import SMOOTHINGS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a systematic; what its type does not need is None or empty.

    All of them are where the side is the nominal one.
    """

    normalization: float | None = key(
        "relative change of the yield, e.g. 0.05", number(above=-1.0, below=1e6), default=None
    )
    weight: str | None = key(
        "event weight on this side, if not that of the sample", EXPRESSION, default=None
    )
    files: tuple[str, ...] = key("files of this side; {Sample} is replaced", default=())
    tree: str | None = key("tree of this side", default=None)


_SIDES = {
    "Normalization": only(Side, "normalization"),
    "Weight": only(Side, "weight"),
    "Files": only(Side, "files", "tree", "weight"),
    "Tree": only(Side, "tree", "weight"),
}
_NOMINAL = "nominal"
_SIDE = Nested(
    lambda node, problems: node,
    {"anyOf": [*(json_schema(table) for table in _SIDES.values()), {"const": _NOMINAL}]},
)
_MIRRORED = ("average", "conservative")
PARTS = ("normalization", "shape")
_INDICES = ("region", "sample")


def _symmetrize(node: Node) -> bool | str:
    if isinstance(node.value, bool) or node.value in _MIRRORED:
        return node.value
    raise WrongError(f"must be true, false or one of {', '.join(_MIRRORED)}; got {node.kind()}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystematicConfig:
    """One systematic uncertainty; without ``down`` the up side is mirrored."""

    name: str = key("name of the systematic")
    type: str = key("kind of the systematic", choice(*_SIDES, "Transform"))
    samples: tuple[str, ...] = key("affected samples; all simulated ones if left out", default=())
    regions: tuple[str, ...] = key("affected regions; all if left out", default=())
    modifier_name: str = key("name of the nuisance parameter, if not Name", default=None)
    symmetrize: bool | str = key(
        "true: mirror Up where Down is missing; average, conservative: two sides made symmetric",
        Kind(_symmetrize, {"enum": [True, False, *_MIRRORED]}),
        default=False,
    )
    smooth: str | None = key(
        "how the final templates are smoothed relative to nominal",
        choice(*SMOOTHINGS),
        default=None,
    )
    keep: str | None = key(
        "the one part of the variation that is kept, of each sample and region",
        choice(*PARTS),
        default=None,
    )
    decorrelate: tuple[str, ...] = key(
        "a nuisance parameter of its own for each region, each sample, or both",
        some_of(*_INDICES),
        default=(),
    )
    up: Side | None = key("the up variation; its keys depend on Type", _SIDE, default=None)
    down: Side | None = key("the down variation; its keys depend on Type", _SIDE, default=None)
    transform: tuple[tuple[str, str], ...] = key(
        "new value of a feature or particle channel, an expression of these and alpha",
        expressions(),
        default=None,
    )
    where: str = filled(compare=False)


def by_type(values: dict[str, Any], node: Node, problems: Problems) -> dict[str, Any]:
    """Return the values of a systematic with its sides read: what they hold depends on its type."""
    kind, given = values["type"], {side: values[side] for side in ("up", "down")}
    values |= {"up": None, "down": None, "modifier_name": values["modifier_name"] or values["name"]}
    if kind == "Transform":
        for side in given.values():
            if side is not None:
                text = f"'{side.path.rpartition('.')[2]}' in {node.path}: a Transform has no sides"
                problems.add(side.line, f"{text}, alpha is in its formula")
        if values["transform"] is None:
            text = f"missing key 'Transform' in {node.path}: formulas by feature"
            problems.add(node.line, text)
    elif kind is not None:
        if values["transform"] is not None:
            text = f"'Transform' in {node.path} needs 'Type: Transform', but the type is {kind}"
            problems.add(node.line_of("Transform"), text)
        for name, side in given.items():
            if side is not None and side.value == _NOMINAL:
                values[name] = Side()
            elif side is not None:
                where = f"{side.path} (Type {kind})"
                values[name] = Side(**read_mapping(side, _SIDES[kind], problems, where=where))
            elif name == "up" or values["symmetrize"] is not True:
                remedy = ", or 'Symmetrize: true' to mirror 'Up', or 'Down: nominal'"
                remedy = "" if name == "up" else remedy
                shown = f" '{values['name']}'" if values["name"] is not None else ""
                text = f"systematic{shown} has no side '{name.title()}': give it{remedy}"
                problems.add(node.line, text)
        if given["up"] is not None and values["up"] == Side() == values["down"]:
            problems.add(node.line, f"{node.path}: both sides are nominal: leave it out")
    _check_keep(values, node, problems)
    return values | {"transform": values["transform"] or ()}


def _check_keep(values: dict[str, Any], node: Node, problems: Problems) -> None:
    """Refuse parts that a systematic of its type does not have."""
    kind = values["type"]
    if kind == "Normalization":
        for name in ("smooth", "keep"):
            if values[name] is not None:
                where = f"'{name.title()}' in {node.path}"
                problems.add(node.line_of(name.title()), f"{where}: a Normalization has no shape")
    elif kind == "Transform" and values["keep"] == "normalization":
        text = f"'Keep' in {node.path}: a Transform does not change the yield of the trained region"
        problems.add(node.line_of("Keep"), text)


def modifier_of(entry: SystematicConfig, *, sample: str, region: str) -> str:
    """Return the name of the nuisance parameter of a systematic on a sample in a region.

    Example:
        >>> entry = SystematicConfig(name="isr", type="Weight", modifier_name="isr",
        ...                          decorrelate=("sample", "region"), where="a.yaml:3")
        >>> modifier_of(entry, sample="ttbar", region="SR")
        'isr_SR_ttbar'
    """
    names = {"region": region, "sample": sample}
    own = [names[index] for index in _INDICES if index in entry.decorrelate]
    return "_".join([entry.modifier_name, *own])
