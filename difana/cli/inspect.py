"""``difana inspect``: what a workspace holds."""

from __future__ import annotations

import click
import numpy as np

from difana.cli._workspace import (
    load_workspace,
    print_json,
    print_table,
    workspace_options,
)

_CONSTRAINTS = {
    "free": "none",
    "normal": "Gaussian",
    "gamma": "Gaussian",
    "lumi": "Gaussian",
    "poisson": "Poisson",
}


def _types(spec: dict) -> dict[str, str]:
    """Return the types of modifiers by their name."""
    found: dict[str, set[str]] = {}
    for channel in spec["channels"]:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                found.setdefault(modifier["name"], set()).add(modifier["type"])
                if modifier["type"] == "staterror":  # its name where several channels share it
                    own = f"{modifier['name']}_{channel['name']}"
                    found.setdefault(own, set()).add("staterror")
    return {name: ", ".join(sorted(types)) for name, types in found.items()}


@click.command("inspect", short_help="Channels, samples and parameters of a workspace.")
@workspace_options
def command(*, workspace: str, measurement: str | None, as_json: bool) -> None:
    """Print what WORKSPACE ('-': standard input) holds, patched if asked."""
    from difana.cli import _setup

    _setup.start()
    from difana.likelihood import from_workspace

    spec = load_workspace(workspace)
    model, data = from_workspace(spec, measurement=measurement)
    s, observed = model.structure, np.asarray(data)
    nominal, init = np.asarray(model.nominal), np.asarray(model.init)
    lower, upper, fixed = (np.asarray(x) for x in (model.lower, model.upper, model.fixed))
    channels = [
        {
            "name": channel.name,
            "bins": channel.bins,
            "observed": float(observed[channel.start : channel.start + channel.bins].sum()),
            "samples": [
                {
                    "name": template.name,
                    "yield": float(nominal[template.start : template.start + channel.bins].sum()),
                    "modifiers": len(template.modifiers),
                }
                for template in channel.templates
            ],
        }
        for channel in s.channels
    ]
    types = _types(dict(spec))
    parameters = [
        {
            "name": name,
            "size": size,
            "modifiers": types[name],
            "constraint": _CONSTRAINTS[kind],
            "inits": init[start : start + size].tolist(),
            "bounds": np.stack([lower, upper], axis=1)[start : start + size].tolist(),
            "fixed": fixed[start : start + size].tolist(),
        }
        for name, start, size, kind in s.sets
    ]
    measurements = [
        {"name": entry["name"], "poi": entry["config"]["poi"]} for entry in spec["measurements"]
    ]
    if as_json:
        print_json(
            {
                "bins": s.bins,
                "channels": channels,
                "parameters": parameters,
                "measurements": measurements,
            }
        )
        return
    counts = f"{len(channels)} channels, {s.bins} bins, {len(model.parameters)} parameters"
    rows = [
        [channel["name"] if i == 0 else "", channel["bins"] if i == 0 else "",
         channel["observed"] if i == 0 else "", sample["name"], sample["yield"],
         sample["modifiers"]]
        for channel in channels
        for i, sample in enumerate(channel["samples"])
    ]  # fmt: skip
    print_table(["channel", "bins", "observed", "sample", "yield", "modifiers"], rows, title=counts)
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
