"""The seven HistFactory modifiers, and the templates and channels that carry them.

Numbers may be traced arrays; names are static. Defaults of inits, bounds and constraints are those
of pyhf 0.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
from jaxtyping import ArrayLike, Float


class AbstractModifier(eqx.Module):
    """A named change of a template by one or several parameters; each has a ``name``."""

    if TYPE_CHECKING:  # kind, name and numbers are declared by each class, names last

        def __getattr__(self, name: str) -> Any: ...  # noqa: D105


class NormFactor(AbstractModifier):
    """A free factor on the whole template."""

    kind: ClassVar[str] = "normfactor"
    name: str = eqx.field(static=True)


class Lumi(AbstractModifier):
    """The luminosity: a constrained factor; its value and width stand in the measurement."""

    kind: ClassVar[str] = "lumi"
    name: str = eqx.field(static=True, default="lumi")


class NormSys(AbstractModifier):
    """A constrained change of normalisation: factors ``hi`` at +1 and ``lo`` at -1 (code 4)."""

    kind: ClassVar[str] = "normsys"
    hi: Float[ArrayLike, ""]
    lo: Float[ArrayLike, ""]
    name: str = eqx.field(static=True)


class HistoSys(AbstractModifier):
    """A constrained change of shape: templates ``hi`` at +1 and ``lo`` at -1 (code 4p)."""

    kind: ClassVar[str] = "histosys"
    hi: Float[ArrayLike, " bins"]
    lo: Float[ArrayLike, " bins"]
    name: str = eqx.field(static=True)


class StatError(AbstractModifier):
    """Simulation statistics: one Gaussian factor a bin, shared by the samples of a channel."""

    kind: ClassVar[str] = "staterror"
    uncertainty: Float[ArrayLike, " bins"]
    name: str = eqx.field(static=True)


class ShapeSys(AbstractModifier):
    """An uncorrelated uncertainty: one Poisson-constrained factor a bin of one sample."""

    kind: ClassVar[str] = "shapesys"
    uncertainty: Float[ArrayLike, " bins"]
    name: str = eqx.field(static=True)


class ShapeFactor(AbstractModifier):
    """One free factor a bin."""

    kind: ClassVar[str] = "shapefactor"
    name: str = eqx.field(static=True)


class Template(eqx.Module):
    """Expected yields of one sample in one channel, with its modifiers.

    Example:
        >>> Template([12.0, 11.0], (NormFactor("mu"),), name="signal").name
        'signal'
    """

    values: Float[ArrayLike, " bins"]
    modifiers: tuple[AbstractModifier, ...] = ()
    name: str = eqx.field(static=True, kw_only=True)

    @property
    def normfactors(self) -> tuple[str, ...]:
        """Names of the free factors on the yield."""
        return tuple(m.name for m in self.modifiers if m.kind == NormFactor.kind)


class Parameter(eqx.Module):
    """Settings of one parameter (set) that replace the defaults of its modifier.

    Attributes:
        name: Name of the modifier(s) that it steers.
        init: Starting value, or values.
        bounds: Lower and upper bound, shared by all entries, or one pair an entry.
        auxdata: Centre of the constraint.
        sigma: Width of the constraint, in units of the parameter; for a log-normal one that of
            its logarithm, for a Poisson one ``1/sqrt(tau)``. Those of staterror and shapesys
            follow from their uncertainties.
        fixed: Held at its starting value in every fit.
        constraint: ``"gaussian"``, ``"poisson"``, ``"lognormal"`` or ``"none"`` replaces that of
            the modifier; the last two kinds need a positive parameter.
    """

    name: str = eqx.field(static=True)
    init: Float[ArrayLike, "..."] | None = None
    bounds: tuple | None = eqx.field(static=True, default=None)
    auxdata: Float[ArrayLike, "..."] | None = None
    sigma: Float[ArrayLike, "..."] | None = None
    fixed: bool = eqx.field(static=True, default=False)
    constraint: str | None = eqx.field(static=True, default=None)


class Channel(eqx.Module):
    """One region: the templates that add up to its expected yields.

    Attributes:
        templates: The processes.
        parameters: Settings that the channel brings along; those given to ``build_model`` under
            the same name replace them.
        name: Its name.
    """

    templates: tuple[Template, ...]
    parameters: tuple[Parameter, ...] = eqx.field(default=(), kw_only=True)
    name: str = eqx.field(static=True, kw_only=True)


class Correlation(eqx.Module):
    r"""Correlations among parameters with Gaussian constraints.

    Their joint constraint is :math:`\exp(-d^T R^{-1} d / 2)` with the pulls
    :math:`d_i = (a_i - \theta_i)/\sigma_i` and the correlation matrix :math:`R`.

    Attributes:
        names: Parameter names, one an entry ("staterror_SR[0]" for those with several).
        matrix: Correlation matrix, ``[names, names]``: ones on the diagonal, positive definite.

    Example:
        >>> Correlation(("jes", "jer"), [[1.0, 0.5], [0.5, 1.0]]).names
        ('jes', 'jer')
    """

    names: tuple[str, ...] = eqx.field(static=True)
    matrix: Float[ArrayLike, "names names"]
