"""Systematic templates without the noise of their simulation: the ratio to nominal is smoothed."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import ArrayLike, Float

from difana._errors import ModelError, nearest

SMOOTHINGS = ("local", "353QH")
LEAST_BINS = 5

Bins = Float[np.ndarray, " bins"]


def smooth_templates(
    nominal: Float[ArrayLike, " bins"],
    varied: Float[ArrayLike, " bins"],
    *,
    errors: Float[ArrayLike, " bins"] | None = None,
    method: str = "local",
) -> Bins:
    r"""Return a varied template whose ratio to nominal is smooth; its total yield stays.

    Both methods take the order of the bins for their distance, and smooth the ratio
    :math:`r_b = v_b / \nu_b`:

    - ``"local"``: weighted local straight lines (LOESS with tricube weights times
      :math:`1/\sigma_b^2`). How local is chosen by generalised cross-validation,
      :math:`\mathrm{RSS} / (1 - \mathrm{tr} H / n)^2`, from the constant (the variation is one of
      normalisation), the straight line, and all spans: noise around a flat ratio becomes flat, a
      slope stays, a structure of several bins is followed. One bin that stands out is noise.
    - ``"353QH"``: running medians of 3, 5 and 3 bins, parabolas through flat tops, running means
      (Hanning), and the same again of what is left (twice), as ROOT's ``TH1::Smooth``. It knows
      nothing of errors.

    Templates of fewer than 5 bins, in which nothing can be told from noise, stay as they are, and
    so do bins in which nothing is expected.

    Args:
        nominal: Yields, ``[bins]``.
        varied: Yields at +1 or -1.
        errors: Statistical uncertainties of the nominal yields, for their relative size; the
            square roots of the yields if left out.
        method: ``"local"`` or ``"353QH"``.

    Raises:
        ModelError: If the method is unknown or the shapes differ.

    References:
        Cleveland, J. Am. Stat. Assoc. 74 (1979) 829; Craven and Wahba, Numerische Mathematik 31
        (1979) 377; Friedman, CERN 74-23 (1974) 271.

    Example:
        >>> nominal = np.full(6, 100.0)
        >>> noisy = nominal + [5.0, 6.0, 4.0, 5.0, 6.0, 4.0]
        >>> smooth_templates(nominal, noisy).round(6).tolist()
        [105.0, 105.0, 105.0, 105.0, 105.0, 105.0]
        >>> slope = nominal * [1.01, 1.02, 1.03, 1.04, 1.05, 1.06]
        >>> smooth_templates(nominal, slope).round(6).tolist()
        [101.0, 102.0, 103.0, 104.0, 105.0, 106.0]
    """
    if method not in SMOOTHINGS:
        raise ModelError(
            f"no smoothing '{method}'; there are {', '.join(SMOOTHINGS)}."
            f"{nearest(method, SMOOTHINGS)}"
        )
    nominal, varied = np.asarray(nominal, float), np.asarray(varied, float)
    errors = np.sqrt(np.abs(nominal)) if errors is None else np.asarray(errors, float)
    if not nominal.shape == varied.shape == errors.shape or nominal.ndim != 1:
        raise ModelError(
            f"nominal, varied and errors have shapes {nominal.shape}, {varied.shape}, "
            f"{errors.shape}: they must have the same bins"
        )
    used = (nominal > 0) & (errors > 0) & np.isfinite(varied)
    if used.sum() < LEAST_BINS:
        return varied
    ratio = varied[used] / nominal[used]
    if method == "local":
        place = np.flatnonzero(used).astype(float)
        # of relative uncertainties that are equal nothing but their weight matters
        smoothed = _local(place, ratio, (nominal[used] / errors[used]) ** 2)
    else:
        smoothed = smooth_353qh(ratio)
    found = varied.copy()
    found[used] = smoothed * nominal[used]
    before, after = varied[used].sum(), found[used].sum()
    if before > 0 and after > 0:
        found[used] *= before / after
    return found


def smooth_353qh(values: Float[ArrayLike, " bins"]) -> Bins:
    """Return values smoothed by running medians, parabolas and means, twice (353QH).

    Args:
        values: At least 5 numbers; fewer are returned as they are.

    References:
        Friedman, CERN 74-23 (1974) 271.

    Example:
        >>> smooth_353qh([1.0, 1.0, 9.0, 1.0, 1.0, 1.0]).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    values = np.asarray(values, float)
    if len(values) < LEAST_BINS:
        return values
    smooth = _once_353qh(values)
    found = smooth + _once_353qh(values - smooth)
    return found if values.min() < 0 else np.clip(found, 0, None)


