"""What a flow does to columns before its layers: ranges, circles, integers, standardisation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from difana._errors import ConfigError, InputError, nearest
from difana.flows._independent import atoms_of, independent_columns, smeared
from difana.nn import location_and_scale
from difana.nn.standardised import bent, bent_log_slope, unbent

Kind = Literal["real", "above", "between", "periodic", "whole"]
_EDGE = 1e-6  # share of the range that keeps values at its ends off infinity


@dataclasses.dataclass(frozen=True)
class Column:
    """What kind of number a column holds.

    Attributes:
        kind: ``"real"``: any number; ``"above"``: above ``low``, its logarithm is learned;
            ``"between"``: from ``low`` to ``high``, its logit is learned; ``"periodic"``: an angle,
            ``low`` and ``high`` are the same point; ``"whole"``: integers, learned as boxes of
            width one around them.
        low: Lower end of the range.
        high: Upper end.

    Raises:
        ConfigError: If the kind is unknown or its ends make no range.

    Example:
        >>> Column("periodic", low=-3.14159, high=3.14159).kind
        'periodic'
        >>> Column("between", low=1.0)
        Traceback (most recent call last):
        difana._errors.ConfigError: a column 'between' needs finite low < high, got 1.0 and inf
    """

    kind: Kind = "real"
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        """Refuse a range that is none."""
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"kind = '{self.kind}': choose one of {list(get_args(Kind))}."
                f"{nearest(str(self.kind), get_args(Kind))}"
            )
        ends = {"above": [self.low], "between": [self.low, self.high]}
        ends["periodic"] = ends["between"]
        needed = ends.get(self.kind, [])
        if not all(np.isfinite(end) for end in needed) or (
            len(needed) == 2 and needed[0] >= needed[1]
        ):
            what = "finite low" if len(needed) == 1 else "finite low < high"
            raise ConfigError(
                f"a column '{self.kind}' needs {what}, got {self.low} and {self.high}"
            )  # fmt: skip


class Columns(eqx.Module):
    """From the columns of a table to standardised numbers without bounds, and back.

    Attributes:
        kinds: What each column holds (static).
        mean: Mean of the columns after their logarithms, ``[dims]``.
        std: Their standard deviation.
        offset: What is added to a distance from an end before its logarithm, ``[dims]``.
        bound: Half the circumference of a circle (static).
        kept: Columns that are learned (static).
        dropped: Columns that are constant or follow from those (static): no part of the density.
        matrix: How they follow from the others, in standardised values.
        spread: What is left of them, a normal distribution of this width.
        mixing: Decorrelates columns that nearly follow from others; None if there are none.
        atoms: Column, value and width of values that many events share; they are learned as narrow
            boxes, and samples inside them are that value (static).
        names: Names of the columns, for messages (static).
    """

    kinds: tuple[Column, ...] = eqx.field(static=True)
    mean: Float[Array | np.ndarray, " dims"]
    std: Float[Array | np.ndarray, " dims"]
    offset: Float[Array | np.ndarray, " dims"]
    bound: float = eqx.field(static=True)
    kept: tuple[int, ...] = eqx.field(static=True)
    dropped: tuple[int, ...] = eqx.field(static=True)
    matrix: Float[Array | np.ndarray, "kept dropped"]
    spread: Float[Array | np.ndarray, " dropped"]
    mixing: Float[Array | np.ndarray, "kept kept"] | None
    atoms: tuple[tuple[int, float, float], ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def circles(self) -> tuple[int, ...]:
        """Places of the periodic columns among those that are learned."""
        return tuple(i for i, c in enumerate(self.kept) if self.kinds[c].kind == "periodic")

    def forward(
        self, x: Float[Array | np.ndarray, "*rows dims"]
    ) -> tuple[Float[Array, "*rows kept"], Float[Array, " *rows"]]:
        """Return standardised values and the log determinant of the map.

        Values of NumPy are standardised in double precision before they become arrays of JAX:
        float32 has no digits left of ``1.7e9 + N(0, 1)``.
        """
        xp: Any = np if isinstance(x, np.ndarray) and isinstance(self.mean, np.ndarray) else jnp
        x = x if xp is np else jnp.asarray(x)
        dtype = x.dtype
        plain, slopes = self._plain(x, xp)
        z = (plain - self._rows(self.mean, plain, xp)) / self._rows(self.std, plain, xp)
        slopes = slopes - self._rows(xp.log(xp.asarray(self.std)), plain, xp)
        chosen = np.asarray(self.kept)
        z, slopes = (jnp.asarray(part[..., chosen].astype(dtype)) for part in (z, slopes))
        log_det = jnp.sum(slopes, axis=-1)
        if self.mixing is not None:
            mixing = self._like(self.mixing, z)
            z = z @ mixing
            log_det = log_det + jnp.linalg.slogdet(mixing)[1]
        far = self._far(z)
        log_det = log_det + jnp.sum(jnp.where(far, bent_log_slope(z), jnp.zeros_like(z)), axis=-1)
        return jnp.where(far, bent(z), z), log_det

    def inverse(
        self, z: Float[Array, "*rows kept"], noise: Float[Array, "*rows dims"] | None = None
    ) -> Float[Array, "*rows dims"]:
        """Return the columns of standardised values, those that are not learned computed.

        Args:
            z: Standardised values.
            noise: Normal numbers for what is left of columns that are not learned; None for zeros.
        """
        z = jnp.where(self._far(z), unbent(z), z)
        if self.mixing is not None:
            z = z @ jnp.linalg.inv(self._like(self.mixing, z))
        if self.dropped:
            rest = z @ self._like(self.matrix, z)
            if noise is not None:
                own = noise[..., np.asarray(self.dropped)].astype(z.dtype)
                rest = rest + jnp.broadcast_to(self._like(self.spread, z), own.shape) * own
            places = np.argsort(np.array([*self.kept, *self.dropped]))
            z = jnp.concatenate([z, rest], axis=-1)[..., places]
        plain = z * self._rows(self.std, z, jnp) + self._rows(self.mean, z, jnp)
        return self._back(plain)

    def inside(self, x: Float[ArrayLike, "*rows dims"]) -> Bool[Array, " *rows"]:
        """Return which rows lie in the ranges of all columns."""
        low, high = self._ends()
        x = jnp.asarray(x)
        found = (x >= self._rows(low, x, jnp)) & (x <= self._rows(high, x, jnp))
        return jnp.all(found[..., np.asarray(self.kept)], axis=-1)

    def drawn(self, x: Float[Array, "*rows dims"]) -> Float[Array, "*rows dims"]:
        """Return draws with shared values and integers put back in their boxes' middle."""
        out = x
        for column, value, width in self.atoms:
            near = jnp.abs(x[..., column] - value) <= width
            out = out.at[..., column].set(jnp.where(near, value, out[..., column]))
        for column, one in enumerate(self.kinds):
            if one.kind == "whole":
                whole = jnp.clip(jnp.round(out[..., column]), one.low, one.high)
                out = out.at[..., column].set(whole)
        return out

    def smeared(
        self, x: Float[np.ndarray, "events dims"], rng: np.random.Generator
    ) -> Float[np.ndarray, "events dims"]:
        """Return events with shared values and integers spread evenly over their boxes."""
        x = smeared(x, self.atoms, rng)
        for column, one in enumerate(self.kinds):
            if one.kind == "whole":
                x[:, column] += rng.uniform(-0.5, 0.5, len(x))
        return x

    def _plain(self, x: Any, xp: Any) -> tuple[Any, Any]:
        """Return columns without bounds and the logarithms of their slopes."""
        plain, slopes = [], []
        for column, one in enumerate(self.kinds):
            v, edge = x[..., column], self._one(self.offset, column, x, xp)
            nothing = xp.zeros_like(v)
            if one.kind == "above":
                distance = xp.maximum(v - one.low, 0) + edge
                plain.append(xp.log(distance))
                slopes.append(-xp.log(distance))
            elif one.kind == "between":
                width = one.high - one.low
                share = _EDGE + (1 - 2 * _EDGE) * xp.clip((v - one.low) / width, 0, 1)
                plain.append(xp.log(share) - xp.log1p(-share))
                slopes.append(np.log((1 - 2 * _EDGE) / width) - xp.log(share) - xp.log1p(-share))
            elif one.kind == "periodic":
                plain.append(xp.mod(v - one.low, one.high - one.low) + one.low)
                slopes.append(nothing)
            else:
                plain.append(v)
                slopes.append(nothing)
        return xp.stack(plain, axis=-1), xp.stack(slopes, axis=-1)

    def _back(self, plain: Array) -> Array:
        columns = []
        for column, one in enumerate(self.kinds):
            v, edge = plain[..., column], self._one(self.offset, column, plain, jnp)
            if one.kind == "above":
                v = jnp.maximum(jnp.exp(v) - edge, 0) + one.low
            elif one.kind == "between":
                share = (jax.nn.sigmoid(v) - _EDGE) / (1 - 2 * _EDGE)
                v = one.low + jnp.clip(share, 0, 1) * (one.high - one.low)
            columns.append(v)
        return jnp.stack(columns, axis=-1)

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        ranged = [one if one.kind != "periodic" else Column() for one in self.kinds]
        half = np.array([0.5 if one.kind == "whole" else 0.0 for one in self.kinds])
        return (np.array([one.low for one in ranged]) - half,
                np.array([one.high for one in ranged]) + half)  # fmt: skip

    def _far(self, z: Array) -> Array:
        """Return where values are bent: everywhere but on a circle."""
        flags = ~np.isin(np.arange(len(self.kept)), self.circles)
        return jnp.broadcast_to(jnp.asarray(flags), z.shape)

    def _one(self, constant: Any, column: int, x: Any, xp: Any) -> Any:
        if xp is np:
            return np.asarray(constant)[column]
        return jax.lax.stop_gradient(jnp.asarray(constant)[column].astype(x.dtype))

    def _like(self, constant: Any, x: Array) -> Array:
        return jax.lax.stop_gradient(jnp.asarray(constant, x.dtype))

    def _rows(self, constant: Any, x: Any, xp: Any) -> Any:
        if xp is np:
            return np.broadcast_to(np.asarray(constant), x.shape)
        return jnp.broadcast_to(self._like(constant, x), x.shape)


