"""The HistFactory model: static structure, traced numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from difana._errors import ModelError, nearest
from difana._numerics import add_at, one_program, take
from difana.likelihood._clip import clipped
from difana.likelihood._data import check_counts, check_data
from difana.likelihood._poisson import poisson_deviance, poisson_peak, safe_log
from difana.likelihood.interpolation import factor_coefficients, log_factor, shift_basis
from difana.likelihood.structure import Structure


@partial(one_program, static_argnames="size")
def _relative_widths(uncertainty: Array, nominal: Array, owner: Array, *, size: int) -> Array:
    parts = jnp.stack([uncertainty**2, nominal], axis=1)
    squares, totals = jnp.zeros((size, 2), parts.dtype).at[owner].add(parts).T
    positive = (totals > 0) & (squares > 0)
    root = jnp.sqrt(jnp.where(positive, squares, 1.0))
    return jnp.where(positive, root / jnp.where(positive, totals, 1.0), 0.0)


@one_program
def _scales(widths: Array, relative: Array, member: Array, poisson: Array) -> tuple[Array, Array]:
    widths = jnp.where(member, jnp.where(relative > 0, relative, 1.0), widths)
    return widths, jnp.where(poisson, 1.0 / widths**2, 1.0)


class Model(eqx.Module):
    r"""A HistFactory model whose every number may be traced.

    The expected yield of bin :math:`b` is

    .. math::
        \lambda_b = \sum_s \Big(\nu_{sb} + \sum_h \delta_{hsb}(\alpha_h)\Big)
        \prod_n f_{ns}(\alpha_n) \prod_k \gamma_{ksb}

    and the density :math:`\prod_b \mathrm{Pois}(n_b | \lambda_b) \prod_c C_c(a_c | \theta_c)`.
    ``data`` vectors hold the observed yields of all bins, then one auxiliary datum for each
    constrained parameter. Build one with :func:`build_model` or :func:`from_workspace`.

    Attributes:
        nominal: Yields of all templates, ``[rows]``.
        histosys_hi: Shifted yields at +1, ``[histosys entries]``; ``histosys_lo`` at -1.
        normsys_hi: Factors at +1, ``[normsys entries]``; ``normsys_lo`` at -1.
        staterror: Absolute uncertainties of simulation statistics, ``[staterror entries]``.
        shapesys: Absolute uncorrelated uncertainties, ``[shapesys entries]``.
        centers: Centres of the constraints in units of the parameter, ``[constraints]``.
        widths: Widths of the constraints, ``[constraints]``; those of staterror and shapesys
            follow from their uncertainties and are ignored here.
        precision: Inverse correlation matrix of the correlated constraints.
        init: Starting values, ``[params]``.
        lower: Lower bounds, ``[params]``.
        upper: Upper bounds, ``[params]``.
        structure: Names and index arrays (static).

    References:
        HistFactory, CERN-OPEN-2012-016; pyhf, arXiv:2103.02182.
    """

    nominal: Float[Array, " rows"]
    histosys_hi: Float[Array, " histosys"]
    histosys_lo: Float[Array, " histosys"]
    normsys_hi: Float[Array, " normsys"]
    normsys_lo: Float[Array, " normsys"]
    staterror: Float[Array, " staterror"]
    shapesys: Float[Array, " shapesys"]
    centers: Float[Array, " constraints"]
    widths: Float[Array, " constraints"]
    precision: Float[Array, "correlated correlated"]
    init: Float[Array, " params"]
    lower: Float[Array, " params"]
    upper: Float[Array, " params"]
    structure: Structure = eqx.field(static=True)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, one an entry of the parameter vector."""
        return self.structure.parameters

    @property
    def poi_index(self) -> int:
        """Position of the parameter of interest.

        Raises:
            ModelError: If the model has none.
        """
        if self.structure.poi is None:
            raise ModelError("the model has no parameter of interest; give `poi` when building it")
        return self.index(self.structure.poi)

    def index(self, name: str) -> int:
        """Return the position of a parameter by name.

        Raises:
            ModelError: If there is no such parameter.
        """
        if name not in self.parameters:
            raise ModelError(f"no parameter '{name}'.{nearest(name, self.parameters)}")
        return self.parameters.index(name)

    @property
    def bins(self) -> int:
        """Number of bins of all channels."""
        return self.structure.bins

    def _relative(self) -> tuple[np.ndarray, Float[Array, " params"]]:
        """Return which parameters belong to staterror or shapesys, and their relative widths."""
        s, size = self.structure, len(self.parameters)
        member = np.zeros(size, bool)
        member[s.staterror_parameter] = True
        member[s.shapesys_parameter] = True
        if not member.any():
            return member, jnp.zeros(size, self.nominal.dtype)
        owner = np.concatenate([s.staterror_parameter, s.shapesys_parameter])
        row = np.concatenate([s.staterror_row, s.shapesys_row])
        uncertainty = jnp.concatenate([self.staterror, self.shapesys])
        return member, _relative_widths(uncertainty, take(self.nominal, row), owner, size=size)

    @property
    def fixed(self) -> Bool[Array, " params"]:
        """True for parameters held in every fit: by request, or because they have no width."""
        member, relative = self._relative()
        fixed = jnp.asarray(self.structure.fixed)
        return fixed | (member & (relative == 0)) if member.any() else fixed

    def constraint_scales(
        self,
    ) -> tuple[Float[Array, " constraints"], Float[Array, " constraints"]]:
        """Return the widths and the Poisson factors tau = 1/width^2 (1 for the other kinds).

        A staterror or shapesys bin without uncertainty gets 1: its parameter is held, so that the
        term is a constant (the convention of pyhf).
        """
        s = self.structure
        member, relative = self._relative()
        relative = take(relative, s.constrained)
        return _scales(self.widths, relative, member[s.constrained], s.poisson)

    def rows(self, params: Float[Array, " params"]) -> Float[Array, " rows"]:
        """Return the expected yields of every template and bin."""
        s = self.structure
        normsys_code, histosys_code = s.interpolation
        rows = self.nominal
        if s.histosys_row.size:
            nominal, alpha = take(self.nominal, s.histosys_row), take(params, s.histosys_parameter)
            curved = take(shift_basis(histosys_code, params)[0], s.histosys_parameter)
            sums = alpha * (self.histosys_hi - self.histosys_lo)
            differences = curved * (self.histosys_hi + self.histosys_lo - 2.0 * nominal)
            rows = add_at(rows, s.histosys_row, 0.5 * (sums + differences))
        if s.clip:
            rows = clipped(self, rows).value
        if s.normsys_block.size:
            coefficients = factor_coefficients(self.normsys_lo, self.normsys_hi)
            log = log_factor(normsys_code, take(params, s.normsys_parameter), coefficients)[0]
            logs = add_at(jnp.zeros(s.blocks, rows.dtype), s.normsys_block, log)
            rows = rows * take(jnp.exp(logs), s.row_block)
        extended = jnp.concatenate([params, jnp.ones(1, params.dtype)])
        for column in s.factors.T:  # as many as the longest product of one row, not as modifiers
            rows = rows * take(extended, column)
        return rows

    def expected_main(self, params: Float[Array, " params"]) -> Float[Array, " bins"]:
        """Return the expected yields of all bins."""
        rows = self.rows(params)
        return add_at(jnp.zeros(self.bins, rows.dtype), self.structure.row_bin, rows)

    def expected_auxiliary(self, params: Float[Array, " params"]) -> Float[Array, " constraints"]:
        """Return the expected auxiliary data: theta, and theta tau for Poisson constraints."""
        _, tau = self.constraint_scales()
        return take(params, self.structure.constrained) * tau

    def expected(self, params: Float[Array, " params"]) -> Float[Array, " data"]:
        """Return expected yields and expected auxiliary data: the Asimov data at ``params``."""
        return jnp.concatenate([self.expected_main(params), self.expected_auxiliary(params)])

    def auxiliary(self) -> Float[Array, " constraints"]:
        """Return the observed auxiliary data."""
        _, tau = self.constraint_scales()
        return self.centers * tau

    def data(self, observed: Float[Array, " bins"]) -> Float[Array, " data"]:
        """Return the data vector of observed yields and auxiliary data.

        Those of masked bins may be left out; 0 then stands for them.

        Raises:
            ModelError: If the number of yields is not that of the bins.
        """
        observed = jnp.asarray(observed, self.nominal.dtype)
        seen = np.flatnonzero(~self.structure.masked)
        if self.structure.masked.size and observed.shape == seen.shape:
            observed = jnp.zeros(self.bins, observed.dtype).at[seen].set(observed)
        if observed.shape != (self.bins,):
            raise ModelError(
                f"observed yields have shape {observed.shape}, the model has {self.bins} bins "
                f"in channels {[channel.name for channel in self.structure.channels]}"
            )
        check_counts(self.structure, observed)
        return jnp.concatenate([observed, self.auxiliary()])

    def check_data(self, data: Float[Array, " data"]) -> None:
        """Refuse data of the wrong length, which would otherwise broadcast, and impossible ones.

        Raises:
            ModelError: If the length is not that of ``expected(params)``, or, outside of jit, an
                observed yield is negative or any datum not finite.
        """
        check_data(self.structure, data)

    def logpdf(
        self, params: Float[Array, " params"], data: Float[Array, " data"]
    ) -> Float[Array, ""]:
        """Return the natural logarithm of the density of ``data``, all constants included.

        Differentiable in the parameters, the data and every number of the model.

        Raises:
            ModelError: If the data have the wrong length.
        """
        self.check_data(data)
        return self.saturated(data) - self.half_deviance(params, data)

    def half_deviance(
        self, params: Float[Array, " params"], data: Float[Array, " data"]
    ) -> Float[Array, ""]:
        """Return the nll above that of a perfect description of the data.

        All that depends on the parameters is in here, none of the constants: fits and likelihood
        ratios need no more, compile faster without, and lose fewer digits.
        """
        main = jnp.sum(self.bin_terms(params, data))
        if not self.structure.constrained.size:
            return main
        widths, tau = self.constraint_scales()
        theta = params[self.structure.constrained]
        return main + self.constraint(theta, data[self.bins :], widths, tau)

    def bin_terms(
        self, params: Float[Array, " params"], data: Float[Array, " data"]
    ) -> Float[Array, " bins"]:
        """Return half the deviance of each bin; 0 in masked ones."""
        rates, observed = self.expected_main(params), self._unmasked(data[: self.bins])
        seen = observed > 0
        logs = safe_log(rates) - jnp.log(jnp.where(seen, observed, 1.0))
        return self._unmasked(rates - observed - jnp.where(seen, observed * logs, 0.0))

    def _unmasked(self, bins: Float[Array, " bins"]) -> Float[Array, " bins"]:
        """Return zero in masked bins, which the likelihood does not know."""
        masked = self.structure.masked
        return jnp.where(masked, 0.0, bins) if masked.size else bins

    def constraint(
        self,
        theta: Float[Array, " constraints"],
        auxiliary: Float[Array, " constraints"],
        widths: Float[Array, " constraints"],
        tau: Float[Array, " constraints"],
    ) -> Float[Array, ""]:
        """Return half the deviance of the auxiliary data."""
        return jnp.sum(self.constraint_terms(theta, auxiliary, widths, tau))

    def constraint_terms(
        self,
        theta: Float[Array, " constraints"],
        auxiliary: Float[Array, " constraints"],
        widths: Float[Array, " constraints"],
        tau: Float[Array, " constraints"],
    ) -> Float[Array, " constraints"]:
        r"""Return half the deviance of each auxiliary datum.

        Correlated ones share :math:`d^T R^{-1} d / 2`: each has :math:`d_i (R^{-1} d)_i / 2`.
        """
        s = self.structure
        pulls = (auxiliary - theta) / widths
        if s.lognormal.any():
            ratio = jnp.where(s.lognormal, safe_log(auxiliary) - safe_log(theta), 0.0)
            pulls = jnp.where(s.lognormal, ratio / widths, pulls)
        terms = 0.5 * pulls**2
        if s.poisson.any():
            mean = jnp.where(s.poisson, theta * tau, 1.0)
            counts = jnp.where(s.poisson, auxiliary, 1.0)
            terms = jnp.where(s.poisson, poisson_deviance(counts, mean), terms)
        if s.correlated.size:
            joint = pulls[s.correlated]
            terms = terms.at[s.correlated].set(0.5 * joint * (self.precision @ joint))
        return terms

    def saturated(self, data: Float[Array, " data"]) -> Float[Array, ""]:
        """Return the logpdf of a perfect description of the data: all constants."""
        main = jnp.sum(self._unmasked(poisson_peak(self._unmasked(data[: self.bins]))))
        if not self.structure.constrained.size:
            return main
        widths, _ = self.constraint_scales()
        constants = -jnp.log(widths * np.sqrt(2.0 * np.pi))
        poisson = self.structure.poisson
        if poisson.any():
            counts = jnp.where(poisson, data[self.bins :], 1.0)
            constants = jnp.where(poisson, poisson_peak(counts), constants)
        if self.structure.lognormal.any():
            auxiliary = jnp.where(self.structure.lognormal, data[self.bins :], 1.0)
            constants = constants - safe_log(auxiliary)
        if self.structure.correlated.size:
            constants = constants.at[0].add(0.5 * jnp.linalg.slogdet(self.precision)[1])
        return main + jnp.sum(constants)

    def nll(self, params: Float[Array, " params"], data: Float[Array, " data"]) -> Float[Array, ""]:
        """Return the negative logarithm of the likelihood (not twice it)."""
        return -self.logpdf(params, data)

    def pack(self, values: Mapping[str, float]) -> Float[Array, " params"]:
        """Return the starting parameters with some replaced by name."""
        params = self.init
        for name, value in values.items():
            params = params.at[self.index(name)].set(value)
        return params

    def unpack(self, params: Float[Array, " params"]) -> dict[str, Float[Array, ""]]:
        """Return a mapping from parameter names to values."""
        return dict(zip(self.parameters, params, strict=True))

    def slice_of(self, channel: str) -> slice:
        """Return the bins of one channel within the vector of all bins."""
        for layout in self.structure.channels:
            if layout.name == channel:
                return slice(layout.start, layout.start + layout.bins)
        names = [layout.name for layout in self.structure.channels]
        raise ModelError(f"no channel '{channel}'.{nearest(channel, names)}")
