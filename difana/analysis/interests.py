"""Parameters of interest, of which an analysis may have several."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from difana.likelihood import Model
from difana.likelihood.structure import with_poi


def pois_of(poi: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parameters of interest, the leading one first.

    Example:
        >>> pois_of("mu"), pois_of(["a", "b"])
        (('mu',), ('a', 'b'))
    """
    return (poi,) if isinstance(poi, str) else tuple(poi)


def models_of(model: Model, poi: str | Sequence[str], *, fixed: bool = False) -> dict[str, Model]:
    """Return the model of each parameter of interest: the others are profiled, or held.

    Works inside ``jit``: only the static structure differs.

    Args:
        model: A model in which all of them act.
        poi: Their names.
        fixed: Hold the others where they start.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> rows = [Template([5.0], (NormFactor(name),), name=name) for name in ("a", "b")]
        >>> model = build_model([Channel(tuple(rows), name="SR")], poi="a")
        >>> found = models_of(model, ("a", "b"), fixed=True)
        >>> found["b"].structure.poi, found["b"].structure.fixed.tolist()
        ('b', [True, False])
    """
    names, found = pois_of(poi), {}
    for name in names:
        structure = model.structure
        if name != structure.poi:
            structure = with_poi(structure, name)
        if fixed and len(names) > 1:
            held = structure.fixed.copy()
            held[structure.parameters.index(name)] = False
            held[[structure.parameters.index(other) for other in names if other != name]] = True
            structure = dataclasses.replace(structure, fixed=held)
        found[name] = dataclasses.replace(model, structure=structure)
    return found
