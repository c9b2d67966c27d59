"""A toy of photon variables: chi-squared and Weibull, correlated with each other and kinematics."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NAMES = ("r9", "width", "isolation")


class Table(NamedTuple):
    """Variables and conditions (pt, eta) of events."""

    x: np.ndarray
    given: np.ndarray


def events(rng: np.random.Generator, number: int, *, data: bool) -> Table:
    """Return events; the simulation is shifted, smeared and has other kinematics."""
    pt = rng.exponential(1.0 if data else 0.85, number)
    eta = rng.normal(0.0, 1.0 if data else 1.1, number)
    common = rng.normal(size=number)
    one = rng.chisquare(4.0, number) * (1 + 0.1 * np.tanh(pt)) + 0.5 * common
    two = rng.weibull(1.8, number) * (1 + 0.2 * np.abs(np.tanh(eta))) + 0.15 * common
    peak = np.where(rng.random(number) < 0.7, 1.0, 0.4)
    three = peak * rng.weibull(3.0, number) + 0.1 * one / 4
    x = np.stack([one, two, three], axis=1)
    if not data:
        shift = np.stack([0.6 + 0.2 * np.tanh(pt), -0.1 * np.ones(number), 0.05 * eta**2], axis=1)
        smear = np.array([0.8, 0.15, 0.12]) * rng.normal(size=x.shape)
        x = 1.08 * x + shift + smear
    return Table(x, np.stack([pt, eta], axis=1))
