r"""First threshold crossings along rays: where does the loss first exceed a threshold?

:class:`Grid` walks fixed coefficients. :class:`Crossing` solves: for every direction, landscape and
threshold it narrows a bracket ``(lo, hi)`` of evaluated coefficients, ``loss(lo) <= threshold <
loss(hi)``, until ``hi/lo - 1 <= xrtol``. In both, the threshold radius follows from the evaluated
points by one rule, "the first coefficient whose loss exceeds the threshold", so whoever reads the
file finds the radius that the search found.

How :class:`Crossing` needs only four to five evaluations a crossing in large landscapes, where they are dear:

* **Scan, on few samples.** Each ray is first walked up a geometric ladder, ``scan_ratio`` apart, from half of
  the smallest threshold radius met so far (from 1e-4 for the first batch). Landscapes of more than a few
  hundred samples are walked on an evenly spaced subset of ``pilot_samples`` or more.
* **Predict.** Radii are alike across directions and landscapes. A ridge regression, learned from the
  directions already solved, gives ``log c`` of each crossing from those of the smaller landscapes and
  other thresholds on the same ray.
* **Interpolate.** Near a crossing ``log c`` is almost a quadratic function of ``log loss``. Its three
  coefficients are fitted by weighted least squares to the points evaluated, with what earlier directions
  taught as a prior; the value at ``loss = threshold`` is the next point.
* **Straddle.** The last two points are placed on either side of the root, less than ``xrtol`` apart.

Where the loss is not monotone along a ray, the *first* crossing is found if the loss stays above the
threshold over a factor of ``scan_ratio`` in the coefficient. An excursion narrower than that can fall
between two rungs, one below the start of the ladder is not looked for, and in a landscape that is
scanned on a subset the excursion must show there (as a local maximum above 0.7 × threshold; it is
then looked at with all samples). ``benchmarks/accuracy.py`` measures how often that happens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from volume_lib.rays.losses import Rays
from volume_lib.search.points import Points, Target, bracket
from volume_lib.search.prediction import History, Shape, fit_root

COLD_START = 1e-4
"""Where the very first ladder begins; if the loss is above a threshold there, it goes down instead."""
TINY = 1e-15
"""Coefficients that are not told from 0."""
PRECISE_WITHIN = 3e-3
"""Once a point lies this close to the expected root, in ``log c``, the next ones are computed in float64."""


@dataclass(frozen=True)
class Grid:
    """The plain procedure: the same coefficients along every direction, one after another.

    The threshold radius is rounded up to the next coefficient.
    """

    coefficients: tuple[float, ...] = tuple(np.linspace(0, 1, 100) ** 2)
    name: str = field(default="grid", init=False)

    def made(self, ray: dict[str, Any], targets: list[Target]) -> bool:
        """Whether this search can have evaluated this ray of a file."""
        return np.array_equal(ray["coefficients"], self.coefficients)

    def trace(self, rays: Rays, targets: list[Target], history: History) -> list[Points]:
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


@dataclass(frozen=True)
class Crossing:
    """Solve for the first crossing of every threshold (see the module's text).

    Args:
        max_coefficient: where a ray that never crosses is given up; its direction is censored there.
        xrtol: relative width of the final bracket, ``hi/lo - 1``.
        scan_ratio: ratio of neighbouring rungs of the ladder.
        pilot_samples: landscapes of more than twice as many samples are scanned on about this many, or on a
            64th of their samples if that is more.
    """

    max_coefficient: float = 1000.0
    xrtol: float = 1e-6
    scan_ratio: float = 1.3
    pilot_samples: int = 128
    name: str = field(default="crossing", init=False)

    def made(self, ray: dict[str, Any], targets: list[Target]) -> bool:
        """Whether this search can have evaluated this ray of a file: it ends and is resolved as it should."""
        points = Points.of_ray(ray)
        ends = [bracket(points, np.arange(1), target) for target in targets]
        last = ray["coefficients"][-1]
        if not all(np.isfinite(hi) for _, hi in ends):
            return bool(last == self.max_coefficient)
        return bool(last <= self.max_coefficient and all(self._is_narrow(lo, hi) for lo, hi in ends))

    def _is_narrow(self, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """Whether brackets need no further point; the model itself may be beyond, or as good as."""
        return (hi <= TINY) | (hi <= lo * (1 + self.xrtol))

    def trace(self, rays: Rays, targets: list[Target], history: History) -> list[Points]:
        """Find all crossings of the loaded rays; one :class:`Points` for each landscape.

        ``history`` carries what was learned from one batch of directions of a model to the next.
        """
        landscapes = range(len(rays.sizes))
        losses, accs = history.at_zero(rays)
        points = [Points.start(rays.num_rows, losses[k], accs[k]) for k in landscapes]
        known: dict[tuple, np.ndarray] = {}
        direct = [k for k in landscapes if rays.sizes[k] <= 2 * self.pilot_samples]
        if direct:
            self._scan(rays, points, direct[-1], 1, targets, history)
        for k in landscapes:
            if k not in direct:
                known |= self._scan_pilot(rays, points, k, targets, history)
            for target in targets:
                self._refine(rays, points, k, target, targets, history, known)
                known |= _found(points[k], k, target)
        # A point evaluated for a larger landscape can show an earlier crossing in a smaller one.
        before = -1
        while (evaluated := sum(int(own.filled.sum()) for own in points)) > before:
            before = evaluated
            for k in landscapes:
                for target in targets:
                    self._refine(rays, points, k, target, targets, history, known)
        history.learn(known)
        return points

    # ---- the ladder

    def _scan(
        self, rays: Rays, points: list[Points], k: int, stride: int, targets: list[Target], history: History
    ) -> None:
        """Walk all rays of landscape ``k`` up the ladder until each is beyond every threshold."""
        start = COLD_START if history.ladder_start is None else history.ladder_start
        self._climb(rays, points, k, stride, np.arange(rays.num_rows), start, targets)

    def _climb(self, rays, points, k, stride, rows, start, targets) -> None:
        c = start
        while len(rows):
            c = min(c, self.max_coefficient)
            self._evaluate(rays, points, k, rows, np.full(len(rows), c), targets, stride)
            if c == start:
                self._descend(rays, points, k, stride, rows, start, targets)
            if c >= self.max_coefficient:
                break
            rows = rows[np.max([bracket(points[k], rows, t)[1] for t in targets], axis=0) > c]
            c *= self.scan_ratio

    def _descend(self, rays, points, k, stride, rows, start, targets) -> None:
        """The ladder began beyond a threshold on these rays: go down until below it."""
        c = start
        while True:
            ends = [bracket(points[k], rows, target) for target in targets]
            too_far = np.any([(lo == 0) & (hi > 0) & np.isfinite(hi) for lo, hi in ends], axis=0)
            rows = rows[too_far]
            c /= self.scan_ratio
            if not len(rows) or c < TINY:
                return
            self._evaluate(rays, points, k, rows, np.full(len(rows), c), targets, stride)

    def _scan_pilot(self, rays, points, k, targets, history) -> dict[tuple, np.ndarray]:
        """Scan a large landscape on a subset of its samples; look closely at bumps; return what was seen."""
        stride = rays.sizes[k] // max(self.pilot_samples, rays.sizes[k] // 64)
        losses, accs = history.at_zero(rays, k, stride)
        pilot = [None] * k + [Points.start(rays.num_rows, losses[k], accs[k])]
        self._scan(rays, pilot, k, stride, targets, history)
        everyone = np.arange(rays.num_rows)
        seen = {}
        for target in targets:
            root, slope, _ = fit_root(pilot[k].coefficients, target.excess(pilot[k], everyone), Shape())
            lo, hi = bracket(pilot[k], everyone, target)
            with np.errstate(divide="ignore", invalid="ignore"):
                inside = (root > np.log(lo)) & (root < np.log(hi))
                middle = np.where((lo > 0) & np.isfinite(hi), (np.log(lo) + np.log(hi)) / 2, np.nan)
            seen["pilot root", k, target] = np.where(inside, root, middle)
            seen["pilot slope", k, target] = np.where(inside, slope, np.nan)
            self._look_at_bumps(rays, points, pilot, k, target, hi, targets)
        return seen

    def _look_at_bumps(self, rays, points, pilot, k, target, hi, targets) -> None:
        """Evaluate with all samples where the pilot's loss peaks near the threshold before its crossing."""
        if target.kind != "loss":
            return
        for row in range(rays.num_rows):
            c, loss, _ = pilot[k].ray(row)
            peak = np.flatnonzero((loss[1:-1] > loss[2:]) & (loss[1:-1] > 0.7 * target.value)) + 1
            for c_peak in c[peak]:
                if c_peak <= hi[row]:
                    self._evaluate(rays, points, k, np.array([row]), np.array([c_peak]), targets)

    # ---- the solver

    def _evaluate(self, rays, points, k, rows, coefficients, targets, stride=1, precise=False) -> np.ndarray:
        """Evaluate and note one point for each of ``rows``; returns which of them were noted, ``(R,)``.

        A point whose loss is too close to a threshold to be told from it in float32 is not noted
        where float64 can tell.
        """
        if not len(rows):
            return np.ones(0, dtype=bool)
        losses, accs = rays(rows, coefficients, k, stride, precise)
        for j in range(k + 1) if stride == 1 else [k]:
            kept = np.ones(len(rows), dtype=bool)
            if rays.has_precise(j) and not (precise and rays.has_precise(k)) and stride == 1:
                kept = ~np.any([target.close(losses[:, j]) for target in targets], axis=0)
            points[j].add(rows[kept], coefficients[kept], losses[kept, j], accs[kept, j])
        return kept

    def _refine(self, rays, points, k, target, targets, history, known) -> None:
        """Narrow the bracket of ``target`` in landscape ``k`` on every ray, to ``xrtol``."""
        rows = np.arange(rays.num_rows)
        tolerance = np.log1p(self.xrtol)
        for step in range(200):
            lo, hi = bracket(points[k], rows, target)
            open_ = (lo < self.max_coefficient) & ~self._is_narrow(lo, hi)
            rows = rows[open_]
            if not len(rows):
                return
            with np.errstate(divide="ignore"):
                log_lo, log_hi = np.log(lo[open_]), np.log(hi[open_])
            if step == 0:
                precise = np.zeros(rays.num_rows, dtype=bool)
                guess, spread = history.root(k, target, known, rays.num_rows)
                shape = history.shape(k, target, known, rays.num_rows)
            root, _, _ = fit_root(
                points[k].coefficients[rows],
                target.excess(points[k], rows),
                shape.of(rows),
                guess[rows],
                spread,
            )
            bisect = target.kind == "acc" or (step >= 8 and step % 2 == 0)
            x = _next_point(root, log_lo, log_hi, tolerance, bisect, np.log(self.scan_ratio))
            c = np.minimum(np.exp(x), self.max_coefficient)
            close = precise[rows] | (np.minimum(root - log_lo, log_hi - root) < PRECISE_WITHIN)
            close |= log_hi - log_lo < PRECISE_WITHIN
            close &= rays.has_precise(k)
            self._evaluate(rays, points, k, rows[close], c[close], targets, precise=True)
            kept = self._evaluate(rays, points, k, rows[~close], c[~close], targets)
            precise[rows[~close][~kept]] = True


def _found(points: Points, k: int, target: Target) -> dict[tuple, np.ndarray]:
    """Root, slope and curvature of ``log c`` against ``log loss`` at the crossings of landscape ``k``.

    Arrays ``(D,)``, named as in :class:`History`; NaN for rays that never cross or start beyond the
    threshold.
    """
    everyone = np.arange(len(points.filled))
    lo, hi = bracket(points, everyone, target)
    solved = (lo > 0) & np.isfinite(hi)
    root = np.where(solved, np.log(np.where(solved, hi, 1.0)), np.nan)
    found = {("root", k, target): root}
    if target.kind == "loss":
        _, slope, curvature = fit_root(points.coefficients, target.excess(points, everyone), Shape())
        found["slope", k, target] = np.where(solved, slope, np.nan)
        found["curvature", k, target] = np.where(solved, curvature, np.nan)
    return found


def _next_point(
    root: np.ndarray, lo: np.ndarray, hi: np.ndarray, tolerance: float, bisect: bool, rung: float
) -> np.ndarray:
    """Where to evaluate next, all in ``log c`` and of shape ``(R,)``.

    A point a little beyond the expected root, so that it becomes ``hi``; or, once an end of the bracket
    lies within the tolerance of the root, the point that closes the bracket from the other side.
    """
    x = root + 0.25 * tolerance
    # Upwards of a point below the threshold no rung is skipped: the ladder's promise holds here too.
    x = np.where(np.isinf(hi) & np.isfinite(lo), np.minimum(x, lo + rung), x)
    x = np.where((root - lo >= 0) & (root - lo < 0.7 * tolerance), lo + 0.95 * tolerance, x)
    x = np.where((hi - root >= 0) & (hi - root < 0.7 * tolerance), hi - 0.95 * tolerance, x)
    with np.errstate(invalid="ignore"):
        middle = np.where(np.isinf(hi), lo + rung, np.where(np.isinf(lo), hi - np.log(2.0), (lo + hi) / 2))
        inside = (x > lo) & (x < hi)
    if bisect:
        inside = np.zeros_like(inside)
    return np.where(inside, x, np.where(np.isneginf(lo) & np.isposinf(hi), np.log(COLD_START), middle))
