"""What the commands on workspaces share: models with their data, as the options ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from difana._errors import ModelError
from difana.cli._documents import is_hs3, read_patched
from difana.cli._options import bounds_of, fixed_of, option_of, values_of

if TYPE_CHECKING:
    from jaxtyping import Array

    from difana.infer import FitResult, Inference
    from difana.likelihood import Model

BAND = ("-2", "-1", "0", "+1", "+2")
_MISSING = "difana.missing_poi"


def load_workspace(workspace: str) -> Mapping[str, Any]:
    """Return a pyhf workspace with the patches of the command line applied, checked."""
    from difana.cli import _setup
    from difana.likelihood import from_hs3, read_workspace, to_workspace
    from difana.likelihood.formats.hs3_read import interests_of

    spec = read_patched(workspace)
    if not is_hs3(spec):
        return read_workspace(spec)
    _setup.start()
    model, data = from_hs3(spec, poi=None)
    return to_workspace(_interest(model, interests_of(spec, None)), data)


def open_model(workspace: str, measurement: str | None) -> tuple[Model, Array | None]:
    """Return model and data of a workspace as the options ask for.

    A model may lack a parameter of interest: :func:`need_poi` says what to do. Data are None with
    ``--expected`` (observations are not read) and where the workspace has none.
    """
    observed = option_of("observed")
    if observed and option_of("expected"):
        raise ModelError("--expected and --observed exclude each other")
    from difana.cli import _setup

    _setup.start(fits=True)  # before JAX is imported
    from difana.likelihood import model_with

    model, data = open_document(read_patched(workspace), measurement)
    model = model_with(
        model,
        fixed=fixed_of(option_of("fix", ())),
        init=values_of(option_of("values", ())),
        bounds=bounds_of(option_of("bounds", ())),
        clip=bool(option_of("clip_negative")),
    )
    if not model.parameters:
        raise ModelError("the model has no parameters: there is nothing to fit or to vary")
    if data is None and observed:
        raise ModelError("--observed: the workspace has no observations")
    return model, data


def open_document(spec: Mapping[str, Any], measurement: str | None) -> tuple[Model, Array | None]:
    """Return model and data of a document, without the options that change the model."""
    from difana.likelihood import from_hs3
    from difana.likelihood.formats.hs3_read import interests_of

    expected = bool(option_of("expected"))
    if is_hs3(spec):
        model, data = from_hs3(spec, analysis=measurement, poi=None, **_reading())
        named = interests_of(spec, measurement)
        data = None if expected else data
    else:
        model, data, named = _pyhf(spec, measurement, blind=expected)
    if data is not None:
        note_fractions(model, data)
    return _interest(model, named), data


def _reading() -> dict[str, Any]:
    """Return what the options ask of every reader."""
    return {
        "masked": option_of("mask", ()),
        "barlow_beeston": option_of("barlow_beeston", "lite"),
    }


def _pyhf(
    spec: Mapping[str, Any], measurement: str | None, *, blind: bool
) -> tuple[Model, Array | None, list[str]]:
    from difana.likelihood import from_workspace, model_from_workspace, read_workspace
    from difana.likelihood.formats.pyhf_json import choose_measurement

    if blind:
        spec = {key: value for key, value in spec.items() if key != "observations"}
    data = None
    if "observations" in spec:
        model, data = from_workspace(spec, measurement=measurement, poi=None, **_reading())
    else:
        checked = read_workspace(spec)
        model = model_from_workspace(checked, measurement=measurement, poi=None, **_reading())
    poi = choose_measurement(spec, measurement)["config"]["poi"]
    return model, data, [poi] if poi else []


def _interest(model: Model, named: list[str]) -> Model:
    """Return the model with the parameter of interest of ``--poi``, else that of the file."""
    from difana.likelihood import model_with

    asked = option_of("poi")
    if asked is not None:
        return model_with(model, poi=asked)
    known = {*model.parameters, *(entry[0] for entry in model.structure.sets)}
    if len(named) == 1 and named[0] in known:
        return model_with(model, poi=named[0])
    click.get_current_context().meta[_MISSING] = named
    return model


def need_poi(model: Model) -> str:
    """Return the name of the parameter of interest, or refuse that there is none or it is held."""
    poi = model.structure.poi
    if poi is None:
        named = click.get_current_context().meta.get(_MISSING, [])
        if len(named) == 1:
            raise ModelError(
                f"the parameter of interest '{named[0]}' steers no sample: the workspace holds "
                "the background alone. Patch in a signal (--patch FILE, or --patchset FILE "
                "--point NAME), or choose another parameter (--poi NAME)"
            )
        if named:
            raise ModelError(
                f"the file names several parameters of interest, {named}: choose one with "
                "--poi NAME"
            )
        raise ModelError(
            "the workspace names no parameter of interest: choose one with --poi NAME, or patch "
            "in a signal (--patch FILE, or --patchset FILE --point NAME)"
        )
    if poi in fixed_of(option_of("fix", ())):
        raise ModelError(f"--fix {poi}: the parameter of interest cannot be held here")
    return poi


def vary_poi(model: Model) -> Model:
    """Return the model with its parameter of interest free; say so where the file holds it."""
    from difana.cli._output import note
    from difana.likelihood import model_with

    if model.structure.fixed[model.poi_index]:
        note(f"the file holds '{model.structure.poi}'; it is varied here (difana fit holds it)")
        return model_with(model, free=[str(model.structure.poi)])
    return model


def open_inference(workspace: str, measurement: str | None) -> Inference:
    """Return the inference on the parameter of interest of a workspace."""
    model, data = open_model(workspace, measurement)
    poi = need_poi(model)
    from difana.infer import Inference

    upper = float(model.upper[model.poi_index])
    if upper <= 0:
        raise ModelError(
            f"the bounds of '{poi}' end at {upper:g}: they exclude every limit. Give others, such "
            f"as --bounds {poi}=0,10"
        )
    return Inference(vary_poi(model), data)


def data_to_fit(model: Model, data: Array | None) -> Array:
    """Return the data of a fit: observed, or with ``--expected`` Asimov data with signal."""
    if data is not None:
        return data
    if not option_of("expected"):
        raise ModelError(
            "the workspace has no observations: --expected gives results on Asimov data"
        )
    from difana.infer import asimov_data
    from difana.infer.after_fit.pulls import prefit_parameters

    poi = model.structure.poi
    if poi is None:
        return model.expected(prefit_parameters(model))
    return asimov_data(model, mu=values_of(option_of("values", ())).get(poi, 1.0)).data


def best_fit(
    workspace: str, measurement: str | None, *, tested: bool = False
) -> tuple[Model, Array, FitResult]:
    """Return a model, the data to fit and the best fit.

    Args:
        workspace: The workspace.
        measurement: Its measurement.
        tested: The parameter of interest is needed, and varied.
    """
    model, data = open_model(workspace, measurement)
    if tested:
        need_poi(model)
        model = vary_poi(model)
    data = data_to_fit(model, data)
    from difana.infer import Inference

    return model, data, Inference(model, data).best


def note_fractions(model: Model, data: Array) -> None:
    """Say where observed counts are no whole numbers."""
    import numpy as np

    from difana.cli._output import note

    counts = np.asarray(data)[: model.bins]
    odd = np.flatnonzero(counts != np.round(counts))
    if odd.size:
        channel = next(c for c in model.structure.channels if odd[0] < c.start + c.bins)
        more = f" (and {odd.size - 1} more)" if odd.size > 1 else ""
        note(
            f"channel '{channel.name}', bin {odd[0] - channel.start + 1}: {counts[odd[0]]:g} "
            f"events observed{more}; counts are whole numbers, Asimov data need not be"
        )
