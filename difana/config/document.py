"""One YAML file, read with the places of its values."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from difana._errors import ConfigError
from difana.config._convert import Converter
from difana.config.places import Node, Problems, shortened

_MOST_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """The safe loader, which also takes 1e-3 for a number, as YAML 1.2 does."""


_Loader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def load_yaml(path: str | Path) -> Node:
    r"""Read one YAML document with the places of its values.

    Raises:
        ConfigError: If the file is missing, no UTF-8 text, no valid YAML, too large, holds a key
            twice, or is no mapping. The message names file and line.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.yaml")
        ...     _ = path.write_text("General:\n  Seed: 3\n")
        ...     node = load_yaml(path).value["General"].value["Seed"]
        >>> node.value, node.line, node.path
        (3, 2, 'General.Seed')
    """
    path = Path(path)
    text = _text_of(path)
    problems = Problems(str(path))
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise ConfigError(f"{path} is empty")
        node = Converter(loader, problems).convert(root, root.start_mark.line + 1, "", ())
    except yaml.YAMLError as error:
        raise _not_yaml(path, text, error) from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply") from error
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(node.value, dict):
        problems.add(node.line, f"expected sections such as 'General:', got {node.kind()}")
    problems.raise_if_any()
    return node


def _text_of(path: Path) -> str:
    """Return the text of a file of sensible size."""
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no file" if path.exists() else "missing"
            raise ConfigError(f"cannot read the configuration '{path}': it is {what}")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except ValueError as error:  # our own, or a NUL in the path
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"cannot read the configuration '{path}': {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} is too large for a configuration: more than {_MOST_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise ConfigError(f"{path}:{line}: no UTF-8 text ({byte}): save it as UTF-8") from error


def _not_yaml(path: Path, text: str, error: yaml.YAMLError) -> ConfigError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{ord(text[error.position]):04X}"
        return ConfigError(
            f"{path}:{line}: the control character {character} cannot stand in YAML: remove it"
        )
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).split("\n")[0]
    line = "" if mark is None else f":{mark.line + 1}"
    return ConfigError(
        f"{path}{line}: not valid YAML: {shortened(str(reason), 300)}. A text that holds ': ' or "
        "'#', or starts with one of {}[]&*!|>'\"%@`, must stand in quotes"
    )
