"""One batch of rays on its way to its crossings: the ladder, the look at bumps, and the solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
MAX_STEPS = 200
"""Points that the solver may ask for one bracket: bisection alone ends long before."""
FLOAT32_ENOUGH = 1e-4
"""Brackets no narrower than this need float64 only where a loss is too close to a threshold."""


def is_narrow(lo: np.ndarray, hi: np.ndarray, xrtol: float | np.ndarray) -> np.ndarray:
    """Whether brackets need no further point; the model itself may be beyond, or as good as."""
    return (hi <= TINY) | (hi <= lo * (1 + xrtol))


@dataclass
class Tracing:
    """Rays that are loaded into an evaluator, and all that a search knows of them.

    ``points``: what was evaluated, one :class:`Points` for each landscape. ``known``: what was found out
    about these rays, named as in :class:`History`. The other fields are those of
    :class:`~volume_lib.search.crossings.Crossing`.
    """

    rays: Rays
    targets: Sequence[Target]
    history: History
    points: list[Points]
    max_coefficient: float
    scan_ratio: float
    pilot_samples: int
    known: dict[tuple, np.ndarray] = field(default_factory=dict)

    @property
    def everyone(self) -> np.ndarray:
        return np.arange(self.rays.num_rows)

    # ---- the ladder

    def solve(self, xrtol: float) -> None:
        """Find every crossing of every ray, to ``xrtol``.

        First one point near each, from the smallest landscape up, from which the next is predicted. Every
        point is one of the smaller landscapes, too, whose crossings are almost known when their turn comes.
        """
        landscapes = range(len(self.rays.sizes))
        direct = [k for k in landscapes if self.rays.sizes[k] <= 2 * self.pilot_samples]
        wanted = np.full(self.rays.num_rows, xrtol)
        if direct:
            self._climb(self.points, direct[-1], 1)
        for k in landscapes:
            if k not in direct:
                self._scan_pilot(k)
            for target in self.targets:
                self._narrow(k, target, wanted, steps=1)
                self.known |= self._expected(k, target)
        self.settle(np.full((len(self.points), len(self.targets), self.rays.num_rows), xrtol))
        for k in landscapes:
            for target in self.targets:
                self.known |= _found(self.points[k], k, target)

    def settle(self, xrtol: np.ndarray) -> None:
        """Narrow every bracket to ``xrtol`` ``(K, T, D)``, until there is nothing left to do.

        The largest landscape comes first: its points narrow the brackets of the smaller ones. Such a point
        can show an earlier crossing there.
        """
        before = -1
        while (evaluated := sum(int(own.filled.sum()) for own in self.points)) > before:
            before = evaluated
            for k in reversed(range(len(self.points))):
                for t, target in enumerate(self.targets):
                    self._narrow(k, target, xrtol[k, t])

    def _climb(self, points: list[Points], k: int, stride: int) -> None:
        """Walk all rays of landscape ``k`` up the ladder until each is beyond every threshold."""
        c = start = COLD_START if self.history.ladder_start is None else self.history.ladder_start
        rows = self.everyone
        while len(rows):
            c = min(c, self.max_coefficient)
            self._evaluate(points, k, rows, np.full(len(rows), c), stride)
            if c == start:
                self._descend(points, k, stride, rows, start)
            if c >= self.max_coefficient:
                break
            rows = rows[np.max([bracket(points[k], rows, t)[1] for t in self.targets], axis=0) > c]
            c *= self.scan_ratio

    def _descend(self, points: list[Points], k: int, stride: int, rows: np.ndarray, c: float) -> None:
        """The ladder began beyond a threshold on these rays: go down until below it."""
        while True:
            ends = [bracket(points[k], rows, target) for target in self.targets]
            too_far = np.any([(lo == 0) & (hi > 0) & np.isfinite(hi) for lo, hi in ends], axis=0)
            rows = rows[too_far]
            c /= self.scan_ratio
            if not len(rows) or c < TINY:
                return
            self._evaluate(points, k, rows, np.full(len(rows), c), stride)

    def _scan_pilot(self, k: int) -> None:
        """Scan a large landscape on a subset of its samples; look closely at bumps; keep what was seen."""
        stride = self.rays.sizes[k] // max(self.pilot_samples, self.rays.sizes[k] // 64)
        losses, accs = self.history.at_zero(self.rays, k, stride)
        pilot = Points.start(self.rays.num_rows, losses[k], accs[k])
        self._climb([*self.points[:k], pilot], k, stride)
        for target in self.targets:
            excess = target.excess(pilot, self.everyone)
            root, slope, _ = fit_root(pilot.coefficients, excess, Shape())
            lo, hi = bracket(pilot, self.everyone, target)
            with np.errstate(divide="ignore", invalid="ignore"):
                inside = (root > np.log(lo)) & (root < np.log(hi))
                middle = np.where((lo > 0) & np.isfinite(hi), (np.log(lo) + np.log(hi)) / 2, np.nan)
            self.known["pilot root", k, target] = np.where(inside, root, middle)
            self.known["pilot slope", k, target] = np.where(inside, slope, np.nan)
            self._look_at_bumps(pilot, k, target, hi)

    def _look_at_bumps(self, pilot: Points, k: int, target: Target, hi: np.ndarray) -> None:
        """Evaluate with all samples where the pilot's loss peaks near the threshold before its crossing."""
        if target.kind != "loss":
            return
        for row in self.everyone:
            c, loss, _ = pilot.ray(row)
            peak = np.flatnonzero((loss[1:-1] > loss[2:]) & (loss[1:-1] > 0.7 * target.value)) + 1
            for c_peak in c[peak]:
                if c_peak <= hi[row]:
                    self._evaluate(self.points, k, np.array([row]), np.array([c_peak]))

    # ---- the solver

    def _evaluate(
        self,
        points: list[Points],
        k: int,
        rows: np.ndarray,
        coefficients: np.ndarray,
        stride: int = 1,
        precise: bool = False,
    ) -> np.ndarray:
        """Evaluate and note one point for each of ``rows``; returns which of them were noted, ``(R,)``.

        A point whose loss is too close to a threshold to be told from it in float32 is not noted
        where float64 can tell.
        """
        if not len(rows):
            return np.ones(0, dtype=bool)
        losses, accs = self.rays(rows, coefficients, k, stride, precise)
        kept = np.ones(len(rows), dtype=bool)
        for j in range(k + 1) if stride == 1 else [k]:
            kept = np.ones(len(rows), dtype=bool)
            if self.rays.has_precise(j) and not (precise and self.rays.has_precise(k)) and stride == 1:
                kept = ~np.any([target.close(losses[:, j]) for target in self.targets], axis=0)
            points[j].add(rows[kept], coefficients[kept], losses[kept, j], accs[kept, j])
        return kept

    def _narrow(self, k: int, target: Target, xrtol: np.ndarray, steps: int = MAX_STEPS) -> None:
        """Narrow the bracket of ``target`` in landscape ``k`` on every ray, to ``xrtol`` ``(D,)``.

        ``steps``: no ray gets more points than this.
        """
        points, rows = self.points[k], self.everyone
        precise = np.zeros(len(rows), dtype=bool)
        prior = None
        for step in range(steps):
            lo, hi = bracket(points, rows, target)
            open_ = (lo < self.max_coefficient) & ~is_narrow(lo, hi, xrtol[rows])
            rows = rows[open_]
            if not len(rows):
                return
            with np.errstate(divide="ignore"):
                log_lo, log_hi = np.log(lo[open_]), np.log(hi[open_])
            if prior is None:
                prior = self._prior(k, target)
            root, _, _ = self._fit(k, target, rows, prior)
            bisect = target.kind == "acc" or (step >= 8 and step % 2 == 0)
            tolerance = np.log1p(xrtol[rows])
            x = _next_point(root, log_lo, log_hi, tolerance, bisect, np.log(self.scan_ratio))
            c = np.minimum(np.exp(x), self.max_coefficient)
            near = np.minimum(root - log_lo, log_hi - root) < PRECISE_WITHIN
            near = (near | (log_hi - log_lo < PRECISE_WITHIN)) & (tolerance < FLOAT32_ENOUGH)
            exact = (near | precise[rows]) & self.rays.has_precise(k)
            self._evaluate(self.points, k, rows[exact], c[exact], precise=True)
            kept = self._evaluate(self.points, k, rows[~exact], c[~exact])
            precise[rows[~exact][~kept]] = True

    def _prior(self, k: int, target: Target) -> tuple[np.ndarray, float, Shape]:
        """What is expected of a crossing before its own points are looked at: guess, its spread, shape."""
        guess, spread = self.history.root(k, target, self.known, self.rays.num_rows)
        return guess, spread, self.history.shape(k, target, self.known, self.rays.num_rows)

    def _fit(
        self, k: int, target: Target, rows: np.ndarray, prior: tuple[np.ndarray, float, Shape]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        guess, spread, shape = prior
        points = self.points[k]
        excess = target.excess(points, rows)
        return fit_root(points.coefficients[rows], excess, shape.of(rows), guess[rows], spread)

    def _expected(self, k: int, target: Target) -> dict[tuple, np.ndarray]:
        """Root and slope at the crossings of landscape ``k``, as far as its points tell."""
        if target.kind == "acc":
            return {}
        root, slope, _ = self._fit(k, target, self.everyone, self._prior(k, target))
        return {("root", k, target): root, ("slope", k, target): slope}


def _found(points: Points, k: int, target: Target) -> dict[tuple, np.ndarray]:
    """Root, slope and curvature of ``log c`` against ``log loss`` at the crossings of landscape ``k``.

    Arrays ``(D,)``, named as in :class:`History`; NaN for rays that never cross or start beyond the
    threshold.
    """
    everyone = np.arange(len(points.filled))
    lo, hi = bracket(points, everyone, target)
    solved = (lo > 0) & np.isfinite(hi)
    with np.errstate(divide="ignore"):
        log_lo, log_hi = np.log(lo), np.log(hi)
    found = {("root", k, target): np.where(solved, log_hi, np.nan)}
    if target.kind == "loss":
        excess = target.excess(points, everyone)
        root, slope, curvature = fit_root(points.coefficients, excess, Shape())
        inside = solved & (root > log_lo) & (root < log_hi)  # nearer than either end
        found["root", k, target] = np.where(inside, root, found["root", k, target])
        found["slope", k, target] = np.where(solved, slope, np.nan)
        found["curvature", k, target] = np.where(solved, curvature, np.nan)
    return found


def _next_point(
    root: np.ndarray, lo: np.ndarray, hi: np.ndarray, tolerance: np.ndarray, bisect: bool, rung: float
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
