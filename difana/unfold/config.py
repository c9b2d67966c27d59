"""The configuration of an unfolding from YAML, checked before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difana._errors import nearest
from difana.config import (
    EDGES,
    EVENTS,
    EXPRESSION,
    SEED,
    Node,
    Problems,
    choice,
    expressions,
    file_schema,
    filled,
    integer,
    key,
    like,
    number,
    read_file,
)
from difana.train import Training

_METHODS = ("OmniFold", "Flow", "Bayes", "Inversion", "Likelihood")
_MOST_CELLS = 25_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralSection:
    """Settings of the whole unfolding."""

    method: str = key("how to unfold", choice(*_METHODS), default="OmniFold")
    seed: int = key("seed of networks, batches and replicas", SEED, default=0)
    input_path: str | None = key("folder of all Files; relative to this file", default=None)
    tree: str | None = key("tree of all ROOT files (group of HDF5 files)", default=None)
    fiducial: str = key("the fiducial region in words", default="")
    luminosity: str = key("integrated luminosity with its unit", default="")
    joint: bool = key("one histogram in all observables (binned methods)", default=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationSection:
    """The simulated events at both levels."""

    files: tuple[str, ...] = key("file, glob or list of these")
    tree: str | None = key("tree, if not the one of General", default=None)
    pass_gen: str = key("true for events of the fiducial region", EXPRESSION, default="1 > 0")
    pass_reco: str = key("true for reconstructed events", EXPRESSION, default="1 > 0")
    gen_weight: str = key("weight at truth level, a yield", EXPRESSION, default="1")
    reco_weight: str | None = key(
        "weight at detector level; GenWeight if left out", EXPRESSION, default=None
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredSection:
    """Events at detector level: data or background."""

    files: tuple[str, ...] = key("file, glob or list of these")
    tree: str | None = key("tree, if not the one of General", default=None)
    weight: str = key("event weight", EXPRESSION, default="1")
    filter: str | None = key("selection", EXPRESSION, default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObservableEntry:
    """One observable at both levels, with its bins."""

    name: str = key("name of the observable")
    gen: str = key("its truth level", EXPRESSION)
    reco: str = key("its detector level", EXPRESSION)
    data: str | None = key(
        "its detector level in data and background, if not Reco", EXPRESSION, default=None
    )
    unit: str = key("its unit", default="")
    edges: tuple[float, ...] = key("bin edges at truth level", EDGES)
    reco_edges: tuple[float, ...] | None = key(
        "bin edges at detector level; Edges if left out", EDGES, default=None
    )
    where: str = filled(compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystematicEntry:
    """One systematic variation of the simulation."""

    name: str = key("name of the systematic")
    gen_weight: str | None = key(
        "weight at truth level at +1; nominal if left out", EXPRESSION, default=None
    )
    reco_weight: str | None = key(
        "weight at detector level at +1; nominal if left out", EXPRESSION, default=None
    )
    pass_reco: str | None = key(
        "true for reconstructed events at +1; nominal if left out", EXPRESSION, default=None
    )
    reco: tuple[tuple[str, str], ...] = key(
        "detector level at +1 of the observables that move, by name",
        expressions("observables"),
        default=(),
    )
    where: str = filled(compare=False)

    @property
    def moves(self) -> bool:
        """Whether it changes what is seen of an event, not its weight alone."""
        return bool(self.reco) or self.pass_reco is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptionsSection:
    """How the method runs."""

    iterations: int = key(
        "number of iterations (OmniFold, Flow, Bayes)", integer(1, 10_000), default=4
    )
    strength: float = key("of the penalty (Inversion, Likelihood)", number(least=0.0), default=0.0)
    order: int = key(
        "what the penalty holds small: 0 size, 1 slope, 2 curvature",
        integer(0, 10, "bins have no such difference"),
        default=2,
    )
    seeds: int = key("initialisations (OmniFold)", integer(1, 10_000), default=1)
    bootstraps: int = key("bootstrap replicas (OmniFold, Flow)", integer(0, 100_000), default=20)
    samples: int = key("draws of each measured event (Flow)", integer(1, 100_000), default=10)
    epochs: int = like(Training, "epochs", integer(1, 1_000_000))
    batch_size: int | None = like(Training, "batch_size", EVENTS)
    learning_rate: float = like(Training, "learning_rate")
    positive_weights: bool = key("learn positive weights of the simulation first", default=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnfoldingConfig:
    """A checked configuration of an unfolding; see ``unfolding_schema`` for every key.

    Attributes:
        general: Settings of the whole.
        simulation: The simulated events.
        data: The measured events.
        background: Background among them; None without.
        observables: What is unfolded.
        systematics: Variations of the simulation.
        options: How the method runs.
        path: The file.
        echo: The file as plain values, for the record.
    """

    general: GeneralSection = key(default=GeneralSection())
    simulation: SimulationSection = key()
    data: MeasuredSection = key()
    background: MeasuredSection | None = key(default=None)
    observables: tuple[ObservableEntry, ...] = key()
    systematics: tuple[SystematicEntry, ...] = key(default=())
    options: OptionsSection = key(default=OptionsSection())
    path: Path = filled()
    echo: Mapping[str, Any] = filled()


def read_unfolding(path: str | Path) -> UnfoldingConfig:
    """Read and check the configuration of an unfolding; nothing else is opened.

    Args:
        path: The YAML file; ``unfolding_schema`` describes it.

    Returns:
        The configuration.

    Raises:
        ConfigError: Lists all problems with file, line, key and the nearest known key.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "unfold.yaml")
        ...     _ = path.write_text('''
        ... General: {Method: Bayes}
        ... Simulation: {Files: mc.root, PassReco: reco_pt > 0}
        ... Data: {Files: data.root}
        ... Observables:
        ...   - {Name: pt, Gen: gen_pt, Reco: reco_pt, Unit: GeV, Edges: [20, 50, 100]}
        ... ''')
        ...     config = read_unfolding(path)
        >>> config.options.iterations, config.observables[0].unit
        (4, 'GeV')
    """
    return read_file(path, UnfoldingConfig, check=_check_references)


def unfolding_schema() -> dict[str, Any]:
    """Return the JSON schema of an unfolding file, for editors.

    Example:
        >>> unfolding_schema()["required"]
        ['Simulation', 'Data', 'Observables']
    """
    return file_schema(UnfoldingConfig, "difana unfolding")


def _check_references(config: UnfoldingConfig, root: Node, problems: Problems) -> UnfoldingConfig:
    """Note what does not fit together; what could not be read is left out."""
    general, observables = config.general, config.observables or ()
    if "Observables" in root.value and not observables:
        problems.add(root.line_of("Observables"), "Observables is empty: give at least one")
    unbinned = general.method in ("OmniFold", "Flow")
    if general.joint and unbinned:
        text = f"'Joint' is for binned methods; {general.method} unfolds all observables together"
        line = root.line_of("General.Joint")
        problems.add(line, f"{text}, and its dataset gives any joint histogram")
    if config.systematics and general.method == "Flow":
        text = "systematics of the method Flow draw other events and cannot be weights of one"
        remedy = "use OmniFold, or run once for each variation"
        problems.add(root.line_of("Systematics"), f"{text} dataset; {remedy}")
    names = [entry.name for entry in observables if entry.name is not None]
    for entry in config.systematics:
        where = f"systematic '{entry.name}'"
        if not any((entry.gen_weight, entry.reco_weight, entry.pass_reco, entry.reco)):
            text = f"{where} changes nothing: give GenWeight, RecoWeight, PassReco or Reco"
            problems.add(entry.where, text)
        for name, _ in entry.reco:
            if name not in names:
                hint = nearest(name, names)
                problems.add(entry.where, f"{where} moves the unknown observable '{name}'.{hint}")
    gen = reco = 1
    for entry in observables:
        if entry.edges is None:
            continue
        before = (gen, reco) if general.joint else (1, 1)
        gen, reco = before[0] * len(entry.edges), before[1] * len(entry.reco_edges or entry.edges)
        if gen * reco > _MOST_CELLS or gen**2 > _MOST_CELLS:
            text = f"the response would have {gen} x {reco} cells, too many for the memory"
            problems.add(entry.where, f"{text}: ask for fewer bins")
            break
    return config
