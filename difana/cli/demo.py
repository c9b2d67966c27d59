"""``difana demo``: a generated analysis, from ROOT files to the report."""

from __future__ import annotations

from pathlib import Path

import click

from difana.cli.run import run_analysis

EVENTS = 40_000

CONFIG = """\
# The demonstration of difana: a scalar of 125 GeV that decays to two jets.
# 'difana run analysis.yaml --out results' runs it again.
General:
  Measurement: resonance
  POI: mu
  InputPath: ntuples
  Tree: events
  Seed: {seed}
  Split: [0.5, 0.25, 0.25]
  Identifier: event            # a shifted file keeps the numbers of the nominal events

Features: [mass, pt_lead, pt_sub, pt_pair, delta_eta, eta_pair]

Regions:
  - Name: SR
    Observable: network

Samples:
  - {{Name: signal, Files: signal.root, Weight: weight, Signal: true}}
  - {{Name: continuum, Files: continuum.root, Weight: weight}}
  - {{Name: peaking, Files: peaking.root, Weight: weight}}

Systematics:
  - Name: jet_scale            # exact: a function of the inputs, applied inside the graph
    Type: Transform
    Transform:
      mass: mass * (1 + 0.03 * alpha)
      pt_lead: pt_lead * (1 + 0.03 * alpha)
      pt_sub: pt_sub * (1 + 0.03 * alpha)
      pt_pair: pt_pair * (1 + 0.03 * alpha)
  - Name: jet_resolution       # other files
    Type: Files
    Samples: [signal, peaking]
    Up: {{Files: "{{Sample}}_resolution_up.root"}}
    Down: {{Files: "{{Sample}}_resolution_down.root"}}
  - Name: slope                # other weights
    Type: Weight
    Samples: continuum
    Up: {{Weight: weight_up}}
    Down: {{Weight: weight_down}}
  - Name: norm_continuum
    Type: Normalization
    Samples: continuum
    Up: {{Normalization: 0.2}}
    Down: {{Normalization: -0.2}}
  - Name: norm_peaking
    Type: Normalization
    Samples: peaking
    Up: {{Normalization: 0.2}}
    Down: {{Normalization: -0.2}}

NormFactors:
  - {{Name: mu, Samples: signal, Nominal: 1, Bounds: [0, 10]}}

Network:
  Hidden: [64, 64]

Training:
  Start: score                 # the efficient score, then descent on the limit
  Bins: auto                   # as many as held-out events confirm
  PretrainSteps: 1500
  Steps: 60
  Batch: 4000
  Rate: 0.0003
  CrossEntropy: 0
  ValidateEvery: 12
"""


@click.command("demo", short_help="Generate and run a demonstration analysis.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder of the demonstration.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**62),
    default=1,
    show_default=True,
    help="Seed of everything.",
)
@click.option(
    "--events",
    type=click.IntRange(100, 100_000_000),
    default=EVENTS,
    show_default=True,
    help="Simulated events a process.",
)
def command(*, out: Path, seed: int, events: int) -> None:
    """Write ROOT files and an analysis.yaml into a folder, and run the analysis."""
    from difana.cli import _setup

    _setup.start()
    from difana.config import held_folder, write_text
    from difana.data.generate import write_resonance

    with held_folder(out, inner=("ntuples",)) as folder:
        click.echo(f"writing 7 ROOT files with {events} events a process to {folder / 'ntuples'}")
        write_resonance(folder / "ntuples", seed=seed, events=events)
        config = folder / "analysis.yaml"
        write_text(config, CONFIG.format(seed=seed))
        run_analysis(config, folder)
