"""What all sections share: where pictures go, and what stands on them."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from difana.plot import _style as style
from difana.plot.report import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from difana.analysis import AnalysisConfig


@dataclass
class Look:
    """How the pictures of one analysis look.

    Attributes:
        folder: Folder of the PNG files.
        label: Experiment and status.
        conditions: Energy and luminosity as the experiment writes them; may be empty.
        poi: Parameter of interest.
        pois: All of them, the leading one first.
        signals: Parameter of interest of each signal sample.
        names: What pictures call things, by their names in the configuration.
        written: Files that were written.
    """

    folder: Path
    label: str
    conditions: str
    pois: tuple[str, ...]
    signals: Mapping[str, str]
    names: Mapping[str, str]
    written: set[str] = field(default_factory=set)

    def called(self, name: str) -> str:
        """Return what a picture calls something."""
        return style.safe(self.names.get(name, name))

    def said(self, name: str) -> str:
        """Return the same for tables: without the signs of mathematics."""
        return _plain(self.names[name]) if name in self.names else name

    def region(self, name: str) -> str:
        """Return what a region is called in a sentence."""
        return self.said(name) if name in self.names else f"region {name}"

    def heading(self, name: str) -> str:
        """Return the same as a heading."""
        called = self.region(name)
        return called[0].upper() + called[1:]

    @property
    def poi(self) -> str:
        """The leading parameter of interest."""
        return self.pois[0]

    @property
    def mu(self) -> str:
        """The leading parameter of interest in pictures."""
        return self.symbol(self.poi)

    def symbol(self, poi: str) -> str:
        """Return a parameter of interest in pictures."""
        return style.symbol(poi) if poi not in self.names else self.called(poi)

    def unit(self, sample: str) -> str:
        """Return what pictures call a signal sample of unit strength."""
        return f"{self.called(sample)} ({self.symbol(self.signals.get(sample, self.poi))} = 1)"

    @property
    def all_at_one(self) -> str:
        """Say in tables that all parameters of interest are 1."""
        return f"{', '.join(map(self.said, self.pois))} = 1"

    def title(self, *words: str) -> str:
        """Return the title at the right: words, and the conditions below them."""
        lines = [", ".join(word for word in words if word), self.conditions]
        return "\n".join(line for line in lines if line)

    def picture(self, name: str, figure: Figure, caption: str, *, wide: bool = False) -> Picture:
        """Write a figure as a PNG file, and return it with its caption."""
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
        if stem in self.written:  # names that differ in other signs only
            stem = f"{stem}_{len(self.written)}"
        self.written.add(stem)
        path = self.folder / f"{stem}.png"
        figure.savefig(path, dpi=120)
        return Picture(path, caption, wide=wide)


def look_of(config: AnalysisConfig, folder: Path) -> Look:
    """Return the look of the pictures of an analysis."""
    general = config.general
    label = general.label or "difana"
    return Look(
        folder,
        label,
        conditions(label, general.energy, general.luminosity_label),
        general.pois,
        {
            sample: factor.name
            for factor in config.normfactors
            if factor.name in general.pois
            for sample in factor.samples
        },
        dict(config.labels),
    )


def _plain(text: str) -> str:
    def greek(found: re.Match[str]) -> str:
        name = found[1]
        size = "CAPITAL" if name[0].isupper() else "SMALL"
        with contextlib.suppress(KeyError):
            return unicodedata.lookup(f"GREEK {size} LETTER {name.upper()}")
        return name

    return re.sub(r"[${}\\]", "", re.sub(r"\\([A-Za-z]+)", greek, text))


def conditions(label: str, energy: str | None, luminosity: str | None) -> str:
    r"""Return energy and luminosity as the experiment of the label writes them.

    Example:
        >>> conditions("CMS Preliminary", "13 TeV", "138 fb-1")
        '138 fb⁻¹ (13 TeV)'
        >>> conditions("ATLAS Internal", "13.6 TeV", "29 fb^{-1}")
        '√s = 13.6 TeV, 29 fb⁻¹'
    """
    recorded = re.sub(r"(?<=[A-Za-zµ])\s*\^?\{?[-\u2212]1\}?", "⁻¹", luminosity or "")
    if label.split()[0] == "CMS":
        parts = [recorded, f"({energy})" if energy else ""]
        return style.safe(" ".join(part for part in parts if part))
    parts = [f"√s = {energy}" if energy else "", recorded]
    return style.safe(", ".join(part for part in parts if part))
