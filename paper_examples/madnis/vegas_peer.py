"""VEGAS+ on the six-dimensional toy: weights of its events, in an environment with ``vegas``.

python paper_examples/madnis/vegas_peer.py result.npy evaluations points
"""

from __future__ import annotations

import sys

import numpy as np
import toys
import vegas


def main() -> None:
    """Adapt with so many evaluations, write the weights of so many points."""
    evaluations, points = int(sys.argv[2]), int(sys.argv[3])

    @vegas.batchintegrand
    def integrand(x: np.ndarray) -> np.ndarray:
        return toys.diagonal(x, np)

    grid = vegas.Integrator(6 * [[0.0, 1.0]])
    grid(integrand, nitn=20, neval=evaluations // 20)
    grid.set(neval=points, adapt=False)
    weights = []
    for x, share in grid.random_batch():
        weights.append(integrand(x) * share)
    weights = np.concatenate(weights)
    np.save(sys.argv[1], weights * len(weights))


if __name__ == "__main__":
    main()
