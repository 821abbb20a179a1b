"""What a check of an estimator found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Convergence:
    """Estimates of one body's log volume in one scaling, in nats, against the number of directions.

    ``directions`` (K,) increasing; ``estimate``, ``low``, ``high`` (the 95 % interval) and ``effective``
    (effective directions), all (K,); ``exact``: the body's true log volume; ``n``: its dimension.
    """

    scaling: str
    n: int
    exact: float
    directions: np.ndarray
    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    effective: np.ndarray
