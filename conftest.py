"""Settings of JAX for every test and doctest. Fixtures are in tests/conftest.py."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# The mesh tests need several devices; XLA reads the flag when the first array is made.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=8"
    # compilation dominates the tests: a third of the time for programs that are a bit slower
    + (
        " --xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
        if version("jax").startswith(("0.8.", "0.9.", "0.10."))  # XLA refuses unknown flags
        else ""
    ),
)
os.environ.setdefault("MPLBACKEND", "agg")
# small matrices, several test processes: threads of BLAS would only wait for each other
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest

# "all" (or rooms): arrays are compared with their annotations when a test calls what takes them
SHAPES = os.environ.get("DIFANA_TEST_SHAPES", "flows,hist,metrics,nn")
if SHAPES != "0":
    spec = importlib.util.spec_from_file_location(
        "difana_tests_shapes", Path(__file__).parent / "tests" / "shapes.py"
    )
    shapes = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = shapes
    spec.loader.exec_module(shapes)
    shapes.install(*([] if SHAPES == "all" else SHAPES.split(",")))

CACHE = os.environ.get("DIFANA_TEST_CACHE", str(Path(__file__).parent / ".cache" / "jax"))

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

MAPS = Path("/proc/self/maps")
MOST_MAPS = 30_000  # Linux allows 65,530 by default; a compiled program takes about fourteen


@pytest.fixture(autouse=True, scope="module")
def _programs_below_the_limit_of_maps() -> Iterator[None]:
    """Drop compiled programs before a long run holds more than the system can map.

    Beyond the limit XLA ends the process with a segmentation fault.
    """
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


STRICT = ("data", "flows", "hist", "metrics", "nn")


@pytest.fixture(autouse=True)
def _strict_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """In these rooms a rank or a type that grows by itself is an error."""
    if set(STRICT).isdisjoint(request.path.parts):
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
