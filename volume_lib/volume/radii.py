"""Losses along rays → threshold radii: where each ray first leaves the region."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from volume_lib.records import Sweep
from volume_lib.thresholds import above, below, check_thresholds

NARROW = 2e-3
"""Relative width of brackets that are taken for a stretch of a smooth curve."""


@dataclass(frozen=True)
class Radii:
    """Threshold radii of one minimum in one landscape, in the order of the sweep's directions.

    ``radius`` (D,): the first coefficient above the threshold times the norm of the unscaled direction;
    0 where the minimum itself is above the threshold.
    ``lower`` (D,): the same for the coefficient before it, so that the crossing lies in [lower, radius].
    ``crossing`` (D,): where between the two the loss reaches the threshold, by interpolation of its logarithm
    where they are closer than :data:`NARROW`, else ``radius``. It decides nothing but which of two rays of
    different minima reaches further, when both are known to 1e-3.
    ``censored`` (D,) bool: never crossed; ``radius`` and ``lower`` are both the largest radius tried, a
    lower bound.
    ``seeds`` (D,) int64: the directions' perturbation seeds.
    """

    radius: np.ndarray
    lower: np.ndarray
    crossing: np.ndarray
    censored: np.ndarray
    seeds: np.ndarray


def threshold_radii(
    sweep: Sweep, loss_threshold: float | None = None, *, acc_threshold: float | None = None
) -> Radii:
    """Read the threshold radii (D,) off a sweep, whichever search wrote it.

    Give one of ``loss_threshold`` (> 0; crossed at the first coefficient whose loss exceeds it, NaN and
    infinity included) and ``acc_threshold`` (in (0, 1]; crossed at the first coefficient whose accuracy
    is below it, NaN included). Raises :class:`InputError` for an impossible threshold.
    """
    if (loss_threshold is None) == (acc_threshold is None):
        raise TypeError("threshold_radii takes one of loss_threshold and acc_threshold")
    check_thresholds(loss_threshold, acc_threshold)
    num_directions = len(sweep.wiggle_results)
    radius, lower, crossing = np.empty((3, num_directions))
    censored = np.zeros(num_directions, dtype=bool)
    seeds = np.empty(num_directions, dtype=np.int64)
    for i, ray in enumerate(sweep.wiggle_results):
        if loss_threshold is not None:
            across = above(ray["loss"], loss_threshold)
        else:
            across = below(ray["accs"], cast("float", acc_threshold))  # one of the two is given
        first = int(np.argmax(across))
        censored[i] = not across[first]
        upper_index = len(across) - 1 if censored[i] else first
        lower_index = upper_index if censored[i] else max(first - 1, 0)
        norm = float(ray["perturbation_norm"])
        radius[i] = float(ray["coefficients"][upper_index]) * norm
        lower[i] = float(ray["coefficients"][lower_index]) * norm
        crossing[i] = radius[i]
        if loss_threshold is not None and lower_index < upper_index:
            losses = float(ray["loss"][lower_index]), float(ray["loss"][upper_index])
            crossing[i] = _between(lower[i], radius[i], losses, loss_threshold)
        seeds[i] = int(ray["perturbation_seed"])
    return Radii(radius, lower, crossing, censored, seeds)


def _between(lower: float, upper: float, losses: tuple[float, float], threshold: float) -> float:
    """Where the loss reaches the threshold, its logarithm being linear in that of the radius.

    That is off by ``|d²(log r)/d(log loss)²|/8`` times the square of the losses' log ratio: by less than 1e-6
    for brackets of 1e-3. ``upper`` where it says nothing: far ends, a loss of 0, NaN or infinity.
    """
    below_it, above_it = losses
    if not lower > 0 or upper > lower * (1 + NARROW) or not 0 < below_it < above_it < math.inf:
        return upper
    share = math.log(threshold / below_it) / math.log(above_it / below_it)
    return min(upper, lower * (upper / lower) ** share)
