"""The configuration of an analysis from YAML, checked before any work."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from difana.analysis._checks import check_references
from difana.analysis.config import AnalysisConfig
from difana.config import file_schema, read_file, read_values


def read_config(path: str | Path, *, allow_code: bool = False) -> AnalysisConfig:
    """Read and check the configuration of an analysis.

    Nothing but the file itself is opened. All problems found are listed together.

    Args:
        path: The YAML file; `config_schema` describes it.
        allow_code: Import the modules that ``Network: Type`` and ``Training: Objective`` may name
            (``module:name``): they can do anything. Without it such a file is refused.

    Returns:
        The configuration.

    Raises:
        ConfigError: Names the file, line and key at fault and the nearest known key.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "analysis.yaml")
        ...     _ = path.write_text('''
        ... Features: [mass]
        ... Regions: [{Name: SR, Filter: mass > 60}]
        ... Samples:
        ...   - {Name: signal, Files: s.root, Signal: true}
        ...   - {Name: background, Files: b.root, Weight: weight}
        ... ''')
        ...     config = read_config(path)
        >>> [region.name for region in config.trained], config.factors_of("signal", "SR")
        (['SR'], ('mu',))
    """
    return _seeded(read_file(path, AnalysisConfig, check=_checked(allow_code=allow_code)))


def config_of(
    values: Mapping[str, Any], *, path: str | Path, allow_code: bool = False
) -> AnalysisConfig:
    """Return the configuration of plain values, as ``result.json`` holds them under ``config``.

    Args:
        values: The values.
        path: Where they come from, for messages; relative paths of files start beside it.
        allow_code: As in `read_config`.

    Raises:
        ConfigError: Names the key at fault.

    Example:
        >>> values = {"Features": ["m"], "Regions": [{"Name": "SR"}],
        ...           "Samples": [{"Name": "s", "Files": "s.root", "Signal": True},
        ...                       {"Name": "b", "Files": "b.root"}]}
        >>> config_of(values, path="result.json").columns
        ('m',)
    """
    check = _checked(allow_code=allow_code)
    return _seeded(read_values(values, AnalysisConfig, path=path, check=check))


def _checked(*, allow_code: bool) -> Callable[..., AnalysisConfig]:
    """Return how to check a configuration, its code imported if that is allowed."""
    return functools.partial(check_references, allow_code=allow_code)


def _seeded(config: AnalysisConfig) -> AnalysisConfig:
    """Return the configuration with one seed for all, and the columns that the network sees."""
    training = dataclasses.replace(config.training, seed=config.general.seed)
    seen = len(config.features) if len(config.columns) > len(config.features) else None
    network = dataclasses.replace(config.network, columns=seen)
    return dataclasses.replace(config, training=training, network=network)


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of an analysis file, for editors.

    Example:
        >>> schema = config_schema()
        >>> schema["properties"]["Regions"]["items"]["required"]
        ['Name']
    """
    return file_schema(AnalysisConfig, "difana analysis")
