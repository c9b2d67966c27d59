"""``difana inspect``: what a workspace holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from difana.cli._documents import is_hs3, read_patched
from difana.cli._options import workspace_options
from difana.cli._print import print_json, print_table
from difana.cli._workspace import open_document

if TYPE_CHECKING:
    from difana.likelihood import Model


@click.command("inspect", short_help="Channels, samples and parameters of a workspace.")
@workspace_options
@click.option("--bins", "by_bin", is_flag=True, help="Also the yields of every bin.")
def command(*, workspace: str, measurement: str | None, as_json: bool, by_bin: bool) -> None:
    """Print what WORKSPACE ('-': standard input) holds, patched if asked."""
    from difana.cli import _setup

    _setup.start(fits=True)
    spec = read_patched(workspace)
    model, data = open_document(spec, measurement)
    observed = None if data is None else np.asarray(data)[: model.bins]
    channels = _channels(model, observed, by_bin=by_bin)
    parameters = _parameters(model)
    measurements = _measurements(spec)
    if as_json:
        print_json(
            {
                "bins": model.bins,
                "channels": channels,
                "parameters": parameters,
                "measurements": measurements,
            }
        )
        return
    counts = f"{len(channels)} channels, {model.bins} bins, {len(model.parameters)} parameters"
    rows = [
        [channel["name"] if i == 0 else "", channel["bins"] if i == 0 else "",
         channel["observed"] if i == 0 else "", sample["name"], sample["yield"],
         sample["modifiers"]]
        for channel in channels
        for i, sample in enumerate(channel["samples"])
    ]  # fmt: skip
    print_table(["channel", "bins", "observed", "sample", "yield", "modifiers"], rows, title=counts)
    for channel in channels if by_bin else ():
        _print_bins(channel)
    rows = []
    for entry in parameters:
        (low, high), held = entry["bounds"][0], sum(entry["fixed"])
        note = "" if not held else "held" if held == entry["size"] else f"{held} held"
        rows.append([entry["name"], entry["size"], entry["modifiers"], entry["constraint"],
                     entry["inits"][0], f"{low:g} to {high:g}", note])  # fmt: skip
    columns = ["parameter", "size", "modifiers", "constraint", "init", "bounds", ""]
    print_table(columns, rows)
    rows = [[entry["name"], entry["poi"] or "-"] for entry in measurements]
    print_table(["measurement", "parameter of interest"], rows)


def _channels(model: Model, observed: np.ndarray | None, *, by_bin: bool) -> list[dict[str, Any]]:
    """Return the channels with their samples and nominal yields."""
    nominal, found = np.asarray(model.nominal), []
    for channel in model.structure.channels:
        seen = None if observed is None else observed[channel.start : channel.start + channel.bins]
        entry: dict[str, Any] = {
            "name": channel.name,
            "bins": channel.bins,
            "observed": None if seen is None else float(seen.sum()),
        }
        samples = []
        for template in channel.templates:
            values = nominal[template.start : template.start + channel.bins]
            sample: dict[str, Any] = {
                "name": template.name,
                "yield": float(values.sum()),
                "modifiers": len(template.modifiers),
            }
            samples.append(sample | ({"yields": values.tolist()} if by_bin else {}))
        counts = {"counts": None if seen is None else seen.tolist()} if by_bin else {}
        found.append({**entry, "samples": samples, **counts})
    return found


def _print_bins(channel: Mapping[str, Any]) -> None:
    """Print the nominal yields of every bin, which count from 1."""
    samples, counts = channel["samples"], channel["counts"]
    total = np.sum([sample["yields"] for sample in samples], axis=0).tolist()
    rows = [
        [b + 1, *(sample["yields"][b] for sample in samples), total[b],
         None if counts is None else counts[b]]
        for b in range(channel["bins"])
    ]  # fmt: skip
    names = [sample["name"] for sample in samples]
    print_table(["bin", *names, "total", "observed"], rows, title=channel["name"])


def _parameters(model: Model) -> list[dict[str, Any]]:
    types: dict[str, set[str]] = {}
    for channel in model.structure.channels:
        for template in channel.templates:
            for layout in template.modifiers:
                types.setdefault(layout.name, set()).add(layout.kind)
    init, fixed = np.asarray(model.init), np.asarray(model.fixed)
    bounds = np.stack([np.asarray(model.lower), np.asarray(model.upper)], axis=1)
    return [
        {
            "name": name,
            "size": size,
            "modifiers": ", ".join(sorted(types[name])),
            "constraint": _constraint(model, start),
            "inits": init[start : start + size].tolist(),
            "bounds": bounds[start : start + size].tolist(),
            "fixed": fixed[start : start + size].tolist(),
        }
        for name, start, size, _ in model.structure.sets
    ]


def _constraint(model: Model, parameter: int) -> str:
    s = model.structure
    i = s.constraint_of[parameter]
    if i == s.constrained.size:
        return "none"
    return "Poisson" if s.poisson[i] else "log-normal" if s.lognormal[i] else "Gaussian"


def _measurements(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not is_hs3(spec):
        return [{"name": m["name"], "poi": m["config"]["poi"]} for m in spec["measurements"]]
    from difana.likelihood.formats.hs3_read import interests_of

    names = [entry["name"] for entry in spec.get("analyses", ())]
    return [{"name": name, "poi": ", ".join(interests_of(spec, name))} for name in names]
