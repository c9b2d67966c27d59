"""HistFactory XML with ROOT histograms: the files of hist2workspace."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from difana._errors import ModelError, nearest
from difana.likelihood._schema import check_workspace


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
            the file, or its own, that finds the first input.
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
    try:
        top = ET.parse(path).getroot()
    except (ET.ParseError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"'{path}' is not XML: {error}") from error
    inputs = [entry.text.strip() for entry in top.findall("Input") if entry.text]
    if top.tag != "Combination" or not inputs:
        raise ModelError(
            f"'{path}' is no top-level HistFactory file: expected <Combination> with <Input>, "
            f"found <{top.tag}>"
        )
    above = path.resolve().parents
    places = [Path(folder)] if folder is not None else [above[min(1, len(above) - 1)], *above]
    root = next((p for p in places if (p / inputs[0]).is_file()), places[0])
    from pyhf import readxml  # JSON handling only, never the numbers

    mounted = [(Path(here), Path(there)) for there, here in (mounts or {}).items()]
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
