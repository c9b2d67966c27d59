"""HistFactory XML with ROOT histograms: the files of hist2workspace."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from difana._errors import ModelError, nearest
from difana.likelihood.formats._schema import check_workspace

_LARGEST = 1 << 26  # bytes of an XML file
_TOO_MANY = 10_000  # inputs
_FILES = ("InputFile", "HistoFile", "HistoFileLow", "HistoFileHigh")  # attributes that name one


def _parse(path: Path, top: Path) -> ET.Element:
    """Return the root of an XML file; entities, which may unfold without end, are refused."""
    try:
        if not path.is_file():
            raise ModelError(
                f"'{top}': no file '{path}'; say with `folder` what the paths in the XML are "
                "relative to"
            )
        raw = path.read_bytes() if path.stat().st_size <= _LARGEST else None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ModelError(f"'{top}': cannot read {str(path)!r}: {error}") from error
    if raw is None:
        raise ModelError(f"'{path}' has more than {_LARGEST} bytes; that is no HistFactory XML")
    if any("<!ENTITY".encode(code) in raw for code in ("utf-8", "utf-16-le", "utf-16-be")):
        raise ModelError(f"'{path}' declares entities, which are not read")
    try:
        return ET.fromstring(raw)
    except (ET.ParseError, LookupError, ValueError) as error:
        raise ModelError(f"'{path}' is not XML: {error}") from error


def _found(top: Path, inputs: list[str], root: Path, mounted: list[tuple]) -> list[tuple]:
    """Return the mounts with those of files that moved, after all of them were looked for.

    Exports name files where they were written (``/home/somebody/fit/data.root``): a file that is
    not there is taken from beside the XML, the top one or that of its channel.

    Raises:
        ModelError: Names the first channel or ROOT file that is none.
    """
    moved: list[tuple] = []

    def place(name: str, *folders: Path) -> Path:
        for here, there in [*moved, *mounted]:
            if Path(name).is_relative_to(there):
                return here / Path(name).relative_to(there)
        beside = [folder / Path(name).name for folder in folders]
        if not _is_file(root / name) and (near := [p for p in beside if _is_file(p)]):
            moved.append((near[0].resolve(), Path(name)))
            return near[0]
        return root / name

    if len(inputs) > _TOO_MANY:
        raise ModelError(f"'{top}' has {len(inputs)} inputs; more than {_TOO_MANY} are not read")
    for name in inputs:
        file = place(name, top.parent)
        channel = _parse(file, top)
        for element in channel.iter():
            for attribute in _FILES:
                named = element.get(attribute)
                if named and not _is_file(place(named, top.parent, file.parent)):
                    who = f"{element.tag} '{element.get('Name', '')}'"
                    raise ModelError(
                        f"'{name}', {who}: no ROOT file '{place(named)}', and no "
                        f"'{Path(named).name}' beside the XML"
                    )
    return [*moved, *mounted]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_xml(
    path: str | Path,
    *,
    folder: str | Path | None = None,
    mounts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the workspace of a HistFactory XML file; needs uproot.

    pyhf reads the XML; relative widths of ShapeSys and StatError histograms become absolute, and
    the constraint type of a ShapeSys is ignored, as pyhf does.

    Args:
        path: The top-level XML file (``Combination``).
        folder: Folder that the paths inside are relative to; by default the first of those above
            the file, or its own, that finds the first input. A file that is not where the XML says
            is looked for beside the XML.
        mounts: Maps paths as they stand in the XML to where the files are.

    Raises:
        ModelError: If a file is missing or broken, a histogram is not found, or the result is no
            valid workspace.

    Example:
        >>> read_xml("missing.xml")
        Traceback (most recent call last):
        difana._errors.ModelError: no HistFactory file 'missing.xml'.
    """
    path = Path(path)
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.xml")])
        raise ModelError(f"no HistFactory file '{path}'.{near}")
    top = _parse(path, path)
    inputs = [entry.text.strip() for entry in top.findall("Input") if entry.text]
    if top.tag != "Combination" or not inputs:
        raise ModelError(
            f"'{path}' is no top-level HistFactory file: expected <Combination> with <Input>, "
            f"found <{top.tag}>"
        )
    above = path.resolve().parents
    places = [Path(folder)] if folder is not None else [above[min(1, len(above) - 1)], *above]
    root = next((p for p in places if _is_file(p / inputs[0])), places[0])
    from pyhf import readxml  # JSON handling only, never the numbers

    mounted = [(Path(here), Path(there)) for there, here in (mounts or {}).items()]
    mounted = _found(path, inputs, root, mounted)
    try:
        with warnings.catch_warnings():  # pyhf 0.7 uses a deprecated part of jsonschema
            warnings.filterwarnings("ignore", "jsonschema.RefResolver", DeprecationWarning)
            spec = readxml.parse(path, root, mounts=mounted)
    except FileNotFoundError as error:
        raise ModelError(
            f"'{path}': no file '{error.filename or error}'; say with `folder` what the paths in "
            "the XML are relative to"
        ) from error
    except KeyError as error:
        raise ModelError(f"'{path}': missing: {error.args[0]}") from error
    except ET.ParseError as error:
        raise ModelError(f"'{path}': an input is not XML: {error}") from error
    except Exception as error:  # uproot and pyhf raise many kinds
        raise ModelError(f"cannot read '{path}': {type(error).__name__}: {error}") from error
    finally:
        readxml.clear_filecache()
    return dict(check_workspace(spec))
