"""New flows: their constants are those of the events, their layers an identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import ConfigError, InputError
from difana._options import real_number, whole_number
from difana._typing import PyTree
from difana.flows._body import Mixing, Recipe
from difana.flows._context import fitted_context
from difana.flows._transformers import Kind, Transformer
from difana.flows.columns import Column, Columns, fitted_columns
from difana.flows.continuous import Continuous, Pairing, velocity_net
from difana.flows.flow import Flow


def coupling_flow(
    x: Float[Array, "events dims"],
    given: Any = None,
    *,
    key: PRNGKeyArray,
    weights: Float[Array, " events"] | None = None,
    layers: int = 4,
    hidden: Sequence[int] = (64, 64),
    transformer: Kind = "spline",
    bins: int = 8,
    bound: float = 6.0,
    mixing: Mixing = "permutation",
    columns: Mapping[str | int, Column] | None = None,
    names: Sequence[str] = (),
    summary: PyTree = None,
    half: bool = False,
) -> Flow:
    """Return a flow of coupling layers: densities and samples cost one pass each.

    It starts as a normal distribution of the mean and width of ``x``. Columns that are constant, or
    a linear function of others (a copy), have no density: they are not learned, and samples compute
    them. Values that many events share are learned as narrow boxes.

    Args:
        x: Values whose density is wanted, ``[events, dims]``; they set the constants.
        given: What they are conditioned on: ``[events, columns]``, `difana.data.Inputs`, or None.
        key: Random key of the conditioners.
        weights: Weights of the events in the standardisation; their modulus is used.
        layers: Number of layers. Half of the columns (another half in each layer) pass; a single
            column is transformed in every layer.
        hidden: Widths of the hidden layers of the conditioners.
        transformer: ``"spline"`` (rational-quadratic) or ``"affine"``.
        bins: Bins of each spline.
        bound: Range of the splines in standard deviations; outside a layer is the identity.
        mixing: ``"permutation"``, or ``"lu"``: a trained linear map before each layer.
        columns: What kind of number a column holds, see `Column`: ranges, angles, integers.
        names: Names of the columns of ``x``, for messages and ``columns``.
        summary: Network of the context whose outputs the layers see, trained with them.
        half: Whether the conditioners compute in bfloat16; what they move stays as it is.

    Returns:
        The flow, to be trained by ``fit_flow``.

    Raises:
        ConfigError: If an option makes no sense.
        InputError: If the shapes are wrong, a number is not finite or outside the range of its
            column, or all columns are constant.

    Warns:
        UserWarning: For columns that are not learned, and for a broken event far from all others.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0], [3.0, 2.0]])
        >>> flow = coupling_flow(x, x[:, :1], key=jax.random.key(0), layers=2, hidden=(4,))
        >>> flow.sample(x[:, :1], key=jax.random.key(1), samples=5).shape
        (4, 5, 2)

    References:
        C. Durkan et al., arXiv:1906.04032; as the conditional network of arXiv:2006.06685.
    """
    return _layered(
        "coupling", x, given, key=key, weights=weights, layers=layers, hidden=hidden,
        transformer=transformer, bins=bins, bound=bound, mixing=mixing, columns=columns,
        names=names, summary=summary, half=half,
    )  # fmt: skip


def autoregressive_flow(
    x: Float[Array, "events dims"],
    given: Any = None,
    *,
    key: PRNGKeyArray,
    inverse: bool = False,
    weights: Float[Array, " events"] | None = None,
    layers: int = 4,
    hidden: Sequence[int] = (64, 64),
    transformer: Kind = "spline",
    bins: int = 8,
    bound: float = 6.0,
    mixing: Mixing = "permutation",
    columns: Mapping[str | int, Column] | None = None,
    names: Sequence[str] = (),
    summary: PyTree = None,
    half: bool = False,
) -> Flow:
    """Return a flow of masked autoregressive layers: each column depends on all before it.

    Densities cost one pass and samples one a column; with ``inverse`` it is the other way round.

    Args:
        x: As in ``coupling_flow``.
        given: As there.
        key: As there.
        inverse: Whether it is an inverse autoregressive flow.
        weights: As there.
        layers: As there.
        hidden: As there; a width below the number of columns leaves some without hidden units.
        transformer: As there.
        bins: As there.
        bound: As there.
        mixing: As there.
        columns: As there.
        names: As there.
        summary: As there.
        half: Not possible here.

    Returns:
        The flow, to be trained by ``fit_flow``.

    Raises:
        ConfigError: If an option makes no sense.
        InputError: As ``coupling_flow``.

    References:
        arXiv:1705.07057 (MAF), arXiv:1606.04934 (IAF).
    """
    if half:
        raise ConfigError("half = True: masked networks compute in the type of the values.")
    return _layered(
        "inverse_autoregressive" if inverse else "autoregressive", x, given, key=key,
        weights=weights, layers=layers, hidden=hidden, transformer=transformer, bins=bins,
        bound=bound, mixing=mixing, columns=columns, names=names, summary=summary, half=half,
    )  # fmt: skip


def continuous_flow(
    x: Float[Array, "events dims"],
    given: Any = None,
    *,
    key: PRNGKeyArray,
    weights: Float[Array, " events"] | None = None,
    hidden: Sequence[int] = (64, 64),
    steps: int = 20,
    pairing: Pairing = "independent",
    probes: int = 0,
    columns: Mapping[str | int, Column] | None = None,
    names: Sequence[str] = (),
    summary: PyTree = None,
) -> Flow:
    """Return a continuous flow, which ``fit_flow`` trains by flow matching.

    Args:
        x: As in ``coupling_flow``.
        given: As there.
        key: As there.
        weights: As there.
        hidden: Widths of the hidden layers of the velocity.
        steps: Runge-Kutta steps of densities and samples (four evaluations each).
        pairing: How noise and data of a batch are paired: ``"independent"``, or ``"transport"`` for
            straighter trajectories.
        probes: Random directions in which the trace of the log-likelihood is estimated
            (Hutchinson); 0: exact, at the cost of one direction a column.
        columns: As there; no circles.
        names: As there.
        summary: As there.

    Returns:
        The flow.

    Raises:
        ConfigError: If an option makes no sense.
        InputError: As ``coupling_flow``.

    References:
        arXiv:2210.02747, arXiv:2302.00482.
    """
    whole_number("steps", steps)
    whole_number("probes", probes, least=0)
    if pairing not in ("independent", "transport"):
        raise ConfigError(f"pairing = '{pairing}': choose 'independent' or 'transport'.")
    mapped, context = _constants(x, given, weights, 6.0, columns, names, summary)
    if mapped.circles:
        raise ConfigError("a continuous flow has no periodic columns: take a coupling_flow.")
    if pairing == "transport" and context.size:
        raise ConfigError(
            "pairing = 'transport': with a context it would move the noise of one condition to"
            " another; it is for flows without a context."
        )
    dims = len(mapped.kept)
    net = velocity_net(dims + 5 + context.size, tuple(hidden), dims, key=key)
    return Flow(mapped, context, Continuous(net, dims, steps, pairing, probes))


def _layered(
    kind: Any, x: Any, given: Any, *, key: PRNGKeyArray, weights: Any, layers: int,
    hidden: Sequence[int], transformer: Kind, bins: int, bound: float, mixing: Mixing,
    columns: Mapping[str | int, Column] | None, names: Sequence[str], summary: PyTree, half: bool,
) -> Flow:  # fmt: skip
    whole_number("layers", layers)
    whole_number("bins", bins, least=2)
    real_number("bound", bound, above=0)
    choices = {"transformer": (transformer, get_args(Kind)), "mixing": (mixing, get_args(Mixing))}
    for name, (value, known) in choices.items():
        if value not in known:
            raise ConfigError(f"{name} = '{value}': choose one of {list(known)}.")
    mapped, context = _constants(x, given, weights, bound, columns, names, summary)
    if mapped.circles and (mixing == "lu" or transformer == "affine"):
        raise ConfigError(
            "periodic columns need transformer = 'spline' and mixing = 'permutation': anything else"
            " leaves the circle."
        )
    moved = Transformer(transformer, bins, float(bound), "circular" if mapped.circles else "one")
    recipe = Recipe(
        kind, len(mapped.kept), context.size, layers, tuple(hidden), moved, mixing, mapped.circles,
        half,
    )  # fmt: skip
    return Flow(mapped, context, recipe.make(key))


def _constants(
    x: Any, given: Any, weights: Any, bound: float,
    columns: Mapping[str | int, Column] | None, names: Sequence[str], summary: PyTree,
) -> tuple[Columns, Any]:  # fmt: skip
    if jnp.ndim(x) != 2:
        raise InputError(f"x has shape {jnp.shape(x)}: give [events, dims]")
    wide = np.asarray(x, np.float64)
    context = fitted_context(given, weights, summary, len(wide))
    if not np.isfinite(wide).all():
        bad = np.flatnonzero(~np.isfinite(wide).all(axis=0))
        labels = [names[c] if len(names) == wide.shape[1] else c for c in bad.tolist()]
        raise InputError(f"columns of x {labels} are not finite: select or repair the events")
    mapped = fitted_columns(wide, weights, bound=bound, kinds=columns or {}, names=names)
    return mapped, context