def fitted_columns(
    x: Float[np.ndarray, "events dims"],
    weights: Float[ArrayLike, " events"] | None,
    *,
    bound: float,
    kinds: Mapping[str | int, Column],
    names: Sequence[str],
) -> Columns:
    """Return the map of columns whose constants are those of the events.

    Raises:
        ConfigError: If a kind is given for a column that is not there.
        InputError: If a value lies outside the range of its column, is not finite, or all columns
            are constant.

    Warns:
        UserWarning: For columns that are not learned, and for a broken event far from all others.
    """
    each = _kinds(kinds, names, x.shape[1])
    labels = tuple(names) if len(names) == x.shape[1] else tuple(map(str, range(x.shape[1])))
    counted = x if weights is None else x[np.asarray(weights) != 0]
    refuse_outside(counted, each, labels)
    size = 1e-12 * np.maximum(np.abs(np.mean(x, axis=0)), 1e-300) if len(x) else 0.0
    constant = np.flatnonzero(np.ptp(counted, axis=0) <= size).tolist() if len(counted) else []
    offset = np.array([
        _EDGE * max(float(np.std(x[:, c])), 1e-300) if one.kind == "above" else 0.0
        for c, one in enumerate(each)
    ])  # fmt: skip
    dims = x.shape[1]
    rough = Columns(
        each, np.zeros(dims), np.ones(dims), offset, bound, tuple(range(dims)), (),
        np.zeros((dims, 0)), np.zeros(0), None, (), labels,
    )  # fmt: skip
    plain = rough._plain(x, np)[0]
    mean, std = location_and_scale(plain, weights, columns=names, what="column of x")
    circles = [c for c, one in enumerate(each) if one.kind == "periodic"]
    for column in circles:
        one = each[column]
        mean[column], std[column] = (one.low + one.high) / 2, (one.high - one.low) / (2 * bound)
    counted_plain = rough._plain(counted, np)[0]
    found = independent_columns(
        (counted_plain - mean) / std, constant=constant, names=names, alone=circles
    )
    discrete = [c for c in found.kept if each[c].kind in ("real", "above", "between")]
    return Columns(
        each, mean, std, offset, bound, found.kept, found.dropped, found.matrix, found.spread,
        found.forward if (found.forward != np.eye(len(found.kept))).any() else None,
        atoms_of(counted, np.std(counted, axis=0), discrete), labels,
    )  # fmt: skip


