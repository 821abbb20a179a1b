r"""First threshold crossings along rays: where does the loss first exceed a threshold?

:class:`Grid` walks fixed coefficients. :class:`Crossing` solves: for every direction, landscape and
threshold it narrows a bracket ``(lo, hi)`` of evaluated coefficients, ``loss(lo) <= threshold <
loss(hi)``. In both, the threshold radius follows from the evaluated points by one rule, "the first
coefficient whose loss exceeds the threshold", so whoever reads the file finds the radius that the
search found.

**Two precisions.** Every bracket is narrowed until ``hi/lo - 1 <= xrtol_rest``. Of all rays of a minimum,
those that can carry the mean of ``r^n`` in a landscape, at a threshold
(:mod:`volume_lib.search.carriers`), are then refined there to ``xrtol``. In 235,000 dimensions a ray whose
radius is 0.1 % below the largest adds e^(-235) of it to the mean: where exactly it lies does not matter.

How :class:`Crossing` needs only three to four evaluations a crossing in large landscapes:

* **Scan, on few samples.** Each ray is first walked up a geometric ladder, ``scan_ratio`` apart, from half of
  the smallest threshold radius met so far (from 1e-4 for the first batch). Landscapes of more than a few
  hundred samples are walked on an evenly spaced subset of ``pilot_samples`` or more.
* **Predict.** Radii are alike across directions and landscapes. A ridge regression, learned from the
  directions already solved, gives ``log c`` of each crossing from those of the smaller landscapes and
  other thresholds on the same ray.
* **Interpolate.** Near a crossing ``log c`` is almost a cubic function of ``log loss``. Its four
  coefficients are fitted by weighted least squares to the points evaluated, with what earlier directions
  taught as a prior; the value at ``loss = threshold`` is the next point.
* **Share.** First each crossing gets one such point, from the smallest landscape up; then brackets are
  closed from the largest down, whose points are points of the smaller landscapes, too.
* **Straddle.** The last two points are placed on either side of the root, less than the tolerance apart.

Where the loss is not monotone along a ray, the *first* crossing is found if the loss stays above the
threshold over a factor of ``scan_ratio`` in the coefficient. An excursion narrower than that can fall
between two rungs, one below the start of the ladder is not looked for, and in a landscape that is
scanned on a subset the excursion must show there (as a local maximum above 0.7 × threshold; it is
then looked at with all samples). ``benchmarks/accuracy.py`` measures how often that happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.rays.losses import Rays
from volume_lib.search.carriers import carriers, needs_all
from volume_lib.search.points import Points, Target, bracket
from volume_lib.search.prediction import History
from volume_lib.search.tracing import Tracing, is_narrow

NARROWEST, WIDEST = 1e-12, 0.1
"""Tolerances that can be asked for: coefficients are told apart to 2e-16, rungs are 0.3 apart."""


@dataclass(frozen=True)
class Grid:
    """The plain procedure: the same coefficients along every direction, one after another.

    The threshold radius is rounded up to the next coefficient.
    """

    coefficients: tuple[float, ...] = tuple(np.linspace(0, 1, 100) ** 2)
    name: str = field(default="grid", init=False)

    def made(self, rays: Sequence[dict[str, Any]], targets: Sequence[Target], n: int) -> bool:
        """Whether this search can have evaluated these rays of a file."""
        return all(np.array_equal(ray["coefficients"], self.coefficients) for ray in rays)

    def trace(self, rays: Rays, targets: Sequence[Target], history: History) -> list[Points]:
        """Walk all loaded rays in every landscape; one :class:`Points` for each landscape."""
        traced = []
        losses, accs = history.at_zero(rays)
        for k in range(len(rays.sizes)):
            points = Points.start(rays.num_rows, losses[k], accs[k], capacity=len(self.coefficients))
            for row in range(rays.num_rows):
                for c in self.coefficients[1:]:
                    loss, acc = rays(np.array([row]), np.array([c]), k)
                    points.add(np.array([row]), np.array([c]), loss[:, k], acc[:, k])
            traced.append(points)
        return traced

    def suited(self, num_directions: int, n: int) -> Grid:
        """Itself: the grid is the same for any number of directions and parameters."""
        return self


@dataclass(frozen=True)
class Crossing:
    """Solve for the first crossing of every threshold (see the module's text).

    Args:
        max_coefficient: where a ray that never crosses is given up; its direction is censored there.
        xrtol: relative width of the final bracket, ``hi/lo - 1``, of the rays that can carry a mean.
        xrtol_rest: that of all others. ``xrtol_rest = xrtol`` solves all alike.
        scan_ratio: ratio of neighbouring rungs of the ladder.
        pilot_samples: landscapes of more than twice as many samples are scanned on about this many, or on a
            64th of their samples if that is more.

    Raises:
        InputError: the tolerances are not in order, or none that can be reached.
    """

    max_coefficient: float = 1000.0
    xrtol: float = 1e-6
    xrtol_rest: float = 1e-3
    scan_ratio: float = 1.3
    pilot_samples: int = 128
    name: str = field(default="crossing", init=False)

    def __post_init__(self) -> None:
        if not NARROWEST <= self.xrtol <= WIDEST:
            raise InputError(f"xrtol must lie between {NARROWEST:g} and {WIDEST:g}; got {self.xrtol!r}")
        if not self.xrtol <= self.xrtol_rest <= WIDEST:
            raise InputError(
                f"xrtol_rest must lie between {self.xrtol:g} (all rays alike) and {WIDEST:g}; "
                f"got {self.xrtol_rest!r}"
            )

    def made(self, rays: Sequence[dict[str, Any]], targets: Sequence[Target], n: int) -> bool:
        """Whether this search can have evaluated these rays of a file: all of a minimum in a landscape.

        Every ray ends as it should, its brackets are narrow enough, and those of the carriers refined.
        """
        last = np.array([ray["coefficients"][-1] for ray in rays])
        norms = np.array([ray["perturbation_norm"] for ray in rays])
        points = Points.of_rays(
            [np.stack([ray[a] for a in ("coefficients", "loss", "accs")]) for ray in rays]
        )
        ends = np.array([bracket(points, np.arange(len(rays)), target) for target in targets])  # (T, 2, D)
        lo, hi = ends[:, 0], ends[:, 1]
        crossed = np.isfinite(hi)
        if not np.where(
            crossed.all(axis=0), last <= self.max_coefficient, last == self.max_coefficient
        ).all():
            return False
        if not (is_narrow(lo, hi, self.xrtol_rest) | ~crossed).all():
            return False
        return not any(self.unfinished(a, b, norms, n).any() for a, b in zip(lo, hi, strict=True))

    def trace(self, rays: Rays, targets: Sequence[Target], history: History) -> list[Points]:
        """Find all crossings of the loaded rays; one :class:`Points` for each landscape.

        They are solved to ``xrtol_rest``; :meth:`refine` does the rest. ``history`` carries what was learned
        from one batch of directions of a model to the next.
        """
        losses, accs = history.at_zero(rays)
        points = [Points.start(rays.num_rows, *zero) for zero in zip(losses, accs, strict=True)]
        tracing = self._tracing(rays, targets, history, points)
        tracing.solve(self.xrtol_rest)
        history.learn(tracing.known)
        return points

    def suited(self, num_directions: int, n: int) -> Crossing:
        """The same search, of one precision where all rays would be refined anyway."""
        return replace(self, xrtol_rest=self.xrtol) if needs_all(num_directions, n) else self

    def unfinished(self, lo: np.ndarray, hi: np.ndarray, norms: np.ndarray, n: int) -> np.ndarray:
        """Which rays of a minimum still need :meth:`refine` in one landscape, at one threshold: bool (D,).

        ``lo``, ``hi`` (D,): brackets in the coefficient, ``hi`` infinite for a ray that never crossed;
        ``norms`` (D,): of the unscaled directions; ``n``: moved parameters.
        """
        crossed = np.isfinite(hi)
        chosen = carriers(lo * norms, np.where(crossed, hi, lo) * norms, n)
        return chosen & crossed & ~is_narrow(lo, hi, self.xrtol)

    def refine(
        self,
        rays: Rays,
        points: list[Points],
        targets: Sequence[Target],
        history: History,
        wanted: np.ndarray,
    ) -> None:
        """Narrow brackets of loaded rays to ``xrtol`` where ``wanted`` ``(K, T, D)``; adds to ``points``."""
        tolerances = np.where(wanted, self.xrtol, self.xrtol_rest)
        self._tracing(rays, targets, history, points).settle(tolerances)

    def _tracing(self, rays, targets, history, points) -> Tracing:
        return Tracing(
            rays, targets, history, points, self.max_coefficient, self.scan_ratio, self.pilot_samples
        )
