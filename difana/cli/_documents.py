"""Documents of the commands: workspaces of any format, patched as the options ask."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difana._errors import ModelError
from difana.cli._options import option_of


def source_of(workspace: str) -> Any:
    """Return a path, or standard input for ``-``."""
    return sys.stdin.buffer if workspace == "-" else Path(workspace)


def point_of(text: str, labels: int) -> str | tuple[float, ...]:
    """Return the values of a point if numbers were given for all labels, its name otherwise."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        return text
    return values if len(values) == labels else text


def read_document(workspace: str, *, folder: str | None = None) -> Mapping[str, Any]:
    """Return the JSON of a pyhf workspace or an HS3 file; HistFactory XML becomes a workspace.

    The content tells which it is; all may be compressed by gzip.

    Args:
        workspace: Path; ``-`` for standard input.
        folder: Folder that the paths in XML are relative to.
    """
    from difana.likelihood import read_xml
    from difana.likelihood.formats._json import UTF16, read_bytes, read_json

    source = source_of(workspace)
    where = "standard input" if workspace == "-" else f"'{workspace}'"
    raw = read_bytes(source, where, "workspace")
    head = raw[:4096].decode("utf-16", "replace").encode() if raw[:2] in UTF16 else raw[:4096]
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return read_json(io.BytesIO(raw), where=where)
    if workspace != "-" and source.read_bytes()[:2] != b"\x1f\x8b":
        return read_xml(source, folder=folder)
    with tempfile.TemporaryDirectory() as place:  # pyhf parses files
        path = Path(place, "standard input.xml" if workspace == "-" else source.stem)
        path.write_bytes(raw)
        if folder is None:
            folder = str(Path.cwd() if workspace == "-" else source.resolve().parent)
        return read_xml(path, folder=folder)


def is_hs3(spec: Mapping[str, Any]) -> bool:
    """Return True for a file of the HEP Statistics Serialization Standard."""
    return "distributions" in spec or ("metadata" in spec and "patches" not in spec)


def read_patched(workspace: str) -> Mapping[str, Any]:
    """Return the document of a workspace with the patches of the command line applied."""
    from difana.likelihood import apply_patch, read_patchset

    patchset, point = option_of("patchset"), option_of("point")
    if (patchset is None) != (point is None):
        raise ModelError("--patchset FILE and --point NAME go together")
    spec = read_document(workspace)
    if "patches" in spec and "channels" not in spec:
        raise ModelError(
            f"'{workspace}' is a patch set: give the workspace that it is for, then "
            f"--patchset {workspace} --point NAME"
        )
    if patchset is not None:
        points = read_patchset(Path(patchset))
        spec = points.apply(spec, point_of(point, len(points.labels)))
    for patch in option_of("patch", ()):
        spec = apply_patch(spec, Path(patch))
    return spec
