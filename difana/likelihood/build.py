"""Build a model from channels, templates and modifiers; traced numbers welcome."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import ModelError, nearest
from difana.likelihood.interpolation import FACTOR_CODES, SHIFT_CODES
from difana.likelihood.model import Model
from difana.likelihood.modifiers import Channel, Correlation, Parameter, Template
from difana.likelihood.structure import (
    ChannelLayout,
    ModifierLayout,
    Structure,
    TemplateLayout,
    private_factors,
)

_PER_BIN = ("staterror", "shapesys", "shapefactor")
_DEFAULTS = {  # init, lower, upper: those of pyhf
    "free": (1.0, 0.0, 10.0),
    "normal": (0.0, -5.0, 5.0),
    "gamma": (1.0, 1e-10, 10.0),
    "poisson": (1.0, 1e-10, 10.0),
    "lumi": (1.0, 0.0, 10.0),
}
_CONSTRAINT = {
    "normfactor": "free",
    "shapefactor": "free",
    "normsys": "normal",
    "histosys": "normal",
    "staterror": "gamma",
    "shapesys": "poisson",
    "lumi": "lumi",
}
_USUAL = {  # constraint of each kind of parameter
    "free": "none",
    "normal": "gaussian",
    "gamma": "gaussian",
    "poisson": "poisson",
    "lumi": "gaussian",
}
_CODES = {"normsys": FACTOR_CODES, "histosys": SHIFT_CODES}
_DEFAULT_CODES = {"normsys": "code4", "histosys": "code4p"}


def _flat(parts: Sequence[Any]) -> Float[Array, " entries"]:
    """Join scalars and vectors into one vector, in NumPy as long as nothing is traced."""
    if not parts:
        return jnp.zeros(0)
    if any(isinstance(part, jax.Array) for part in parts):
        # one precision for all numbers: networks may run in float32, yields may be integers
        return jnp.concatenate([jnp.atleast_1d(jnp.asarray(part)).astype(float) for part in parts])
    return jnp.asarray(np.concatenate([np.atleast_1d(np.asarray(part, float)) for part in parts]))


@dataclasses.dataclass
class _Sets:
    """Parameter sets in order of first appearance."""

    entries: dict[str, tuple[int, int, str]] = dataclasses.field(default_factory=dict)
    size: int = 0

    def add(self, name: str, kind: str, size: int, where: str) -> int:
        """Return the first parameter of a set, made now or shared with an earlier modifier."""
        if name in self.entries:
            start, known_size, known = self.entries[name]
            if (known_size, known) != (size, kind):
                raise ModelError(
                    f"{where}: modifier '{name}' needs {size} {kind} parameter(s), but that name "
                    f"already stands for {known_size} {known} one(s); rename one of them"
                )
            if kind == "poisson":
                raise ModelError(
                    f"{where}: shapesys '{name}' is used twice; it cannot be shared, rename it"
                )
            return start
        self.entries[name] = (self.size, size, kind)
        self.size += size
        return self.size - size


def _template_bins(template: Template, where: str) -> int:
    shape = np.shape(template.values)
    if len(shape) != 1 or shape[0] == 0:
        raise ModelError(f"{where}: yields must be a vector of at least one bin, not {shape}")
    values = template.values
    if not isinstance(values, Tracer):
        bad = np.flatnonzero(~np.isfinite(np.asarray(values, float)))
        if bad.size:
            raise ModelError(f"{where}: the yield of bin {bad[0]} is not finite")
    return shape[0]


def build_model(
    channels: Sequence[Channel],
    *,
    poi: str | None = "mu",
    parameters: Sequence[Parameter] = (),
    correlations: Sequence[Correlation] = (),
    interpolation: Mapping[str, str] | None = None,
) -> Model:
    """Build a model; inside ``jit`` every yield and uncertainty may be traced.

    Args:
        channels: Regions with their templates and modifiers; modifiers of equal name share one
            parameter (normsys and histosys too).
        poi: Name of the parameter of interest, or None.
        parameters: Settings that replace the defaults: starting values, bounds, constraints with
            their centres and widths, held parameters. A ``lumi`` modifier needs ``auxdata`` and
            ``sigma`` here.
        correlations: Correlations among parameters with Gaussian constraints; a parameter may
            stand in one of them.
        interpolation: Codes of "normsys" ("code4", "code1") and "histosys" ("code4p", "code2",
            "code0").

    Returns:
        The model. Its parameters are ordered by first appearance.

    Raises:
        ModelError: Names the channel, sample and modifier at fault.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> model.parameters
        ('mu', 'unc[0]', 'unc[1]')
        >>> model.expected_main(model.init).tolist()
        [62.0, 63.0]
    """
    if not channels:
        raise ModelError("a model needs at least one channel")
    sets = _Sets()
    numbers: dict[str, list[Any]] = {
        key: []
        for key in (
            "nominal",
            "histosys_hi",
            "histosys_lo",
            "normsys_hi",
            "normsys_lo",
            "staterror",
            "shapesys",
        )
    }
    rows: dict[str, list[int]] = {
        key: []
        for key in (
            "bin",
            "block",
            "histosys",
            "histosys_p",
            "normsys",
            "normsys_p",
            "staterror",
            "staterror_p",
            "shapesys",
            "shapesys_p",
        )
    }
    factors: list[list[int]] = []
    layouts = []
    bin_start = row = block = 0
    seen_channels: set[str] = set()
    stat_channels: dict[str, str] = {}
    for channel in channels:
        if channel.name in seen_channels:
            raise ModelError(f"two channels are called '{channel.name}'")
        seen_channels.add(channel.name)
        if not channel.templates:
            raise ModelError(f"channel '{channel.name}' has no samples")
        bins = 0
        template_layouts = []
        for template in channel.templates:
            where = f"channel '{channel.name}', sample '{template.name}'"
            if template.name in [layout.name for layout in template_layouts]:
                raise ModelError(f"{where} stands twice in its channel")
            own = _template_bins(template, where)
            bins = bins or own
            if own != bins:
                raise ModelError(
                    f"{where} has {own} bins, '{channel.templates[0].name}' has {bins}"
                )
            block_rows = list(range(row, row + bins))
            numbers["nominal"].append(template.values)
            rows["bin"] += range(bin_start, bin_start + bins)
            rows["block"] += [block] * bins
            factors += [[] for _ in range(bins)]
            modifier_layouts = []
            for modifier in template.modifiers:
                kind, name = modifier.kind, modifier.name
                place = f"{where}, {kind} '{name}'"
                size = bins if kind in _PER_BIN else 1
                if kind == "staterror" and stat_channels.setdefault(name, channel.name) != (
                    channel.name
                ):
                    raise ModelError(
                        f"{place} also stands in channel '{stat_channels[name]}'; statistics of "
                        f"different channels are independent, call it 'staterror_{channel.name}'"
                    )
                first = sets.add(name, _CONSTRAINT[kind], size, place)
                start = 0
                if kind in ("histosys", "staterror", "shapesys"):
                    fields = {"histosys": ("hi", "lo")}.get(kind, ("uncertainty",))
                    start = len(rows[kind])
                    for field in fields:
                        shape = np.shape(getattr(modifier, field))
                        if shape != (bins,):
                            raise ModelError(f"{place}: '{field}' has shape {shape}, not ({bins},)")
                        key = f"histosys_{field}" if kind == "histosys" else kind
                        numbers[key].append(getattr(modifier, field))
                    rows[kind] += block_rows
                    step = 0 if kind == "histosys" else 1
                    rows[f"{kind}_p"] += [first + step * i for i in range(bins)]
                elif kind == "normsys":
                    start = len(rows[kind])
                    numbers["normsys_hi"].append(modifier.hi)
                    numbers["normsys_lo"].append(modifier.lo)
                    rows["normsys"].append(block)
                    rows["normsys_p"].append(first)
                if kind not in ("histosys", "normsys"):
                    for i, block_row in enumerate(block_rows):
                        factors[block_row].append(first + (i if size > 1 else 0))
                modifier_layouts.append(ModifierLayout(kind, name, start, first))
            template_layouts.append(TemplateLayout(template.name, row, tuple(modifier_layouts)))
            row += bins
            block += 1
        layouts.append(ChannelLayout(channel.name, bin_start, bins, tuple(template_layouts)))
        bin_start += bins
    codes = {**_DEFAULT_CODES, **(interpolation or {})}
    for kind, code in codes.items():
        if code not in _CODES.get(kind, ()):
            raise ModelError(
                f"no interpolation '{code}' for '{kind}'; there are "
                + ", ".join(f"{k}: {v}" for k, v in _CODES.items())
            )
    return _finish(
        tuple(layouts), sets, numbers, rows, factors, poi, parameters, correlations, codes
    )


def _finish(
    layouts: tuple[ChannelLayout, ...],
    sets: _Sets,
    numbers: dict[str, list[Any]],
    rows: dict[str, list[int]],
    factors: list[list[int]],
    poi: str | None,
    parameters: Sequence[Parameter],
    correlations: Sequence[Correlation],
    codes: Mapping[str, str],
) -> Model:
    """Apply the parameter settings and freeze the structure."""
    if poi is not None and poi not in sets.entries:
        raise ModelError(
            f"the parameter of interest '{poi}' steers no sample: add NormFactor('{poi}') to the "
            f"signal.{nearest(poi, sets.entries)}"
        )
    settings: dict[str, Parameter] = {}
    for setting in parameters:
        if setting.name in settings:
            raise ModelError(f"parameter '{setting.name}' is configured twice")
        settings[setting.name] = setting
    init, lower, upper, centers, widths = [], [], [], [], []
    names: list[str] = []
    fixed: list[bool] = []
    constrained: list[int] = []
    constraints: list[str] = []
    vectors = {
        layout.name
        for channel in layouts
        for template in channel.templates
        for layout in template.modifiers
        if layout.kind in _PER_BIN
    }
    for name, (start, size, kind) in sets.entries.items():
        setting = settings.get(name, Parameter(name))
        default, low, high = _DEFAULTS[kind]
        bounds: Any = np.array([[low, high]]) if setting.bounds is None else setting.bounds
        bounds = np.broadcast_to(np.reshape(np.asarray(bounds, float), (-1, 2)), (size, 2))
        if (bounds[:, 0] >= bounds[:, 1]).any():
            raise ModelError(f"parameter '{name}': lower bound is not below upper bound")
        names += [f"{name}[{i}]" for i in range(size)] if name in vectors else [name]
        fixed += [setting.fixed] * size
        if kind == "lumi" and (setting.auxdata is None or setting.sigma is None):
            raise ModelError(
                f"lumi '{name}' needs its value and width: Parameter('{name}', auxdata=..., "
                "sigma=...)"
            )
        if kind == "lumi" and setting.init is None:
            setting = dataclasses.replace(setting, init=setting.auxdata)

        def spread(value: Any, default: float, name: str = name, size: int = size) -> Any:
            value = default if value is None else value
            shape = np.shape(np.squeeze(value) if size == 1 else value)
            if shape not in ((), (size,)):
                raise ModelError(f"parameter '{name}': {shape} values given for {size}")
            full = jnp.broadcast_to if isinstance(value, jax.Array) else np.broadcast_to
            return full(value, (size,))

        init.append(spread(setting.init, default))
        lower.append(bounds[:, 0])
        upper.append(bounds[:, 1])
        constraint = _constraint(setting, kind)
        if constraint != "none":
            centers.append(spread(setting.auxdata, default))
            widths.append(spread(setting.sigma, 1.0))
            constrained += range(start, start + size)
            constraints += [constraint] * size
    unknown = settings.keys() - sets.entries.keys()
    if unknown:
        name = sorted(unknown)[0]
        raise ModelError(f"no modifier is called '{name}'.{nearest(name, sets.entries)}")
    longest = max(len(entry) for entry in factors)
    padded = np.full((len(factors), longest), len(names), np.int32)
    for i, entry in enumerate(factors):
        padded[i, : len(entry)] = entry
    index = {key: np.asarray(value, np.int32) for key, value in rows.items()}
    correlated, precision = _correlations(correlations, names, constrained, constraints)
    taken = np.zeros(len(names), bool)
    for steering in ("histosys_p", "normsys_p"):
        taken[index[steering]] = True
    taken[[names.index(poi)] if poi in names else []] = True
    kinds = np.asarray(constraints)
    taken[np.asarray(constrained, int)[kinds == "lognormal"]] = True
    taken[np.asarray(constrained, int)[correlated]] = True
    structure = Structure(
        channels=layouts,
        parameters=tuple(names),
        sets=tuple((name, *entry) for name, entry in sets.entries.items()),
        poi=poi,
        row_bin=index["bin"],
        row_block=index["block"],
        histosys_row=index["histosys"],
        histosys_parameter=index["histosys_p"],
        normsys_block=index["normsys"],
        normsys_parameter=index["normsys_p"],
        staterror_row=index["staterror"],
        staterror_parameter=index["staterror_p"],
        shapesys_row=index["shapesys"],
        shapesys_parameter=index["shapesys_p"],
        factors=padded,
        constrained=np.asarray(constrained, np.int32),
        poisson=kinds == "poisson",
        lognormal=kinds == "lognormal",
        correlated=correlated,
        private=private_factors(
            padded,
            index["bin"],
            taken,
            bins=layouts[-1].start + layouts[-1].bins,
            parameters=len(names),
        ),
        interpolation=(codes["normsys"], codes["histosys"]),
        fixed=np.asarray(fixed, bool),
    )
    return Model(
        **{key: _flat(parts) for key, parts in numbers.items()},
        centers=_flat(centers),
        widths=_flat(widths),
        precision=precision,
        init=_flat(init),
        lower=_flat(lower),
        upper=_flat(upper),
        structure=structure,
    )


def _constraint(setting: Parameter, kind: str) -> str:
    """Return the kind of constraint of one parameter set."""
    found = _USUAL[kind] if setting.constraint is None else setting.constraint
    if found not in ("gaussian", "poisson", "lognormal", "none"):
        raise ModelError(
            f"parameter '{setting.name}': no constraint '{found}'; there are gaussian, poisson, "
            "lognormal, none"
        )
    if found in ("poisson", "lognormal") and kind == "normal":
        raise ModelError(
            f"parameter '{setting.name}' steers a normsys or histosys and may be negative: its "
            f"constraint cannot be {found}"
        )
    if found != "none" and kind == "free" and setting.sigma is None:
        raise ModelError(f"parameter '{setting.name}': a constraint needs `sigma`, its width")
    return found


def _correlations(
    correlations: Sequence[Correlation],
    names: list[str],
    constrained: list[int],
    constraints: list[str],
) -> tuple[np.ndarray, Float[Array, "correlated correlated"]]:
    """Return the constraints that are correlated, and the inverse of their correlation matrix."""
    place = {names[parameter]: i for i, parameter in enumerate(constrained)}
    found: list[int] = []
    blocks = []
    for correlation in correlations:
        for name in correlation.names:
            if name not in place or constraints[place[name]] != "gaussian":
                raise ModelError(
                    f"a correlation names '{name}', which has no Gaussian constraint."
                    f"{nearest(name, place)}"
                )
            if place[name] in found:
                raise ModelError(f"parameter '{name}' stands in two correlations: join them")
            found.append(place[name])
        size = len(correlation.names)
        matrix = correlation.matrix
        if np.shape(matrix) != (size, size):
            raise ModelError(
                f"the correlation matrix of {list(correlation.names)} has shape {np.shape(matrix)}"
            )
        if not isinstance(matrix, Tracer):
            plain = np.asarray(matrix, float)
            if (
                not np.allclose(plain, plain.T)
                or not np.allclose(np.diagonal(plain), 1.0)
                or np.linalg.eigvalsh(plain)[0] <= 0
            ):
                raise ModelError(
                    f"the correlation matrix of {list(correlation.names)} must be symmetric and "
                    "positive definite, with ones on its diagonal"
                )
        blocks.append(jnp.linalg.inv(jnp.asarray(matrix, float)))
    precision = jax.scipy.linalg.block_diag(*blocks) if blocks else jnp.zeros((0, 0))
    return np.asarray(found, np.int32), precision