def _once_353qh(x: Bins) -> Bins:
    y = _running_median(x, 3)
    # in the outermost bins a straight line through the next two is one of three candidates
    y[0] = np.median([x[0], y[1], 3 * y[1] - 2 * y[2]])
    y[-1] = np.median([x[-1], y[-2], 3 * y[-2] - 2 * y[-3]])
    y = _without_flat_tops(_running_median(_running_median(y, 5), 3))
    return np.concatenate([y[:1], 0.25 * y[:-2] + 0.5 * y[1:-1] + 0.25 * y[2:], y[-1:]])


def _running_median(x: Bins, width: int) -> Bins:
    """Return medians of neighbours, of fewer near the ends."""
    half, y = width // 2, x.copy()
    y[half:-half] = np.median(np.lib.stride_tricks.sliding_window_view(x, width), axis=1)
    if width == 5:
        y[1], y[-2] = np.median(x[:3]), np.median(x[-3:])
    return y


def _without_flat_tops(x: Bins) -> Bins:
    """Return values with parabolas where medians cut off a peak: three equal ones, both ends apart.

    The parabola goes through the end that lies nearer and through the flat part.
    """
    y = x.copy()
    for i in range(2, len(x) - 2):
        if not x[i - 1] == x[i] == x[i + 1]:
            continue
        left, right = x[i - 2] - x[i], x[i + 2] - x[i]
        if left * right <= 0:
            continue
        side = -1 if abs(right) > abs(left) else 1
        far, near = x[i - 2 * side], x[i + 2 * side]
        y[i] = -0.5 * far + x[i] / 0.75 + near / 6
        y[i + side] = 0.5 * (near - far) + x[i]
    return y


def _local(x: Bins, y: Bins, weights: Bins) -> Bins:
    """Return the fit that cross-validation prefers, of a constant, a line and local lines."""
    hats, freedom = _hats(tuple(x.tolist()), tuple(weights.tolist()))
    fits = hats @ y
    with np.errstate(divide="ignore"):
        scores = (weights * (y - fits) ** 2).sum(axis=1) / freedom**2
    scores = np.where(freedom > 0.1, scores, np.inf)
    # the simplest of those that are as good but for rounding
    tiny = 1e-18 * (weights * y**2).sum()
    return fits[int(np.argmax(scores <= scores.min() * 1.000001 + tiny))]


@functools.lru_cache(maxsize=256)  # all variations of a template share them
def _hats(places: tuple[float, ...], weights: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices of all fits, and the share of free points that each leaves."""
    x, own, size = np.array(places), np.array(weights), len(places)
    found = [_hat(x, np.tile(own, (size, 1)), degree) for degree in (0, 1)]
    distance = np.abs(x[:, None] - x)
    for neighbours in range(3, size + 1):
        span = np.sort(distance, axis=1)[:, neighbours - 1 : neighbours] * 1.01
        kernel = np.clip(1 - (distance / span) ** 3, 0, None) ** 3
        found.append(_hat(x, kernel * own, 1))
    hats = np.stack(found)
    return hats, 1 - np.trace(hats, axis1=1, axis2=2) / size


def _hat(x: Bins, weights: Float[np.ndarray, "bins bins"], degree: int) -> np.ndarray:
    """Return the matrix that maps values to polynomials fitted with the weights of each row."""
    total = weights.sum(axis=1, keepdims=True)
    mean = weights / total
    if degree == 0:
        return mean
    centre = mean @ x
    offset = x - centre[:, None]
    spread = (mean * offset**2).sum(axis=1)
    slope = mean * offset / np.where(spread > 0, spread, 1)[:, None]
    return mean + (x - centre)[:, None] * slope
