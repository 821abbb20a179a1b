r"""Which rays can carry a mean of ``r^n``: those that are worth the full precision.

Of ``D`` rays the search knows brackets, ``lower ≤ r ≤ upper``. Let ``L`` be the tenth largest lower end.
The carriers are all rays with ``upper ≥ L·exp(−40/n)``: those that may lie within 40 nats of it, or above.

**Nothing else can matter.** At least ten rays have ``r ≥ L``, and every ray left out has ``w = r^n <
e^(−40)·L^n``, at its upper end, too. Therefore, wherever those left out lie within their brackets,

* *the ten largest radii* are radii of carriers, whichever they are: each is at least ``L``;
* ``log mean(w)`` changes by less than ``D·e^(−40)/10``: 4e-13 nats for a million rays;
* the *effective directions* ``(Σw)²/Σw²`` change by about that fraction, as both sums do;
* the *bootstrap interval* hardly can: in a resample that has one of the ten, what was left out is again less
  than ``D·e^(−40)`` of the sum. A resample of ``D`` rays has none of them with probability ``(1 − 10/D)^D ≤
  e^(−10)``. To reach an end of the 95 % interval of ``B`` resamples, more than ``B/40`` must be such, which
  has a probability below ``(40·e·e^(−10))^(B/40)``, 1e-57 for the usual thousand. Even then the end would be
  known to the precision of the other rays.

**What compares minima.** Whether ``k`` random directions order the minima as all do
(:func:`volume_lib.volume.diagnostics.rank_probabilities`) is asked of small subsets, too, whose largest ray
can be any. Two minima are compared there by rays that may lie closer than their brackets are wide. What that
needs is no further evaluation, but the place of the crossing inside its bracket, which
:attr:`volume_lib.volume.radii.Radii.crossing` has to about 1e-6.
"""

from __future__ import annotations

import numpy as np

LARGEST = 10
"""Rays whose radii are wanted as such, and one of which every resample has."""
NATS = 40.0
"""How far below the tenth largest a ray is left out, in ``n·log r``."""


def carriers(lower: np.ndarray, upper: np.ndarray, n: int) -> np.ndarray:
    """Which of the rays can carry a mean of ``r^n``: bool (D,).

    ``lower``, ``upper`` (D,): where each radius lies, ``0 ≤ lower ≤ upper``; both the largest radius tried
    for a ray that never crossed.

    >>> carriers(np.linspace(1, 2, 12), np.linspace(1, 2, 12), n=1000).sum()
    np.int64(10)
    >>> carriers(np.linspace(1, 2, 12), np.linspace(1, 2, 12), n=2).all()
    np.True_
    """
    if needs_all(len(lower), n):
        return np.ones(len(lower), dtype=bool)
    tenth = np.partition(lower, -LARGEST)[-LARGEST]
    with np.errstate(divide="ignore"):
        return np.log(upper) >= np.log(tenth) - NATS / n


def needs_all(num_directions: int, n: int) -> bool:
    """Whether all rays are carriers, as far as can be told beforehand.

    Of ten rays or fewer all are; and where 40 nats are a factor of 10 in the radius, as good as all.
    """
    return num_directions <= LARGEST or np.log(10) * n <= NATS
