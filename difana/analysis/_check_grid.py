"""Is every signal a point of the grid, and does nothing else go against one network for all?"""

from __future__ import annotations

from difana._errors import nearest
from difana.analysis.config import AnalysisConfig
from difana.config import Node, Problems

_OTHERS = {  # what needs a network of its own for each point
    "Start": ("score",),
    "SecondObservable": None,
    "Steps": None,
}


def check_grid(config: AnalysisConfig, root: Node, problems: Problems) -> None:
    """Note what does not fit together."""
    grid = config.grid
    if grid is None:
        return
    line = root.line_of("Grid")
    if len(config.general.pois) > 1:
        problems.add(root.line_of("General.POI"), "Grid: limits are of one POI: give one")
    if any(region.categories for region in config.regions):
        problems.add(line, "Grid and Categories of a region do not go together: choose one")
    signals = [
        name for f in config.normfactors if f.name == config.general.poi for name in f.samples
    ]
    signals = signals or [sample.name for sample in config.simulated if sample.signal]
    seen: dict[float, str] = {}
    for point in grid.points:
        if point.sample not in signals:
            text = f"Grid: '{point.sample}' is none of the signals.{nearest(point.sample, signals)}"
            problems.add(point.where, text)
        other = seen.setdefault(point.value, point.sample)
        if other != point.sample:
            text = f"Grid: '{other}' and '{point.sample}' have the same value {point.value:g}"
            problems.add(point.where, f"{text}: list the files of both in one sample")
    named = [point.sample for point in grid.points]
    for name in sorted({name for name in named if named.count(name) > 1}):
        problems.add(line, f"Grid: two points have the sample '{name}'")
    for name in signals:
        if name not in named:
            text = f"Grid: the signal '{name}' is none of the Points: give its Value"
            problems.add(line, f"{text}, or take it out")
    if len(seen) < 2:
        problems.add(line, f"Grid: a grid has two points or more, here {len(seen)}")
    given = config.echo.get("Training") or {}
    for key, wrong in _OTHERS.items():
        value = given.get(key)
        if value and (wrong is None or value in wrong):
            problems.add(
                root.line_of(f"Training.{key}"),
                f"Training.{key}: {value} does not go with Grid, where one network is trained on "
                "cross-entropy for all points: leave it out",
            )
