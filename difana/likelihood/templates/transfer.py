"""Backgrounds from data: transfer factors from control regions, and the ABCD method."""

from __future__ import annotations

import numpy as np
from jaxtyping import ArrayLike, Float

from difana._errors import ModelError
from difana.likelihood.modifiers import (
    AbstractModifier,
    HistoSys,
    NormFactor,
    NormSys,
    StatError,
    Template,
)


def transfer_template(
    observed: Float[ArrayLike, " bins"],
    factor: Float[ArrayLike, "*bins"],
    *,
    name: str,
    simulated: Float[ArrayLike, " bins"] | None = None,
    simulated_errors: Float[ArrayLike, " bins"] | None = None,
    factor_error: Float[ArrayLike, "*bins"] | None = None,
    channel: str = "",
) -> Template:
    r"""Return a background template made of the data of a control region.

    .. math:: b_i = f_i \max(n_i - s_i, 0), \qquad
              \sigma_i = f_i \sqrt{n_i + \sigma_{s,i}^2}

    with observed events :math:`n`, other processes :math:`s` expected there, and the transfer
    factor :math:`f` from the control to the signal region.

    Args:
        observed: Observed events of the control region in the bins of the signal region.
        factor: Transfer factor, one number or one a bin.
        name: Name of the template; the uncertainty of the factor is the nuisance
            ``name_transfer``.
        simulated: What other processes contribute to the control region.
        simulated_errors: Statistical uncertainties of that.
        factor_error: Uncertainty of the factor, one number or one a bin (then correlated).
        channel: The channel that it goes into: shares the statistical uncertainty
            ``staterror_channel`` with its other templates. None if left out.

    Raises:
        ModelError: If shapes differ, or numbers are negative or not finite.

    Example:
        >>> fakes = transfer_template([110.0, 40.0], 0.2, name="fakes", simulated=[10.0, 4.0],
        ...                           factor_error=0.02)
        >>> fakes.values.tolist()
        [20.0, 7.2]
        >>> [(m.name, m.hi, m.lo) for m in fakes.modifiers]
        [('fakes_transfer', 1.1, 0.9)]
    """
    data = _checked(observed, "observed", name)
    other = np.zeros_like(data) if simulated is None else _checked(simulated, "simulated", name)
    errors = simulated_errors if simulated_errors is not None else np.zeros_like(data)
    errors = _checked(errors, "simulated_errors", name)
    ratio = _checked(factor, "factor", name)
    if not data.shape == other.shape == errors.shape or ratio.shape not in ((), data.shape):
        raise ModelError(
            f"template '{name}': observed, simulated and factor have shapes {data.shape}, "
            f"{other.shape}, {ratio.shape}: they must have the same bins"
        )
    left = np.clip(data - other, 0, None)
    values, modifiers = ratio * left, list[AbstractModifier]()
    if factor_error is not None:
        change = _checked(factor_error, "factor_error", name)
        label = f"{name}_transfer"
        if change.ndim == ratio.ndim == 0:
            relative = float(change / ratio)
            # from 100 % on, minus one standard deviation is the inverse of plus one
            low = 1 - relative if relative < 1 else 1 / (1 + relative)
            modifiers.append(NormSys(1 + relative, low, label))
        else:
            down = np.clip(ratio - change, 0, None)
            modifiers.append(HistoSys((ratio + change) * left, down * left, label))
    if channel:
        uncertainty = ratio * np.sqrt(data + errors**2)
        modifiers.append(StatError(np.where(values > 0, uncertainty, 0.0), f"staterror_{channel}"))
    return Template(values, tuple(modifiers), name=name)


def abcd_templates(
    signal_region: Float[ArrayLike, " bins"],
    controls: dict[str, Float[ArrayLike, " bins"]],
    *,
    name: str,
    closure: float = 0.0,
) -> dict[str, Template]:
    r"""Return templates of one background in four regions whose yields obey :math:`A = B C / D`.

    Two cuts that are independent for this background make the regions A (both passed), B and C
    (one of them) and D (none). Three free factors :math:`f, r_B, r_C`, named ``name_D``,
    ``name_B`` and ``name_C`` by the regions, start at 1:

    .. math:: D = f N_D,\; B = f r_B N_B,\; C = f r_C N_C,\; A = f r_B r_C N_B N_C / N_D,

    so that the fit takes the yield in A from the data of the other three, with all its
    uncertainties, and what else is expected there.

    Args:
        signal_region: Shape of the background in A; only the relative size of its bins counts.
        controls: Yields of the background in B, C and D, in this order, by the names of these
            regions: estimates, e.g. data minus other processes.
        name: Name of the background.
        closure: Relative uncertainty of the relation, the nuisance ``name_closure`` in A.

    Returns:
        The templates: ``"A"`` for the signal region, the others by their names.

    Raises:
        ModelError: If there are not three control regions, or a yield is not positive.

    Example:
        >>> found = abcd_templates([3.0, 1.0], {"B": [40.0], "C": [50.0], "D": [100.0]}, name="qcd")
        >>> found["A"].values.tolist(), found["A"].normfactors
        ([15.0, 5.0], ('qcd_D', 'qcd_B', 'qcd_C'))
        >>> found["B"].normfactors
        ('qcd_D', 'qcd_B')
    """
    if len(controls) != 3 or "A" in controls:
        raise ModelError(
            f"background '{name}': three control regions B, C and D, in this order and not called "
            f"'A', make an ABCD; got {list(controls)}"
        )
    shapes = {key: _checked(values, f"region '{key}'", name) for key, values in controls.items()}
    shape = _checked(signal_region, "signal_region", name)
    totals = {key: float(values.sum()) for key, values in [*shapes.items(), ("A", shape)]}
    for key, total in totals.items():
        if not total > 0:
            raise ModelError(
                f"background '{name}': its yield in region '{key}' is {total:g}, not positive"
            )
    first, second, none = shapes
    factors = {key: NormFactor(f"{name}_{key}") for key in (none, first, second)}
    predicted = totals[first] * totals[second] / totals[none]
    extra = (NormSys(1 + closure, 1 / (1 + closure), f"{name}_closure"),) if closure else ()
    return {
        "A": Template(shape * (predicted / totals["A"]), (*factors.values(), *extra), name=name),
        first: Template(shapes[first], (factors[none], factors[first]), name=name),
        second: Template(shapes[second], (factors[none], factors[second]), name=name),
        none: Template(shapes[none], (factors[none],), name=name),
    }


def _checked(values: ArrayLike, what: str, name: str) -> np.ndarray:
    found = np.asarray(values, float)
    if not np.isfinite(found).all() or (found < 0).any():
        raise ModelError(f"template '{name}': {what} must be finite and not negative, got {found}")
    return found
