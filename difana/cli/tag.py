"""``difana tag``: train a jet tagger on files, judge it, apply it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from difana.cli._options import SEED, Number
from difana.cli._output import finish
from difana.cli._print import print_table

if TYPE_CHECKING:
    from difana.analysis import TaggerOptions

_files = click.option(
    "--class",
    "files",
    multiple=True,
    required=True,
    metavar="NAME=FILE",
    help="A class and its file, background first, signal last; repeated.",
)
_number = click.option("--number", type=click.IntRange(1, 10**9), help="Jets of a class; all.")
_quiet = click.option("--quiet", is_flag=True, help="Print nothing but errors.")


@click.group("tag", short_help="Train a jet tagger, judge it, apply it.")
def command() -> None:
    """Taggers of jets in files, such as those of 'difana generate'."""


@command.command("train")
@_files
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the tagger.")
@click.option("--network", default="particlenet-lite", show_default=True, help="Name of a tagger.")
@click.option(
    "--channels",
    metavar="A,B,...",
    help="Channels of a particle, the momentum first [part_pt,part_eta,part_phi,part_mass].",
)
@click.option(
    "--coordinates",
    type=click.Choice(("cylindrical", "cartesian")),
    default="cylindrical",
    show_default=True,
    help="What the momentum is: pT, eta, phi, mass, or E, px, py, pz.",
)
@click.option("--particles", type=click.IntRange(1, 10_000), default=64, show_default=True,
              help="Particles of a jet, leading ones.")  # fmt: skip
@click.option("--leading", metavar="NAME", help="Channel that sorts them; the first by default.")
@click.option("--epochs", type=click.IntRange(1, 10**6), default=20, show_default=True,
              help="Largest number of passes over the jets.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1, 10**6), help="Jets of a batch.")
@click.option("--rate", type=Number(above=0.0), default=2e-3, show_default=True,
              help="Largest learning rate.")  # fmt: skip
@click.option("--seed", type=SEED, default=1, show_default=True, help="Seed of everything.")
@_number
@_quiet
def train(
    *,
    files: tuple[str, ...],
    out: Path,
    network: str,
    channels: str | None,
    coordinates: str,
    particles: int,
    leading: str | None,
    epochs: int,
    batch: int | None,
    rate: float,
    seed: int,
    number: int | None,
    quiet: bool,
) -> None:
    """Train a tagger on files of one class each and write it to a folder."""
    from difana.cli import _setup

    _setup.start()
    from difana.analysis import TaggerOptions, train_tagger
    from difana.train import Training

    found = _named(files)
    own: dict[str, Any] = {"network": network, "coordinates": coordinates, "particles": particles}
    if channels is not None:
        own["channels"] = tuple(channels.split(","))
        own["leading"] = own["channels"][0]
    if leading is not None:
        own["leading"] = leading
    options = TaggerOptions(tuple(found), **own)
    result = train_tagger(
        found,
        out,
        options=options,
        training=Training(epochs=epochs, batch_size=batch, learning_rate=rate),
        number=number,
        seed=seed,
        progress=not quiet,
    )
    if not quiet:
        click.echo(f"{_words(options)}: held-out cross-entropy {result.best_metric:.4f}, {out}")
    finish(result.message)


@command.command("evaluate")
@click.argument("folder", type=click.Path(path_type=Path))
@_files
@_number
@_quiet
def evaluate(*, folder: Path, files: tuple[str, ...], number: int | None, quiet: bool) -> None:
    """Judge the tagger in FOLDER on files it has not seen; writes evaluation.json."""
    from difana.cli import _setup

    _setup.start()
    from difana.analysis import evaluate_tagger

    found = evaluate_tagger(folder, _named(files), number=number)
    if quiet:
        return
    rows = []
    for name, figures in found["against"].items():
        shown = [
            f"{factor:.4g} ± {error:.2g}" if error is not None else f"{factor:.4g}"
            for _, factor, error in figures["rejection"]
        ]
        rows.append([name, figures["auc"], *shown])
    print_table(
        ["background", "AUC", "1/eps_B at 0.3", "1/eps_B at 0.5"], rows, title=found["signal"]
    )
    click.echo(f"accuracy {found['accuracy']:.4f} of {found['jets']} jets")


@command.command("apply")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--prefix", default="tag_", show_default=True, help="Of the new columns.")
@_quiet
def apply(*, folder: Path, source: str, target: Path, prefix: str, quiet: bool) -> None:
    """Write TARGET: the jets of SOURCE with the probabilities of all classes."""
    from difana.cli import _setup

    _setup.start()
    from difana.analysis import apply_tagger

    report = apply_tagger(folder, source, target, prefix=prefix, progress=not quiet)
    if not quiet:
        click.echo(str(report))


def _named(files: tuple[str, ...]) -> dict[str, str]:
    """Return the files by class."""
    found: dict[str, str] = {}
    for text in files:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise click.UsageError(f"--class '{text}' must read NAME=FILE")
        if name in found:
            raise click.UsageError(f"--class {name} stands twice")
        found[name] = path
    return found


def _words(options: TaggerOptions) -> str:
    return f"{options.network} of {', '.join(options.classes)}"
