"""Importing difana is light and leaves JAX as it was."""

from __future__ import annotations

import builtins
import dis
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import types

import difana

HEAVY = ["matplotlib", "mplhep", "uproot", "awkward", "h5py", "pyarrow"]
HEAVY += ["distrax", "relaxed", "pyhf", "numpyro", "boost_histogram"]
ROOMS = sorted(
    module.name
    for module in pkgutil.iter_modules(difana.__path__)
    if module.ispkg and not module.name.startswith("_")
)
PROBE = """
import importlib, json, sys
import jax
for room in {rooms}:
    importlib.import_module("difana." + room)
loaded = [name for name in {heavy} if name in sys.modules]
print(json.dumps([loaded, jax.config.jax_enable_x64]))
"""


def test_rooms_import_lightly_and_do_not_configure_jax():
    code = PROBE.format(rooms=ROOMS, heavy=HEAVY)
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    loaded, x64 = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    assert x64 is False


def test_every_room_names_its_public_door():
    for room in ROOMS:
        module = __import__(f"difana.{room}", fromlist=["__all__"])
        missing = [name for name in module.__all__ if not hasattr(module, name)]
        assert missing == [], f"difana.{room}.__all__ names what is not there: {missing}"


def test_commands_set_their_options_before_jax_is_imported():
    code = """
import sys, difana.cli, difana.cli.cls, difana.cli.run
assert "jax" not in sys.modules
from difana.cli import _setup
_setup.start(fits=True)
import jax
print(jax.config.jax_use_simplified_jaxpr_constants, jax.config.jax_enable_x64)
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True"]


def test_import_difana_opens_every_room_lazily():
    code = """
import sys, difana
assert "jax" not in sys.modules and "click" not in sys.modules
assert issubclass(difana.ModelError, difana.DifanaError)
assert set(difana._ROOMS) <= set(dir(difana))
import pydoc
assert "soft_histogram" in pydoc.render_doc(difana.hist)
assert callable(difana.infer.upper_limit) and "jax" in sys.modules
try:
    difana.infr
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "module 'difana' has no attribute 'infr'. Did you mean 'infer'?"


def test_every_room_has_its_door():
    assert sorted(difana._ROOMS) == sorted(set(ROOMS) - {"difana.cli", "cli"})


def _globals_of(code):
    """Yield the global names that a code object and those inside it load."""
    yield from (s.argval for s in dis.get_instructions(code) if s.opname == "LOAD_GLOBAL")
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _globals_of(inner)


def test_no_function_uses_a_name_that_is_not_there():
    # the linters must leave undefined names alone: the axis words of jaxtyping look like some
    wrong = []
    for found in pkgutil.walk_packages(difana.__path__, "difana."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        code = compile(inspect.getsource(module), module.__file__, "exec", dont_inherit=True)
        names = {*_globals_of(code)} - {*vars(module), *vars(builtins)}
        wrong += [f"{found.name}: {name}" for name in sorted(names)]
    assert wrong == []
