"""Do the trained cuts name variables, and leave a range open?"""

from __future__ import annotations

from difana.analysis.config import AnalysisConfig
from difana.config import Problems


def check_cuts(config: AnalysisConfig, problems: Problems) -> None:
    """Note cuts that repeat or exclude each other, or whose variable is none."""
    if config.cuts and any(region.categories for region in config.regions):
        text = "Cuts and Categories of a region do not go together: choose one"
        problems.add(config.cuts[0].where, text)
    seen: dict[tuple[str, str], float] = {}
    for cut in config.cuts:
        if (cut.variable, cut.side) in seen:
            problems.add(cut.where, f"a second cut on '{cut}': one is enough")
        seen[cut.variable, cut.side] = cut.start
        low, high = (seen.get((cut.variable, side)) for side in ("above", "below"))
        if low is not None and high is not None and not low < high:
            text = f"the cuts on '{cut.variable}' keep nothing between {low:g} and {high:g}"
            problems.add(cut.where, f"{text}: choose another Start")
        if cut.variable in config.channels:
            text = f"the cut variable '{cut.variable}' is one of Particles: it needs one number an "
            problems.add(cut.where, f"{text}event, e.g. sum({cut.variable})")
        if cut.variable == "alpha" and any(own.type == "Transform" for own in config.systematics):
            text = "a cut variable 'alpha' would hide the parameter 'alpha' of Transform"
            problems.add(cut.where, f"{text}: write (alpha)")
