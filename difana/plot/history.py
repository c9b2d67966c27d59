"""Training curves, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from difana._errors import InputError
from difana.plot import _style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def history(
    records: Sequence[Mapping[str, Any]],
    *,
    title: str = "",
    label: str | None = "difana",
    minimise: bool = True,
    axes: np.ndarray | None = None,
) -> Figure:
    """Draw training loss (top) and validation metric (bottom), one column a stage.

    The best validation is marked. Each stage has scales of its own: its loss may be another one.

    Args:
        records: What ``train`` logs: mappings with ``step`` and ``loss`` (training) or ``metric``
            (validation), and ``stage``, which may be missing if there is but one. Numbers that
            are None or not finite are gaps.
        title: Right title.
        label: Left title in bold; None for nothing.
        minimise: Whether a smaller metric is better.
        axes: ``[2, stages]`` axes to draw into.

    Returns:
        The figure.

    Raises:
        InputError: If there are no records, or not one column of axes a stage.

    Example:
        >>> records = [{"step": 1, "loss": 0.7}, {"step": 1, "metric": 2.0},
        ...            {"step": 2, "loss": 0.6}, {"step": 2, "metric": 1.5}]
        >>> figure = history(records)
        >>> figure.axes[1].get_legend().get_texts()[-1].get_text()
        'best: 1.5 at step 2'
    """
    stages = list(dict.fromkeys(str(record.get("stage", "training")) for record in records))
    if not stages:
        raise InputError("the history holds no records: was anything trained?")
    if axes is None:
        size = (max(6.0, 4.0 * len(stages)), 5.4)
        axes = style.new_axes(2, len(stages), size=size, heights=(1, 1), share_x=True)
    axes = np.asarray(axes)
    if axes.shape != (2, len(stages)):
        raise InputError(f"{len(stages)} stages need axes [2, {len(stages)}], got {axes.shape}")
    for column, stage in enumerate(stages):
        own = [r for r in records if str(r.get("stage", "training")) == stage]
        top, bottom = axes[:, column]
        _draw(top, *_series(own, "loss"), color=style.BLUE, name="training loss")
        steps, metric = _series(own, "metric")
        _draw(bottom, steps, metric, color=style.VERMILION, name="validation", marker="o")
        if np.isfinite(metric).any():
            best = np.nanargmin(metric) if minimise else np.nanargmax(metric)
            bottom.plot(
                steps[best],
                metric[best],
                "*",
                color=style.BLACK,
                markersize=13,
                label=f"best: {metric[best]:.4g} at step {steps[best]:g}",
            )
        style.dress(top, label=label if column == 0 else None)
        top.set_title(
            stage if column < len(stages) - 1 or not title else f"{stage}, {title}",
            loc="right",
            fontsize=10,
        )
        style.dress(bottom, xlabel="step")
        if column == 0:
            top.set_ylabel("training loss")
            bottom.set_ylabel("validation metric")
        bottom.legend(frameon=False, fontsize=9)
    return style.figure_of(axes[0, 0])


def _series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of the records that have ``name``; gaps are NaN."""
    own = [record for record in records if name in record]
    values = [math.nan if r[name] is None else float(r[name]) for r in own]
    finite = [v if math.isfinite(v) else math.nan for v in values]
    return np.array([float(r.get("step", i)) for i, r in enumerate(own)]), np.array(finite)


def _draw(
    ax: Axes, steps: np.ndarray, values: np.ndarray, *, color: str, name: str, marker: str = ""
) -> None:
    """Draw a series; a long noisy one faintly, with its running mean on top."""
    window = len(values) // 40
    noisy = window > 1 and not marker
    ax.plot(
        steps,
        values,
        color=color,
        alpha=0.3 if noisy else 1.0,
        linewidth=1.0 if noisy else 1.5,
        marker=marker,
        markersize=3,
        label=None if noisy else name,
    )
    if noisy:
        kernel = np.ones(window)
        known = np.isfinite(values)
        total = np.convolve(np.where(known, values, 0), kernel, mode="valid")
        count = np.convolve(known, kernel, mode="valid")
        start = (window - 1) // 2
        ax.plot(
            steps[start : start + len(total)],
            np.where(count > 0, total / np.maximum(count, 1), np.nan),
            color=color,
            linewidth=1.8,
            label=f"{name} (mean of {window})",
        )
        ax.legend(frameon=False, fontsize=9)
