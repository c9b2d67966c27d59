"""Networks and objectives of the user, which an analysis file names as ``module:name``.

To read a file must be safe, so this is the one place that imports anything it names, and it does so
only where whoever reads the file allows it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from difana._errors import ConfigError, InputError, nearest
from difana.analysis.config import AnalysisConfig
from difana.config import Node, Problems, is_code
from difana.losses import Objective

_imported: dict[str, str] = {}  # module -> hash of its file when it was imported


class OwnCode(str):
    """A text ``module:name`` that was imported.

    It is the text wherever a text is expected; printed it names the content of the module, so that
    whatever depends on it notices a change.

    Attributes:
        item: What the name stands for in the module.
        sha256: Hash of the file of the module.
    """

    item: Any
    sha256: str

    def __new__(cls, text: str, *, item: Any, sha256: str) -> OwnCode:
        """Return the text with what it stands for."""
        found = super().__new__(cls, text)
        found.item, found.sha256 = item, sha256
        return found

    def __repr__(self) -> str:
        """Return the text and the hash."""
        return f"{str(self)!r} (sha256 {self.sha256})"

    def __deepcopy__(self, memo: Any) -> OwnCode:
        """Return itself: it cannot change."""
        return self


def with_code(
    config: AnalysisConfig, root: Node, problems: Problems, *, allowed: bool
) -> AnalysisConfig:
    """Return the configuration with the code that it names imported, or note that it must not be.

    Args:
        config: The configuration.
        root: Its values with their places.
        problems: Takes what is wrong.
        allowed: Whether code may be imported.
    """
    found: dict[str, OwnCode] = {}
    for key, text in _named(config).items():
        line = root.line_of(key)
        if not allowed:
            problems.add(
                line,
                f"{key} '{text}' is code, which is not imported unless you allow it: --allow-code "
                "(in Python allow_code=True). Allow it for files that you trust alone",
            )
            continue
        try:
            found[key] = imported(text, beside=config.path.parent)
        except ConfigError as error:
            problems.add(line, f"{key} '{text}': {error}")
    network, training = found.get("Network.Type"), found.get("Training.Objective")
    if network is not None:
        config = dataclasses.replace(
            config, network=dataclasses.replace(config.network, type=network)
        )
    if training is not None:
        own = dataclasses.replace(config.training, objective=training)
        config = dataclasses.replace(config, training=own)
    return config


def _named(config: AnalysisConfig) -> dict[str, str]:
    both = {"Network.Type": config.network.type, "Training.Objective": config.training.objective}
    return {key: text for key, text in both.items() if text is not None and is_code(text)}


def code_of(config: AnalysisConfig) -> dict[str, dict[str, str]]:
    """Return what code a configuration uses, by key, for the record."""
    return {
        key: {"name": str(text), "sha256": text.sha256}
        for key, text in _named(config).items()
        if isinstance(text, OwnCode)
    }


def check_recorded(config: AnalysisConfig, recorded: Mapping[str, Any], path: Path) -> None:
    """Check that the code of a result is that of its run.

    Raises:
        InputError: If a module was changed.
    """
    for key, own in code_of(config).items():
        was = dict(recorded.get(key) or {}).get("sha256")
        if was != own["sha256"]:
            module = own["name"].partition(":")[0]
            raise InputError(
                f"'{path}': {key} '{own['name']}': the file of module '{module}' is not the one "
                f"of the run (sha256 {own['sha256'][:12]}, in the run {str(was)[:12]}): put that "
                "back, or run the analysis again"
            )


def imported(text: str, *, beside: Path) -> OwnCode:
    """Import what a text ``module:name`` stands for.

    The module is looked for in a folder, in the current one, and where Python finds modules.

    Args:
        text: The text.
        beside: The folder.

    Raises:
        ConfigError: If there is no such module or name, the import fails, or what is found cannot
            be called.

    Example:
        >>> imported("math:sqrtt", beside=Path())
        Traceback (most recent call last):
        difana._errors.ConfigError: module 'math' has no 'sqrtt'. Did you mean 'sqrt'?
    """
    name, _, attribute = text.partition(":")
    with _searched(beside.resolve(), Path.cwd()):
        module, digest = _module(name)
    if not hasattr(module, attribute):
        raise ConfigError(
            f"module '{name}' has no '{attribute}'.{nearest(attribute, vars(module))}"
        )
    item = getattr(module, attribute)
    if not callable(item) and not isinstance(item, Objective):
        raise ConfigError(f"it is a {type(item).__name__}, which cannot be called")
    return OwnCode(text, item=item, sha256=digest)


def _module(name: str) -> tuple[Any, str]:
    """Import a module; return it and the hash of its file."""
    importlib.invalidate_caches()
    try:
        before = sys.modules.pop(name, None)  # to see what would be imported now
        try:
            spec = importlib.util.find_spec(name)
        finally:
            if before is not None:
                sys.modules[name] = before
        if spec is None:
            raise ConfigError(
                f"there is no module '{name}' beside the file, in the current folder, or where "
                "Python looks for modules (PYTHONPATH)"
            )
        origin = Path(spec.origin) if spec.has_location and spec.origin else None
        if origin is None:
            raise ConfigError(f"module '{name}' has no file")
        digest = hashlib.sha256(origin.read_bytes()).hexdigest()
        known = None if before is None else getattr(before, "__file__", None)
        if known is not None and Path(known).resolve() != origin.resolve():
            raise ConfigError(f"another module '{name}' is in use ('{known}'): rename yours")
        if before is not None and _imported.get(name, digest) != digest:
            raise ConfigError(f"module '{name}' was changed after it was imported: start again")
        module = importlib.import_module(name)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # whatever the code of others does
        raise ConfigError(
            f"importing '{name}' fails with {type(error).__name__}: {error}"
        ) from error
    _imported[name] = digest
    return module, digest


@contextmanager
def _searched(*folders: Path) -> Iterator[None]:
    """Look for modules in some folders first."""
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before
