"""A tagger from files to files: train, evaluate, apply."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from difana._errors import ConfigError, InputError
from difana._options import whole_number
from difana.config import held_folder, write_json
from difana.data import Chunk, Events, ExtensionReport, Inputs, extend_file, joined, read_events
from difana.metrics import background_rejection, calibration_error, roc_auc
from difana.nn import load_weights, save_weights
from difana.nn.taggers import Tagger, tagger_named
from difana.train import Training, TrainResult, fit_tagger

MOMENTA = ("part_pt", "part_eta", "part_phi", "part_mass")
"""Channels of the momentum, as `difana.data.generate.pythia` writes them."""

_SIZE = 500  # jets a call
_STEP = 20_000  # jets of a file at a time


@dataclasses.dataclass(frozen=True)
class TaggerOptions:
    """What a tagger is and what it reads.

    Attributes:
        classes: Names of the classes, in the order of the outputs.
        network: Name of a tagger, see ``difana.nn.taggers.TAGGERS``.
        channels: Channels of a particle; the first four are the momentum.
        coordinates: What these are, ``"cylindrical"`` or ``"cartesian"``.
        particles: Number of particles of a jet, leading ones.
        leading: Channel by which they are sorted.

    Raises:
        ConfigError: If there are fewer than two classes or four channels.
    """

    classes: tuple[str, ...]
    network: str = "particlenet-lite"
    channels: tuple[str, ...] = MOMENTA
    coordinates: str = "cylindrical"
    particles: int = 64
    leading: str = "part_pt"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if len(self.classes) < 2:
            raise ConfigError(f"classes {list(self.classes)}: a tagger needs at least two.")
        if len(self.channels) < 4:
            raise ConfigError(f"channels {list(self.channels)}: the first four are the momentum.")
        whole_number("particles", self.particles)

    def network_for(self, key: jax.Array) -> Tagger:
        """Return a new network."""
        return tagger_named(
            self.network,
            len(self.classes),
            coordinates=self.coordinates,
            extras=len(self.channels) - 4,
            key=key,
        )

    def reading(self, weight: str | None = None) -> dict[str, Any]:
        """Return the options of a reader."""
        own: dict[str, Any] = {
            "columns": [],
            "particles": list(self.channels),
            "max_particles": self.particles,
            "leading": self.leading,
        }
        return own if weight is None else {**own, "weight": weight}


def train_tagger(
    files: Mapping[str, str | Sequence[str]],
    out: str | Path,
    *,
    options: TaggerOptions | None = None,
    training: Training = Training(),
    number: int | None = None,
    seed: int = 1,
    progress: bool = False,
) -> TrainResult:
    """Train a tagger on files, one class each, and write it to a folder.

    All classes count the same. The folder gets ``tagger.json`` and ``weights.difana``.

    Args:
        files: Files of each class.
        out: The folder, made if missing.
        options: Network and channels; its classes must be those of the files.
        training: Epochs, batch size, learning rate, ...
        number: Largest number of jets of a class.
        seed: Seed of everything.
        progress: Show a bar on a terminal.

    Raises:
        ConfigError: If an option has no meaning.
        InputError: If a file is missing or has other columns.
    """
    own = options or TaggerOptions(tuple(files))
    if set(own.classes) != set(files):
        raise ConfigError(f"classes {list(own.classes)} and files of {list(files)}: give the same.")
    inputs, labels = _read(files, own, number)
    counts = np.bincount(labels, minlength=len(own.classes))
    keys = jax.random.split(jax.random.key(seed), 2)
    with held_folder(out) as folder:
        result = fit_tagger(
            own.network_for(keys[0]),
            inputs,
            labels,
            key=keys[1],
            classes=len(own.classes),
            class_weights=len(labels) / (len(counts) * counts),
            training=training,
            progress_bar=progress,
        )
        save_weights(folder / "weights.difana", result.trainable)
        write_json(
            folder / "tagger.json",
            {
                **dataclasses.asdict(own),
                "seed": seed,
                "jets": dict(zip(own.classes, counts.tolist(), strict=True)),
                "held_out_loss": result.best_metric,
                "message": result.message,
            },
        )
    return result


def load_tagger(folder: str | Path) -> tuple[Tagger, TaggerOptions]:
    """Return the network of a folder that `train_tagger` wrote, and its options.

    Raises:
        InputError: If the folder holds none, or a damaged one.
    """
    path = Path(folder).expanduser() / "tagger.json"
    if not path.is_file():
        raise InputError(f"'{folder}' holds no tagger: there is no {path.name}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        fields = [field.name for field in dataclasses.fields(TaggerOptions)]
        values: dict[str, Any] = {name: found[name] for name in fields}
        values |= {name: tuple(values[name]) for name in ("classes", "channels")}
        options = TaggerOptions(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}' is damaged ({error}): train the tagger again") from error
    net = options.network_for(jax.random.key(0))
    return load_weights(path.with_name("weights.difana"), net), options


def evaluate_tagger(
    folder: str | Path, files: Mapping[str, str | Sequence[str]], *, number: int | None = None
) -> dict[str, Any]:
    r"""Return the figures of a tagger on files it has not seen.

    The last class is the signal of ROC figures against each other one, by
    :math:`\ln p_s - \ln p_b`. Errors are binomial ones of the background that passes.

    Args:
        folder: What `train_tagger` wrote; gets ``evaluation.json``.
        files: Files of each class.
        number: Largest number of jets of a class.

    Returns:
        ``accuracy``, ``confusion`` (rows: true class, shares), ``calibration_error`` of the signal
        probability, and by background ``auc`` and ``rejection`` (signal efficiency, 1 / background
        efficiency, error).

    Raises:
        InputError: If the classes are others, or a file is missing.
    """
    net, options = load_tagger(folder)
    if set(options.classes) != set(files):
        raise InputError(
            f"the tagger has the classes {list(options.classes)}, the files are of {list(files)}"
        )
    inputs, labels = _read(files, options, number)
    logs = log_probabilities(net, inputs)
    guess = logs.argmax(axis=1)
    classes = len(options.classes)
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (labels, guess), 1)
    signal = classes - 1
    against = {}
    for i, name in enumerate(options.classes[:-1]):
        two = (labels == i) | (labels == signal)
        score, true = (logs[:, signal] - logs[:, i])[two], labels[two] == signal
        background = int(np.sum(~true))
        rejection = []
        for efficiency in (0.3, 0.5):
            factor = float(background_rejection(score, true, efficiency=efficiency))
            # 1/eps of n passing events is known to 1/sqrt(n)
            error = factor * (factor / background) ** 0.5 if np.isfinite(factor) else None
            rejection.append([efficiency, factor, error])
        against[name] = {"auc": float(roc_auc(score, true)), "rejection": rejection}
    found = {
        "jets": len(labels),
        "accuracy": float(np.mean(guess == labels)),
        "confusion": confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1),
        "calibration_error": float(_calibration(logs[:, signal], labels == signal)),
        "signal": options.classes[signal],
        "against": against,
    }
    with held_folder(folder) as place:
        write_json(place / "evaluation.json", found)
    return found


def apply_tagger(
    folder: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    prefix: str = "tag_",
    keep: str | Sequence[str] = "*",
    progress: bool = False,
) -> ExtensionReport:
    """Write a file with the probabilities of all classes beside its columns.

    Args:
        folder: What `train_tagger` wrote.
        source: The file to read.
        target: The file to write.
        prefix: Of the names of the new columns, which end in the names of the classes.
        keep: Columns to keep, or patterns.
        progress: Show a bar on a terminal.

    Returns:
        What was written.

    Raises:
        InputError: If a file is missing or has other columns.
    """
    net, options = load_tagger(folder)

    def compute(chunk: Chunk) -> dict[str, np.ndarray]:
        events, place = chunk.events(**options.reading())
        found = np.full((chunk.size, len(options.classes)), np.nan, np.float32)
        found[place] = np.exp(log_probabilities(net, _inputs(events)))
        return {f"{prefix}{name}": found[:, i] for i, name in enumerate(options.classes)}

    return extend_file(
        source, target, compute, keep=keep, chunk_size=_STEP, progress=progress,
        metadata={"difana_tagger": json.dumps(dataclasses.asdict(options))},
    )  # fmt: skip


def log_probabilities(net: Any, inputs: Inputs) -> np.ndarray:
    """Return the logarithms of the probabilities of all classes, in blocks of jets.

    Args:
        net: A classifier.
        inputs: Jets.

    Example:
        >>> inputs = Inputs(jnp.ones((3, 2)), jnp.ones((3, 1, 4)), jnp.ones((3, 1), bool))
        >>> log_probabilities(lambda inputs: inputs.features, inputs).shape
        (3, 2)
    """
    count = len(inputs)
    run = jax.jit(lambda x: jax.nn.log_softmax(net(x), axis=-1))
    parts = []
    for start in range(0, count, _SIZE):
        part = inputs[start : start + _SIZE]
        missing = _SIZE - len(part) if count > _SIZE else 0  # one program for all blocks
        if missing:
            part = jax.tree.map(
                lambda x, m=missing: jnp.pad(x, ((0, m), *((0, 0),) * (x.ndim - 1))), part
            )
        parts.append(np.asarray(run(part))[: min(_SIZE, count - start)])
    return np.concatenate(parts)


def _calibration(logs: np.ndarray, true: np.ndarray) -> float:
    given = jnp.asarray(np.exp(logs))
    signal = jnp.asarray(true, given.dtype)
    return float(calibration_error(given, signal, jnp.ones_like(given)))


def _read(
    files: Mapping[str, Any], options: TaggerOptions, number: int | None
) -> tuple[Inputs, np.ndarray]:
    parts, labels = [], []
    for label, name in enumerate(options.classes):
        events = read_events(files[name], entry_stop=number, **options.reading())
        parts.append(_inputs(events))
        labels.append(np.full(len(events), label))
    return joined(parts), np.concatenate(labels)


def _inputs(events: Events) -> Inputs:
    inputs = events.inputs
    assert isinstance(inputs, Inputs)
    return inputs
