"""Options that commands share, one decorator for each kind; their values travel in the context."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import click

from difana._errors import ModelError

_META = "difana.options"


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    ctx.meta.setdefault(_META, {})[param.name] = value
    return value


def _add(function: Callable, *options: Callable) -> Callable:
    for option in options:
        function = option(function)
    return function


def _hidden(*names: str, **options: Any) -> Callable:
    """Return an option that is remembered instead of being passed to the command."""
    return click.option(*names, expose_value=False, callback=_remember, **options)


def option_of(name: str, default: Any = None) -> Any:
    """Return the value of an option of the present command, by the name of its parameter."""
    ctx = click.get_current_context(silent=True)
    found = None if ctx is None else ctx.meta.get(_META, {}).get(name)
    return default if found is None else found


class Number(click.ParamType):
    """A finite number, within limits if wanted."""

    name = "number"

    def __init__(
        self, *, above: float | None = None, at_least: float | None = None, below: float = math.inf
    ) -> None:
        """Remember the limits: two kinds of lower ones, and an upper one."""
        self.above, self.at_least, self.below = above, at_least, below

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or say which ones are allowed."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            self.fail(f"'{value}' is no number", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        low = self.above if self.above is not None else self.at_least
        if low is not None and (number < low or (number == low and self.above is not None)):
            what = f"greater than {low:g}" if self.above is not None else f"at least {low:g}"
            self.fail(f"{number:g} must be {what}", param, ctx)
        if not number < self.below:
            self.fail(f"{number:g} must be less than {self.below:g}", param, ctx)
        return number


LEVEL = Number(above=0.0, below=1.0)
SEED = click.IntRange(min=0, max=2**63 - 1)


def number_of(text: str, option: str) -> float:
    """Return the number in an option such as ``NAME=VALUE``."""
    try:
        return float(text)
    except ValueError:
        raise ModelError(f"{option}: '{text}' is no number") from None


def patch_options(function: Callable) -> Callable:
    """Add the options that change a workspace before it is used."""
    return _add(
        function,
        _hidden(
            "--point",
            metavar="NAME",
            help="Point of the patch set: its name, or its values (700,400).",
        ),
        _hidden("--patchset", metavar="FILE", help="Patch set with a grid of signals."),
        _hidden(
            "--patch", metavar="FILE", multiple=True, help="JSON patch to apply; may be repeated."
        ),
    )


def workspace_options(function: Callable) -> Callable:
    """Add what all commands on workspaces take."""
    return _add(
        patch_options(function),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--measurement",
            metavar="NAME",
            help="Measurement (HS3: analysis); the first by default.",
        ),
        click.argument("workspace"),
    )


def model_options(function: Callable) -> Callable:
    """Add the options that change the parameters of the model."""
    return _add(
        function,
        _hidden(
            "--barlow-beeston",
            type=click.Choice(("lite", "full", "full-gaussian")),
            help="Simulation statistics: a factor a bin (lite), or for each sample and bin (full).",
        ),
        _hidden(
            "--mask",
            multiple=True,
            metavar="CHANNEL",
            help="A channel that no fit looks at; may be repeated.",
        ),
        _hidden(
            "--clip-negative",
            is_flag=True,
            help="Clip yields of samples that shifts make negative to 1e-5 events.",
        ),
        _hidden(
            "--bounds",
            multiple=True,
            metavar="NAME=LO,HI",
            help="Bounds of a parameter; may be repeated.",
        ),
        _hidden(
            "--set",
            "values",
            multiple=True,
            metavar="NAME=VALUE",
            help="Starting value of a parameter; may be repeated.",
        ),
        _hidden(
            "--fix",
            multiple=True,
            metavar="NAME[=VALUE]",
            help="Hold a parameter, where it starts or at a value; may be repeated.",
        ),
        _hidden("--poi", metavar="NAME", help="Another parameter of interest."),
    )


def expected_option(function: Callable) -> Callable:
    """Add the option for results on Asimov data."""
    return _add(
        function,
        _hidden(
            "--expected",
            is_flag=True,
            help="Blind: on Asimov data with signal (of --set POI=VALUE, else 1); "
            "observations are not read.",
        ),
    )


def which_options(function: Callable) -> Callable:
    """Add the options that choose observed or expected results."""
    return _add(
        function,
        _hidden("--observed", is_flag=True, help="Print the observed result alone."),
        _hidden(
            "--expected",
            is_flag=True,
            help="Blind: expected results alone, nuisances nominal; observations are not read.",
        ),
    )


_NAMES = {"q": "qmu"}  # of statistics, as other tools call them


def _statistic(ctx: click.Context, param: click.Parameter, value: str) -> str:
    return _NAMES.get(value, value)


def statistic_option(*names: str) -> Callable:
    """Return the decorator of ``--test-stat``; the first name is the default."""
    return click.option(
        "--test-stat",
        "--statistic",
        "statistic",
        default=names[0],
        show_default=True,
        type=click.Choice(names),
        callback=_statistic,
        help="Test statistic (q is qmu; it needs --bounds of mu below zero).",
    )


def fixed_of(given: Sequence[str]) -> dict[str, float | None]:
    """Return the parameters of ``--fix NAME[=VALUE]``."""
    found: dict[str, float | None] = {}
    for text in given:
        name, equals, value = text.partition("=")
        _once(found, name, "--fix", text)
        found[name] = number_of(value, f"--fix {text}") if equals else None
    return found


def values_of(given: Sequence[str]) -> dict[str, float]:
    """Return the values of ``--set NAME=VALUE``."""
    found: dict[str, float] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ModelError(f"--set '{text}' must read NAME=VALUE")
        _once(found, name, "--set", text)
        found[name] = number_of(value, f"--set {text}")
    return found


def bounds_of(given: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the bounds of ``--bounds NAME=LO,HI``."""
    found: dict[str, tuple[float, float]] = {}
    for text in given:
        name, _, value = text.partition("=")
        ends = value.split(",")
        if len(ends) != 2:
            raise ModelError(f"--bounds '{text}' must read NAME=LO,HI")
        _once(found, name, "--bounds", text)
        low, high = (number_of(end, f"--bounds {text}") for end in ends)
        found[name] = low, high
    return found


def _once(found: dict[str, Any], name: str, option: str, text: str) -> None:
    if not name:
        raise ModelError(f"{option} '{text}' names no parameter")
    if name in found:
        raise ModelError(f"{option} {name} stands twice")


def same_source(workspace: str, measurement: str | None) -> str:
    """Return workspace and options that make the same model, to be typed after a command."""
    words = [workspace]
    if measurement is not None:
        words += ["--measurement", measurement]
    for option, name in (
        ("--patch", "patch"),
        ("--patchset", "patchset"),
        ("--point", "point"),
        ("--poi", "poi"),
        ("--fix", "fix"),
        ("--set", "values"),
        ("--bounds", "bounds"),
        ("--mask", "mask"),
        ("--barlow-beeston", "barlow_beeston"),
    ):
        given = option_of(name, ())
        for value in [given] if isinstance(given, str) else given:
            words += [option, value]
    words += ["--clip-negative"] * bool(option_of("clip_negative"))
    return shlex.join(words)
