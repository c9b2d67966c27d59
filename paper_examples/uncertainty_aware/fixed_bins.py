"""The best bins that do not know the angle, from the exact densities: what training may reach.

python paper_examples/uncertainty_aware/fixed_bins.py [--bins 10 20] [--starts 12]
"""

from __future__ import annotations

import argparse

import numpy as np
from rotating import BACKGROUND, NOMINAL, PRIOR, SIGNAL, SPREAD, STEP, TRUTHS

EPSILON = 1e-4  # of the derivative by the nuisance


def densities(x: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    """Return expected signal and background a unit of area, ``[2, points]``."""
    z = NOMINAL + PRIOR * alpha
    found = []
    for sign, total in ((1, SIGNAL), (-1, BACKGROUND)):
        square = (x - sign * np.cos(z)) ** 2 + (y - sign * np.sin(z)) ** 2
        found.append(total * np.exp(-0.5 * square / SPREAD**2) / (2 * np.pi * SPREAD**2))
    return np.array(found)


def grid(points: int = 229, reach: float = 3.8) -> np.ndarray:
    """Return events and their derivatives by mu and the nuisance, ``[truths, 3, cells]``."""
    axis = np.linspace(-reach, reach, points)
    x, y = (side.ravel() for side in np.meshgrid(axis, axis))
    area = (axis[1] - axis[0]) ** 2
    found = []
    for steps in TRUTHS.values():
        alpha = STEP * steps
        own = densities(x, y, alpha)
        up, down = (densities(x, y, alpha + e).sum(axis=0) for e in (EPSILON, -EPSILON))
        found.append([own.sum(axis=0), own[0], (up - down) / (2 * EPSILON)])
    return area * np.array(found)


def inverse(yields: np.ndarray) -> np.ndarray:
    """Return the covariance of mu and the nuisance at each truth, ``[truths, 2, 2]``."""
    slopes = yields[:, 1:]
    information = np.einsum("tik,tjk->tij", slopes / yields[:, :1], slopes)
    information[:, 1, 1] += 1  # the constraint
    return np.linalg.inv(information)


def sums(cells: np.ndarray, place: np.ndarray, bins: int) -> np.ndarray:
    """Return yields and derivatives of the bins, ``[truths, 3, bins]``."""
    found = np.array([[np.bincount(place, row, bins) for row in rows] for rows in cells])
    found[:, 0] += 1e-9  # an empty bin
    return found


def best_bins(cells: np.ndarray, *, bins: int, seed: int, steps: int = 300) -> np.ndarray:
    """Return sigma(mu) at each truth after a descent of the mean ln sigma(mu).

    The information is convex in the yields: each cell goes to the bin where its tangent gains most.
    """
    rng = np.random.default_rng(seed)
    share = cells[:, 1] / cells[:, 0]
    chance = cells[:, 1].sum(axis=0)
    start = share[:, rng.choice(chance.size, bins, p=chance / chance.sum())]
    place = np.argmin(np.sum((share[:, :, None] - start[:, None]) ** 2, axis=0), axis=1)
    for _ in range(steps):
        yields = sums(cells, place, bins)
        covariance = inverse(yields)
        mixture = covariance[:, 0] / covariance[:, 0, :1]  # of mu with the nuisance profiled
        ratio = np.einsum("ti,tik->tk", mixture, yields[:, 1:]) / yields[:, 0]
        slope = np.einsum("ti,tig->tg", mixture, cells[:, 1:])
        # d(1/sigma^2) = 2 ratio d(slope) - ratio^2 d(events)
        gain = np.einsum("t,tg,tk->gk", 2 * covariance[:, 0, 0], slope, ratio)
        gain -= np.einsum("t,tg,tk->gk", covariance[:, 0, 0], cells[:, 0], ratio**2)
        new = np.argmax(gain, axis=1)
        if (new == place).all():
            break
        place = new
    return np.sqrt(inverse(sums(cells, place, bins))[:, 0, 0])


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bins", type=int, nargs="+", default=(10, 15, 20, 30))
    parser.add_argument("--starts", type=int, default=12)
    arguments = parser.parse_args()
    cells = grid()
    print("no bins", np.sqrt(inverse(cells + 1e-300)[:, 0, 0]).round(5))
    for bins in arguments.bins:
        found = [best_bins(cells, bins=bins, seed=seed) for seed in range(arguments.starts)]
        means = np.exp(np.mean(np.log(found), axis=1))
        best = found[int(np.argmin(means))].round(4)
        print(f"{bins} bins: mean {means.min():.4f} to {means.max():.4f}, best {best}", flush=True)


if __name__ == "__main__":
    main()
