"""Tables as HEPData wants them: submission.yaml and one YAML file a table."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import ArrayLike

from difana._errors import InputError
from difana._files import refuse_links, write_whole
from difana.config import write_text

_MISSING = "-"  # how HEPData writes a value that there is none of


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """One uncertainty of a dependent variable.

    Attributes:
        label: Its name.
        up: Change of the value upwards; symmetric if ``down`` is not given.
        down: Change downwards, with its sign (negative).
    """

    label: str
    up: ArrayLike
    down: ArrayLike | None = None


@dataclasses.dataclass(frozen=True)
class Variable:
    """One column.

    Attributes:
        name: Its name.
        values: Numbers or texts. Of an independent variable also bin edges, one more than rows.
        units: Units; empty for none.
        uncertainties: Of dependent variables.
        qualifiers: Further facts, pairs of name and value.
    """

    name: str
    values: Any
    units: str = ""
    uncertainties: tuple[Uncertainty, ...] = ()
    qualifiers: tuple[tuple[str, str | float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Its name, at most 64 characters.
        description: What it shows.
        independent: Independent variables.
        dependent: Dependent variables.
        location: Where it is in the publication, e.g. ``Figure 2``.
        keywords: ``cmenergies``, ``observables``, ``phrases``, ``reactions`` and their values.
    """

    name: str
    description: str
    independent: tuple[Variable, ...]
    dependent: tuple[Variable, ...]
    location: str = ""
    keywords: Mapping[str, Sequence[str | float]] = dataclasses.field(default_factory=dict)


def write_hepdata(
    folder: str | Path,
    tables: Sequence[Table],
    *,
    comment: str,
    resources: Mapping[Path, str] | None = None,
    digits: int = 6,
) -> Path:
    """Write tables in the format of a HEPData submission.

    Numbers that are not finite become ``-``, HEPData's sign for no value. Pack the folder
    (``tar czf submission.tar.gz -C FOLDER .``) and upload it.

    Args:
        folder: Folder to write, made if missing; other files in it are left alone.
        tables: The tables.
        comment: What the submission is: an abstract.
        resources: Further files to copy into the folder, with their descriptions.
        digits: Significant digits.

    Returns:
        The path of ``submission.yaml``.

    Raises:
        InputError: If columns of a table differ in length, two tables share a name, or a name is
            too long.

    References:
        https://hepdata-submission.readthedocs.io

    Example:
        >>> import tempfile
        >>> mass = Variable("mass", [0.0, 100.0, 200.0], "GeV")
        >>> yields = Variable("events", [12.0, 7.5], uncertainties=(Uncertainty("stat", [3, 2]),))
        >>> table = Table("Yields", "Events.", (mass,), (yields,))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     path = write_hepdata(out, [table], comment="A test.")
        ...     text = (path.parent / "yields.yaml").read_text()
        >>> yaml.safe_load(text)["dependent_variables"][0]["values"][0]
        {'value': 12.0, 'errors': [{'symerror': 3.0, 'label': 'stat'}]}
    """
    folder = Path(folder)
    refuse_links(folder)
    folder.mkdir(parents=True, exist_ok=True)
    head: dict[str, Any] = {"comment": comment}
    if resources:
        head["additional_resources"] = [
            {"location": file.name, "description": text} for file, text in resources.items()
        ]
    documents = [head]
    files: dict[str, str] = {}
    for table in tables:
        if len(table.name) > 64:
            raise InputError(f"table '{table.name}': HEPData allows names of 64 characters")
        file = table_file(table.name)
        if file in files:
            raise InputError(f"two tables would be written to {file}: give them other names")
        files[file] = _dump(_content(table, digits))
        documents.append(
            {
                "name": table.name,
                **({"location": table.location} if table.location else {}),
                "description": table.description,
                "keywords": [
                    {"name": name, "values": list(values)}
                    for name, values in table.keywords.items()
                ],
                "data_file": file,
            }
        )
    for file, text in files.items():
        write_text(folder / file, text)
    for file in resources or {}:
        if file.resolve().parent != folder.resolve():
            write_whole(folder / file.name, [file.read_bytes()])
    path = folder / "submission.yaml"
    write_text(path, "".join("---\n" + _dump(document) for document in documents))
    return path


def table_file(name: str) -> str:
    """Return the name of the file of a table.

    Example:
        >>> table_file("Yields prefit SR-1")
        'yields_prefit_sr_1.yaml'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") + ".yaml"


def yields_title(region: str, when: str) -> str:
    """Return the name of the table of yields of a region; HEPData allows 64 characters.

    Example:
        >>> yields_title("SR", "prefit")
        'Yields prefit SR'
    """
    return f"Yields {when} {region}"[:64]


def _dump(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _content(table: Table, digits: int) -> dict[str, Any]:
    if not table.dependent:
        raise InputError(f"table '{table.name}' has no dependent variable")
    rows = len(np.asarray(table.dependent[0].values))
    return {
        "independent_variables": [
            {"header": _header(v), "values": _independent(v, rows, table.name, digits)}
            for v in table.independent
        ],
        "dependent_variables": [
            {
                "header": _header(v),
                **(
                    {"qualifiers": [{"name": n, "value": value} for n, value in v.qualifiers]}
                    if v.qualifiers
                    else {}
                ),
                "values": _dependent(v, rows, table.name, digits),
            }
            for v in table.dependent
        ],
    }


def _header(variable: Variable) -> dict[str, str]:
    return {"name": variable.name, **({"units": variable.units} if variable.units else {})}


def _plain(value: Any, digits: int) -> Any:
    """Return a text or a rounded number, ``-`` where it is not finite."""
    if isinstance(value, str):
        return value
    number = float(value)
    return float(f"{number:.{digits}g}") if np.isfinite(number) else _MISSING


def _independent(variable: Variable, rows: int, table: str, digits: int) -> list[dict[str, Any]]:
    values = list(variable.values)
    if len(values) == rows:
        return [{"value": _plain(value, digits)} for value in values]
    if len(values) == rows + 1:
        ends = [_plain(value, digits) for value in values]
        return [{"low": a, "high": b} for a, b in itertools.pairwise(ends)]
    raise InputError(
        f"table '{table}', variable '{variable.name}': {len(values)} values for {rows} rows; give "
        "one a row, or bin edges"
    )


def _dependent(variable: Variable, rows: int, table: str, digits: int) -> list[dict[str, Any]]:
    where = f"table '{table}', variable '{variable.name}'"
    values = list(variable.values)
    if len(values) != rows:
        raise InputError(f"{where}: {len(values)} values for {rows} rows")
    found: list[dict[str, Any]] = [{"value": _plain(value, digits)} for value in values]
    for uncertainty in variable.uncertainties:
        sides = [
            np.broadcast_to(np.asarray(side, float), (rows,))
            for side in (uncertainty.up, uncertainty.down)
            if side is not None
        ]
        for i, entry in enumerate(found):
            own = [_plain(side[i], digits) for side in sides]
            if entry["value"] == _MISSING or _MISSING in own:
                continue
            size = (
                {"symerror": abs(own[0])}
                if len(own) == 1
                else {"asymerror": {"minus": own[1], "plus": own[0]}}
            )
            entry.setdefault("errors", []).append({**size, "label": uncertainty.label})
    return found
