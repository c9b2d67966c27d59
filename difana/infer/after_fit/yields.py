"""Yields before and after a fit, with uncertainties from the full covariance."""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import InputError, ModelError
from difana._numerics import safe_divide, safe_sqrt
from difana._result import AbstractResult
from difana._status import Status, flag
from difana.infer.after_fit.pulls import prefit_covariance, prefit_parameters
from difana.infer.fit import negative_yield
from difana.infer.fit_result import FitResult
from difana.infer.parallel._many import traced
from difana.likelihood import Model
from difana.likelihood.structure import ChannelLayout, Structure


class YieldsResult(AbstractResult):
    """Expected yields and their standard deviations.

    A *row* is one bin of one template; a *block* is one template (one sample in one channel).

    Attributes:
        bins: Sum of the samples in each bin, ``[bins]``.
        bin_errors: Standard deviations, ``[bins]``.
        channels: Sum of the bins of each channel, ``[channels]``.
        channel_errors: Standard deviations, ``[channels]``.
        rows: Each sample in each bin, ``[rows]``.
        row_errors: Standard deviations, ``[rows]``.
        blocks: Each sample in each channel, ``[blocks]``.
        block_errors: Standard deviations, ``[blocks]``.
        status: Bit flags of the fit and of what is expected there.
        covariance: Full covariance of the bins, ``[bins, bins]``, if asked for, else None.
        structure: Names and indices of the model (static).
        label: ``"pre-fit"``, ``"post-fit"`` or another name (static).
    """

    bins: Float[Array, " bins"]
    bin_errors: Float[Array, " bins"]
    channels: Float[Array, " channels"]
    channel_errors: Float[Array, " channels"]
    rows: Float[Array, " rows"]
    row_errors: Float[Array, " rows"]
    blocks: Float[Array, " blocks"]
    block_errors: Float[Array, " blocks"]
    status: Int[Array, ""]
    structure: Structure = eqx.field(static=True)
    label: str = eqx.field(static=True)
    covariance: Float[Array, "bins bins"] | None = None

    def channel(self, name: str) -> dict[str, Any]:
        """Return the numbers of one channel.

        Returns:
            ``yields`` and ``errors`` of its bins, ``sum`` and ``sum_error``, and the same for each
            sample in ``samples``.

        Raises:
            ModelError: If there is no such channel.
        """
        found = [c for c in self.structure.channels if c.name == name]
        if not found:
            names = [c.name for c in self.structure.channels]
            raise ModelError(f"no channel '{name}'; there are {names}")
        return self._numbers(found[0])

    def _numbers(self, layout: ChannelLayout) -> dict[str, Any]:
        number = self.structure.channels.index(layout)
        block = sum(len(c.templates) for c in self.structure.channels[:number])
        bins = slice(layout.start, layout.start + layout.bins)
        samples = {}
        for i, template in enumerate(layout.templates):
            rows = slice(template.start, template.start + layout.bins)
            samples[template.name] = {
                "yields": np.asarray(self.rows[rows]).tolist(),
                "errors": np.asarray(self.row_errors[rows]).tolist(),
                "sum": float(self.blocks[block + i]),
                "sum_error": float(self.block_errors[block + i]),
            }
        return {
            "yields": np.asarray(self.bins[bins]).tolist(),
            "errors": np.asarray(self.bin_errors[bins]).tolist(),
            "sum": float(self.channels[number]),
            "sum_error": float(self.channel_errors[number]),
            "samples": samples,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON: the label, every channel, the covariance of all bins."""
        channels = {c.name: self._numbers(c) for c in self.structure.channels}
        found: dict[str, Any] = {"label": self.label, "channels": channels}
        if self.covariance is not None:
            found["covariance"] = np.asarray(self.covariance).tolist()
        return found

    def as_text(self, data: Float[Array, "..."] | None = None, *, per_bin: bool = True) -> str:
        """Return a table for every channel: samples, total, and data if given.

        Args:
            data: Observed yields of all bins; what follows them is ignored.
            per_bin: One column a bin, besides the sum.
        """
        blocks = []
        for layout in self.structure.channels:
            numbers = self._numbers(layout)
            lines = [*numbers["samples"].items(), ("total", numbers)]
            head = [f"bin {i + 1}" for i in range(layout.bins)] if per_bin else []
            table = [[f"{layout.name} ({self.label})", *head, "sum"]]
            for name, row in lines:
                pairs = list(zip(row["yields"], row["errors"], strict=True)) if per_bin else []
                pairs.append((row["sum"], row["sum_error"]))
                table.append([name, *(f"{y:.2f} ± {e:.2f}" for y, e in pairs)])
            if data is not None:
                seen = np.asarray(data)[layout.start : layout.start + layout.bins]
                cells = [f"{n:g}" for n in seen] if per_bin else []
                table.append(["data", *cells, f"{seen.sum():g}"])
            blocks.append(_aligned(table))
        return "\n\n".join(blocks)


def _aligned(table: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )


def yields(
    model: Model,
    params: Float[Array, " params"] | None = None,
    covariance: Float[Array, "params params"] | None = None,
    *,
    fit: FitResult | None = None,
    spread: Literal["linear", "symmetric"] = "linear",
    label: str | None = None,
    batch: int = 32,
    full_covariance: bool = False,
) -> YieldsResult:
    r"""Return the expected yields of bins, channels and samples with their uncertainties.

    Before a fit (neither ``params`` nor ``fit``) constrained parameters stand at the centres of
    their constraints and vary independently by their widths, free ones do not vary. After a fit
    :math:`\mathrm{Var}(y) = J C J^T` with the full covariance, :math:`J = dy/d\theta`: forward
    derivatives along the principal axes of :math:`C`, ``batch`` at a time, so that the work is
    that of a few hundred evaluations and no matrix of bins times parameters is needed.

    The yields are differentiable; their uncertainties are not differentiated through
    ``covariance``.

    Args:
        model: The model.
        params: Parameters.
        covariance: Their covariance, ``[params, params]``.
        fit: A fit that gives both.
        spread: ``"linear"``: derivatives at ``params``. ``"symmetric"``: half the difference of
            the yields with each parameter moved by plus and minus one standard deviation, the
            definition of cabinetry; it differs where the model is not linear within that range.
        label: Name of the result; ``"pre-fit"`` or ``"post-fit"`` by default.
        batch: Directions evaluated at the same time.
        full_covariance: Also return the covariance of all bins, ``[bins, bins]``.

    Returns:
        Yields and standard deviations.

    Raises:
        InputError: If parameters come without a covariance, or both with a fit.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> print(yields(model).as_text())
        SR (pre-fit)         bin 1         bin 2            sum
        signal        12.00 ± 0.00  11.00 ± 0.00   23.00 ± 0.00
        background    50.00 ± 3.00  52.00 ± 7.00  102.00 ± 7.62
        total         62.00 ± 3.00  63.00 ± 7.00  125.00 ± 7.62
    """
    if spread not in ("linear", "symmetric"):
        raise InputError(f"spread must be 'linear' or 'symmetric', not '{spread}'")
    params, covariance, label = point_of(model, params, covariance, fit, label)
    function = _yields if traced(model, params, covariance) else _compiled
    numbers, joint, status = function(model, params, covariance, spread, batch, full_covariance)
    return YieldsResult(
        *numbers,
        status=status if fit is None else status | fit.status,
        structure=model.structure,
        label=label,
        covariance=joint if full_covariance else None,
    )


def point_of(
    model: Model,
    params: Float[Array, " params"] | None,
    covariance: Float[Array, "params params"] | None,
    fit: FitResult | None,
    label: str | None,
) -> tuple[Float[Array, " params"], Float[Array, "params params"], str]:
    """Return where the model is looked at: given, of a fit, or before any fit."""
    if fit is not None:
        if params is not None or covariance is not None:
            raise InputError("give either a fit, or parameters and their covariance")
        params, covariance = fit.params, fit.covariance
    if (params is None) != (covariance is None):
        raise InputError("parameters and their covariance go together; give a fit, both or none")
    if label is None:
        label = "pre-fit" if params is None else "post-fit"
    if params is None or covariance is None:
        params, covariance = prefit_parameters(model), prefit_covariance(model)
    size = len(model.parameters)
    if params.shape != (size,) or covariance.shape != (size, size):
        raise ModelError(
            f"parameters of shape {params.shape} and covariance of shape {covariance.shape} do "
            f"not fit the model, which has {size} parameters"
        )
    return params, covariance, label


def _totals(structure: Structure, rows: Array) -> tuple[Array, ...]:
    """Return bins, channels, rows and blocks; linear in the rows."""
    bins = jnp.zeros(structure.bins, rows.dtype).at[structure.row_bin].add(rows)
    sizes = [channel.bins for channel in structure.channels]
    bin_channel = np.repeat(np.arange(len(sizes)), sizes)
    channels = jnp.zeros(len(sizes), rows.dtype).at[bin_channel].add(bins)
    blocks = jnp.zeros(structure.blocks, rows.dtype).at[structure.row_block].add(rows)
    return bins, channels, rows, blocks


def _yields(
    model: Model,
    params: Array,
    covariance: Array,
    spread: str,
    batch: int,
    full: bool,  # noqa: FBT001
) -> tuple[list[Array], Array, Array]:
    covariance = jax.lax.stop_gradient(covariance)
    width = safe_sqrt(jnp.diagonal(covariance))
    outer = width[:, None] * width[None, :]
    correlation = safe_divide(covariance, outer)
    values, axes = jnp.linalg.eigh(0.5 * (correlation + correlation.T))
    root = axes * safe_sqrt(values)[None, :]  # root @ root.T = correlation
    if spread == "linear":
        variances, joint = _linear(model, params, width[:, None] * root, batch, full)
    else:
        variances, joint = _symmetric(model, params, width, root, batch, full)
    central = _totals(model.structure, model.rows(params))
    fields = [x for pair in zip(central, map(safe_sqrt, variances), strict=True) for x in pair]
    lost = flag(~jnp.all(jnp.isfinite(central[0])), Status.NOT_FINITE)
    return fields, joint, lost | negative_yield(model, params)


def _linear(
    model: Model,
    params: Array,
    directions: Array,
    batch: int,
    full: bool,  # noqa: FBT001
) -> tuple[tuple[Array, ...], Array]:
    """Sum the squared derivatives of all yields along the columns of ``directions``."""

    def slopes(direction: Array) -> tuple[Array, ...]:
        _, change = jax.jvp(model.rows, (params,), (direction,))
        return _totals(model.structure, change)

    def add(sums: tuple, chunk: Array) -> tuple[tuple, None]:
        parts = jax.vmap(slopes)(chunk)
        squares = tuple(s + jnp.sum(p**2, 0) for s, p in zip(sums[0], parts, strict=True))
        return (squares, sums[1] + parts[0].T @ parts[0] if full else sums[1]), None

    chunks = _chunks(directions.T, batch)
    shapes = jax.eval_shape(slopes, params)
    start = tuple(jnp.zeros(shape.shape, shape.dtype) for shape in shapes)
    joint = jnp.zeros((model.bins, model.bins) if full else (0, 0), params.dtype)
    return jax.lax.scan(add, (start, joint), chunks)[0]


def _symmetric(
    model: Model,
    params: Array,
    width: Array,
    root: Array,
    batch: int,
    full: bool,  # noqa: FBT001
) -> tuple[tuple[Array, ...], Array]:
    """Propagate half the differences between both ends of each parameter's uncertainty."""

    def half(step: Array) -> tuple[Array, ...]:
        change = 0.5 * (model.rows(params + step) - model.rows(params - step))
        return _totals(model.structure, change)

    parts = jax.lax.map(jax.vmap(half), _chunks(jnp.diag(width), batch))
    size = params.shape[0]
    flat = [root.T @ part.reshape(-1, part.shape[-1])[:size] for part in parts]
    joint = flat[0].T @ flat[0] if full else jnp.zeros((0, 0))
    return tuple(jnp.sum(part**2, axis=0) for part in flat), joint


def _chunks(rows: Array, batch: int) -> Array:
    """Return the rows in whole chunks, padded with zeros: directions without effect."""
    chunks = -(-rows.shape[0] // batch)
    padded = jnp.pad(rows, ((0, chunks * batch - rows.shape[0]), (0, 0)))
    return padded.reshape(chunks, batch, rows.shape[1])


_compiled = eqx.filter_jit(_yields)
