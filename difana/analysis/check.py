"""Whether an analysis can run: every file is opened and every expression tried, before training."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from difana._errors import InputError
from difana._progress import ProgressBar
from difana.analysis._checks import check_references
from difana.analysis._fixed import WHOLE, variable_columns, variable_of
from difana.analysis._sources import Source, systematics_of, weight_columns
from difana.analysis.config import AnalysisConfig
from difana.config import Node, Problems, read_file
from difana.data import Complaint, Probe, Probed


@dataclasses.dataclass(frozen=True)
class Checked:
    """What `check` looked at, of an analysis in which it found no problem.

    Attributes:
        config: The configuration.
        entries: Number of entries by file, of each sample with its variations.
        looked_at: Number of entries of each file that were looked at, at most.
        notes: What is not wrong, but worth a look.
    """

    config: AnalysisConfig
    entries: Mapping[str, Mapping[str, int]]
    looked_at: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Return what was looked at in one line."""
        config = self.config
        files = {file for own in self.entries.values() for file in own}
        parts = {
            "samples": len(config.samples),
            "regions": len(config.regions),
            "systematics": len(config.systematics),
            "files": len(files),
        }
        listed = ", ".join(f"{count} {name}" for name, count in parts.items())
        return f"{config.path}: no problem in {listed} (first {self.looked_at} entries of each)"


def check(
    path: str | Path, *, entries: int = 100, progress: bool = True, allow_code: bool = False
) -> Checked:
    """Check an analysis file and what it names: files, trees, branches, expressions, all at once.

    The first entries of every file are read, in every region (observed ones in those that are not
    blinded) and for every systematic; no event is kept and nothing is trained. What shows in later
    entries alone (a number that is not finite, an empty bin) is found by the run.

    Args:
        path: The YAML file.
        entries: Number of entries of each file that are looked at.
        progress: Show a bar on a terminal.
        allow_code: Import code that the file names, as in `read_config`.

    Returns:
        What was looked at.

    Raises:
        ConfigError: Lists all problems, each with file, line and remedy.

    Example:
        >>> import tempfile
        >>> text = '''
        ... Features: [mass]
        ... Regions: [{Name: SR}]
        ... Samples: [{Name: s, Files: s.root, Signal: true}, {Name: b, Files: b.root}]
        ... '''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "analysis.yaml")
        ...     _ = path.write_text(text)
        ...     check(path)
        Traceback (most recent call last):
        difana._errors.ConfigError: ...analysis.yaml has 2 problems:
          ...analysis.yaml:4: no file '...b.root'...
          ...analysis.yaml:4: no file '...s.root'...
    """
    found: dict[str, dict[str, int]] = {}
    notes: list[str] = []

    def look(config: AnalysisConfig, root: Node, problems: Problems) -> AnalysisConfig:
        broken = bool(problems)  # references that do not fit hide no problem of the files
        config = check_references(config, root, problems, allow_code=allow_code)
        if not broken:
            _look(config, root, problems, entries, progress=progress, found=found, notes=notes)
        return config

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        config = read_file(path, AnalysisConfig, check=look)
    notes += [str(w.message) for w in caught if w.category is UserWarning]
    return Checked(config, found, entries, tuple(dict.fromkeys(notes)))


def _look(
    config: AnalysisConfig,
    root: Node,
    problems: Problems,
    entries: int,
    *,
    progress: bool,
    found: dict[str, dict[str, int]],
    notes: list[str],
) -> None:
    """Note all that is wrong with the files; ``found`` gets their entries."""
    sources = list(_sources(config))
    alike: dict[tuple[int, str], tuple[str, set[str]]] = {}
    with (
        ProgressBar("check", total=len(sources), enabled=progress) as bar,
        Probe(entries=entries) as probe,
    ):
        for source in sources:
            weights = _weights(source)
            probed = _probed(source, probe, weights)
            found.setdefault(source.sample.name, {}).update(probed.entries)
            for complaint in probed.complaints:
                line = _line(source, root, complaint, weights)
                # one branch that is missing in a hundred files is one problem
                text = complaint.text
                if complaint.kind != "file":
                    text = text.replace(complaint.path, "*")
                _, files = alike.setdefault((line, text), (complaint.text, set()))
                files.add(complaint.path)
            if probed.columns and not source.region.trained:
                _try_variable(source, root, probed, problems)
            if not probed.complaints and not any(len(c) for c in probed.columns.values()):
                notes.append(
                    f"{source.where}: none of the {probed.looked_at} entries looked at is selected"
                )
            bar.advance(1)
    for (line, _), (text, files) in alike.items():
        more = f" (and so in {len(files) - 1} more files)" if len(files) > 1 else ""
        problems.add(line, f"{text}{more}")


