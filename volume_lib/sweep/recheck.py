"""While and after rays are walked: do recorded losses come out again?

A preflight sees few samples and few calls. Here a few points of the walked rays are computed once more, by
full passes over all samples: a network that remembers, drifts or is wrong now and then, a stem that is not
its network's, inputs that were changed on the way give other losses. The first ray is compared as soon as it
is walked, before hours are spent on others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volume_lib.errors import InputError
from volume_lib.rays.directions import draw
from volume_lib.rays.fast import FastRays
from volume_lib.rays.losses import PlainRays

EVERY = 100
"""Of so many rays one is compared, at least the first and the last: less than 1 % of the work."""
TOLERANCE = 1e-3
"""Relative difference of a mean loss between two ways to compute it that is more than rounding."""


def chosen(done: int) -> list[int]:
    """Which of ``done`` rays to compare once all are walked: evenly spaced, from the first to the last."""
    return sorted({round(row) for row in np.linspace(0, done - 1, max(2, done // EVERY))})


def check_again(
    rays: PlainRays | FastRays, seed: int, walked: Sequence[np.ndarray], largest: float, at_zero: bool = False
) -> None:
    """Compute a ray's loss once more, near its crossings (``at_zero``: at the minimum), in all landscapes.

    ``walked``: the ray as it was walked, ``(3, P)`` coefficients, losses and accuracies in each landscape.
    ``largest``: the highest loss threshold.

    Raises :class:`InputError` where a loss is another than was found.
    """
    if rays.changed_inputs():
        raise InputError(
            "forward changes its inputs in place in some calls, not in those of the preflight: write x - 0.1 "
            "instead of x.sub_(0.1), or copy them first; nothing is recorded"
        )
    c = 0.0 if at_zero else _near_crossing(walked[-1], largest)
    again = rays.mean_losses(draw(seed, len(rays.theta)), c)
    for size, (coefficients, losses, _), loss in zip(rays.sizes, walked, again, strict=True):
        before = losses[coefficients == c]  # of a smaller landscape it may not be noted
        if len(before) and not _same(before[0], loss, 1e-6 * largest + 10 * rays.able.rounding):
            where = "the minimum" if c == 0 else f"coefficient {c:.4g} of the direction of seed {seed}"
            raise InputError(
                f"the loss at {where} over {size:,} samples was {before[0]:.6g}, computed again {loss:.6g}: "
                "the network remembers, counts or draws, or its stem and tail are not its forward; nothing "
                "is recorded"
            )


def _near_crossing(ray: np.ndarray, largest: float) -> float:
    """The last coefficient whose loss is not far beyond the thresholds, where rounding would be seen."""
    coefficients, losses, _ = ray
    with np.errstate(invalid="ignore"):
        usable = np.flatnonzero(losses <= 10 * max(largest, losses[0]))
    return float(coefficients[usable[-1]]) if len(usable) else 0.0


def _same(a: float, b: float, rounding: float) -> bool:
    return bool(np.isclose(a, b, rtol=TOLERANCE, atol=rounding, equal_nan=True))