def refuse_outside(
    x: Float[np.ndarray, "events dims"], kinds: Sequence[Column], names: Sequence[str]
) -> None:
    """Raise ``InputError`` for values outside the ranges of their columns, with the first event."""
    for column, one in enumerate(kinds):
        if one.kind in ("real", "periodic"):
            continue
        v = x[:, column]
        bad = (v < one.low) | (v > one.high)
        if one.kind == "whole":
            bad |= v != np.round(v)
        if bad.any():
            first = int(bad.argmax())
            raise InputError(
                f"column '{names[column]}' is declared {one.kind}"
                f"{'' if one.kind == 'whole' else f' {one.low:g}'}"
                f"{f' and {one.high:g}' if one.kind == 'between' else ''}, but {int(bad.sum())}"
                f" events are not, first event {first} ({v[first]:g}): select the events or change"
                " its Column"
            )


def _kinds(
    kinds: Mapping[str | int, Column], names: Sequence[str], dims: int
) -> tuple[Column, ...]:
    each = [Column()] * dims
    for label, one in kinds.items():
        if isinstance(label, str) and label in names:
            place = list(names).index(label)
        elif isinstance(label, int) and 0 <= label < dims:
            place = label
        else:
            raise ConfigError(
                f"columns: '{label}' is no column of x: it has {list(names) or f'0 to {dims - 1}'}"
            )
        if not isinstance(one, Column):
            raise ConfigError(f"columns: '{label}' is {one!r}: give a flows.Column")
        each[place] = one
    return tuple(each)