def _sources(config: AnalysisConfig) -> Iterator[Source]:
    """Yield all sources of events, those of one sample after the other."""
    for sample in config.samples:
        for region in config.regions:
            hidden = sample.data and region.name in config.blinded
            if hidden or (sample.regions and region.name not in sample.regions):
                continue
            if sample.data and region.name in config.blinded:
                continue
            yield Source(config, sample, region)
            yield from Source(config, sample, region).subtracted()
            for entry in systematics_of(config, sample, region, "Files", "Tree"):
                for side in ("up", "down"):
                    if getattr(entry, side) is not None:
                        yield Source(config, sample, region, entry, side)


def _weights(source: Source) -> dict[str, tuple[str, str]]:
    """Return section and key, and expression, of all weights of a source, by name."""
    found = {}
    if source.weight is not None:
        own = "Weight"
        if source.systematic is not None and source.shift.weight is not None:
            own = f"{source.systematic.name}:{source.side.capitalize()}.Weight"
        found["weight"] = (own, source.weight)
    if source.systematic is None:
        found |= {
            name: (f"{entry.name}:{side.capitalize()}.Weight", text)
            for name, (entry, side, text) in weight_columns(source).items()
        }
    return found


def _probed(source: Source, probe: Probe, weights: Mapping[str, tuple[str, str]]) -> Probed:
    config, trained = source.config, source.region.trained
    cloud = config.particles if trained else None
    return probe(
        source.files,
        tree=source.tree,
        columns=config.table if trained else variable_columns(source),
        weights={name: text for name, (_, text) in weights.items()},
        selections=source.filters,
        particles={} if cloud is None else dict(cloud.channels),
        identifiers=() if source.sample.data or not trained else config.general.identifier,
        dtype="float32" if trained else "float64",
    )


def _try_variable(source: Source, root: Node, probed: Probed, problems: Problems) -> None:
    """Evaluate the variable of a fixed region, and shifted by each Transform."""
    shifts = systematics_of(source.config, source.sample, source.region, "Transform")
    for entry in (None, *(() if source.systematic else shifts)):
        for alpha in (1.0, -1.0)[: 1 if entry is None else 2]:
            try:
                variable_of(source, probed.columns, entry=entry, alpha=alpha)
            except InputError as error:
                line = _entry(root, "Regions", source.region.written).line_of("Variable")
                if entry is not None:
                    line = _entry(root, "Systematics", entry.name).line_of("Transform")
                place = (source.systematic or source.sample).where
                problems.add(line, str(error).removeprefix(f"{place}: "))
                if entry is None:
                    return  # shifted it is no better


def _line(
    source: Source, root: Node, complaint: Complaint, weights: Mapping[str, tuple[str, str]]
) -> int:
    """Return the line of the key that a complaint is about."""
    sample = _entry(root, "Samples", source.sample.name)
    region = _entry(root, "Regions", source.region.written)
    match complaint.kind:
        case "file":
            tree = complaint.text.startswith(("no tree", "no group"))
            return _line_of_file(source, root, "Tree" if tree else "Files")
        case "selection":
            own = source.region.name in dict(source.sample.region_filters)
            if complaint.name == "region" and own:
                return sample.line_of(f"RegionFilters.{source.region.written}")
            return (region if complaint.name == "region" else sample).line_of("Filter")
        case "identifier":
            return root.line_of("General.Identifier")
        case "particles":
            return root.line_of(f"Particles.Channels.{complaint.name}")
        case "weight":
            name, _, key = weights[complaint.name][0].rpartition(":")
            return (_entry(root, "Systematics", name) if name else sample).line_of(key)
    if complaint.name == WHOLE or complaint.name not in dict(source.config.features):
        return root.line_of("Cuts") if source.region.trained else region.line_of("Variable")
    features = root.value["Features"]
    if isinstance(features.value, dict):
        return features.value[complaint.name].line
    return next(node.line for node in features.value if str(node.value) == complaint.name)


def _line_of_file(source: Source, root: Node, key: str) -> int:
    """Return the line that names a file or its tree: of the systematic, the sample, or all."""
    sample = _entry(root, "Samples", source.sample.name)
    if source.systematic is not None:
        shifted = _entry(root, "Systematics", source.systematic.name)
        side = shifted.value[source.side.capitalize()]
        if key in side.value or (key == "Files" and source.systematic.type == "Files"):
            return side.line_of(key)
    if key == "Tree" and key not in sample.value:
        return root.line_of("General.Tree")
    return sample.line_of(key)


def _entry(root: Node, section: str, name: str) -> Node:
    """Return an entry of a list by its name."""
    entries = root.value[section].value
    return next(node for node in entries if node.value["Name"].value == name)
