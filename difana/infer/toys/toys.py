"""CLs and p-values from toys: drawn, fitted and ranked in one compiled program."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import ConfigError, InputError
from difana.infer._checks import check_free_poi
from difana.infer.asimov import asimov_data
from difana.infer.toys._toy_loop import fingerprint, joined, observe, run_toys, statistic_kind
from difana.infer.toys.toys_result import ToysResult
from difana.likelihood import Model


def toys(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    mu: float = 1.0,
    number: int,
    key: PRNGKeyArray,
    statistic: str = "qtilde",
    chunk: int = 1000,
    devices: Any = None,
    client: Any = None,
    file: str | Path | None = None,
    progress: bool = False,
) -> ToysResult:
    r"""Test a value of the parameter of interest with toys.

    ``number`` data sets are drawn at ``mu`` and as many at 0, main and auxiliary data, with
    nuisances fitted to the data there. Each is fitted freely and at the tested value, which gives
    its statistic; :math:`CL_{s+b}` and :math:`CL_b` are the shares of toys at least as large as
    the observed statistic, :math:`CL_s` is their ratio. Drawing and fits of a chunk are one
    compiled program. Toy ``i`` depends on ``key`` and ``i`` alone: the result does not depend on
    chunks, devices or interruptions. Not differentiable; not to be called inside ``jit``.

    Args:
        model: The model.
        data: Data vector. Without data, toys are drawn at the starting values of the nuisances
            and there are expected values only.
        mu: Tested value.
        number: Toys of each hypothesis.
        key: Random key; results of several keys are joined by :func:`combine_toys`.
        statistic: ``qtilde``, ``qmu``, ``tmu``, ``tmu_tilde``, or ``q0``, which tests zero.
        chunk: Toys fitted together.
        devices: Devices to spread chunks over; all local ones by default.
        client: A ``dask.distributed.Client``: chunks then run on its workers.
        file: An ``.npz`` file written as the toys are made, about once a second. An existing one
            of the same model, data, question and key is continued, also towards a larger number.
        progress: Show a progress bar on a terminal.

    Returns:
        The statistics of all toys; p-values, CLs and their errors are its properties.

    Raises:
        ConfigError: If a number or the statistic is not valid.
        ModelError: If the statistic does not suit the bounds, or the data have a wrong length.
        InputError: If the file belongs to another run.

    References:
        arXiv:1007.1727; A. L. Read, J. Phys. G 28 (2002) 2693.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([10.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal, Template([50.0], name="b")), name="SR")])
        >>> result = toys(model, model.data([50.0]), number=2000, key=jax.random.key(0))
        >>> from scipy.stats import poisson  # exact: as few events as seen, or fewer
        >>> exact = poisson.cdf(50, 60) / poisson.cdf(50, 50)
        >>> result.ok, bool(abs(result.cls - exact) < 4 * result.cls_error)
        (True, True)
    """
    check_free_poi(model)
    asked = statistic_kind(model, statistic)
    if data is None:
        data, seen = asimov_data(model).data, False
    else:
        model.check_data(data)
        seen = True
    least = 0.0 if bool(asked.physical) else -np.inf
    if not np.isfinite(mu) or mu < least:
        raise ConfigError(f"mu = {mu}: must be a finite number of at least {least:g}")
    dtype = model.nominal.dtype
    made_at = np.array([[0.0], [mu]], dtype)
    conditional = observe(model, data, made_at, asked)
    tested = np.zeros_like(made_at) if statistic == "q0" else np.full_like(made_at, mu)
    found = run_toys(
        model,
        np.asarray(conditional.params),
        tested,
        asked=asked,
        number=number,
        key=key,
        chunk=chunk,
        devices=devices,
        client=client,
        file=file,
        progress=progress,
    )
    row = 0 if statistic == "q0" else 1
    status = joined(conditional.status) | (joined(conditional.free_status) if seen else 0)
    impl = str(jax.random.key_impl(key))
    return ToysResult(
        float(mu),
        float(conditional.statistic[row]) if seen else None,
        found.statistic[1],
        found.statistic[0],
        found.best[1, :, 0],
        found.best[0, :, 0],
        found.status[1],
        found.status[0],
        np.asarray(conditional.params),
        status,
        (tuple(np.ravel(jax.random.key_data(key)).tolist()),),
        statistic,
        fingerprint(model, np.asarray(data), mu, impl, statistic),
    )


def combine_toys(*results: ToysResult) -> ToysResult:
    """Join toys of several random keys: one result with all of them.

    Args:
        results: Results of the same model, data, tested value and statistic, each from a key of
            its own.

    Raises:
        InputError: If they do not belong together, or a key occurs twice.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> signal = Template([10.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal, Template([50.0], name="b")), name="SR")])
        >>> parts = [toys(model, model.data([50.0]), number=500, key=jax.random.key(seed))
        ...          for seed in range(2)]
        >>> combine_toys(*parts).signal.size
        1000
    """
    if not results:
        raise InputError("there are no toys to combine")
    first = results[0]
    if any(result.mark != first.mark for result in results):
        raise InputError(
            "toys of different models, data, tested values or statistics cannot be combined"
        )
    keys = [key for result in results for key in result.keys]
    if len(set(keys)) != len(keys):
        raise InputError("toys of one random key would count twice: give every run its own key")
    joined = {
        name: np.concatenate([getattr(result, name) for result in results])
        for name in (
            "signal", "background", "signal_best", "background_best",
            "signal_status", "background_status",
        )
    }  # fmt: skip
    names = tuple(joined)
    return eqx.tree_at(
        lambda result: tuple(getattr(result, name) for name in names),
        ToysResult(**{**_fields(first), "keys": tuple(keys)}),
        tuple(joined.values()),
    )


def _fields(result: ToysResult) -> dict[str, Any]:
    return {each.name: getattr(result, each.name) for each in dataclasses.fields(result)}
