"""All directions of one minimum, batch by batch; then, once more, those that can carry a mean.

A batch that is done is kept in a file, where the walk is given a folder: an interrupted walk goes on with the
next one, and ends with the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.progress import Bar
from volume_lib.rays.directions import draw_batch, norms
from volume_lib.rays.fast import FastRays
from volume_lib.rays.losses import PlainRays
from volume_lib.rays.moments import Moments
from volume_lib.search.crossings import Crossing
from volume_lib.search.points import Packed, Points, Target, bracket
from volume_lib.search.prediction import History
from volume_lib.storage import Partial
from volume_lib.sweep.recheck import check_again, chosen
from volume_lib.sweep.settings import SweepSettings

FIRST_BATCH, LARGEST_BATCH = 8, 256
"""Directions solved together: few at first, to learn from them, then as many as memory allows."""


@dataclass(frozen=True)
class Keep:
    """Where the batches of a walk are kept, and what it is made from: another's are not gone on from."""

    folder: Path
    made_from: str


class Walked:
    """What is known of the rays of one minimum: ``D`` directions in ``K`` landscapes, at ``T`` thresholds.

    ``norms`` (D,): of the unscaled directions; ``moments`` (D, 2, P): their slopes and bends for the P moved
    tensors. ``lo``, ``hi`` (K, T, D): the brackets, in the coefficient. ``done``: so many directions have
    been walked, the first ones.
    """

    def __init__(
        self, num_landscapes: int, targets: Sequence[Target], num_directions: int, num_tensors: int
    ) -> None:
        self.targets = list(targets)
        self.moments = np.full((num_directions, 2, num_tensors), np.nan)
        self.norms = np.full(num_directions, np.nan)
        self.lo, self.hi = np.full((2, num_landscapes, len(self.targets), num_directions), np.nan)
        self.done = self.batches = 0
        self._packed: list[list[Packed]] = [[] for _ in range(num_landscapes)]
        self._again: list[dict[int, np.ndarray]] = [{} for _ in range(num_landscapes)]

    def take(self, rows: np.ndarray, batch_norms: np.ndarray, packed: Sequence[Packed]) -> None:
        """A batch: the next ``rows``, or some of those before, walked further."""
        new = rows[0] >= self.done
        self.norms[rows] = batch_norms
        for k, rays in enumerate(packed):
            points = Points.of_rays(rays.rays())
            for t, target in enumerate(self.targets):
                self.lo[k, t, rows], self.hi[k, t, rows] = bracket(points, np.arange(len(rows)), target)
            if new:
                self._packed[k].append(rays)
            else:
                self._again[k] |= dict(zip(rows.tolist(), rays.rays(), strict=True))
        self.done += len(rows) * new
        self.batches += new

    def rays(self, k: int) -> Iterator[np.ndarray]:
        """``(3, P)`` of each ray in landscape ``k``: coefficients, losses and accuracies."""
        first = (ray for packed in self._packed[k] for ray in packed.rays())
        for row, ray in enumerate(first):
            yield self._again[k].get(row, ray)

    def some(self, rows: Sequence[int]) -> dict[int, list[np.ndarray]]:
        """Of some rays what :meth:`rays` gives, in each landscape."""
        found: dict[int, list[np.ndarray]] = {row: [] for row in rows}
        for k in range(len(self._packed)):
            for row, ray in enumerate(self.rays(k)):
                if row in found:
                    found[row].append(ray)
        return found

    def points(self, rows: np.ndarray) -> list[Points]:
        """The points of some rays, one :class:`Points` for each landscape."""
        some = self.some(rows.tolist()).values()
        return [Points.of_rays(own) for own in zip(*some, strict=True)]

    def unfinished(self, search: Crossing, n: int) -> np.ndarray:
        """Which brackets are to be narrower, ``(K, T, D)``; see :mod:`volume_lib.search.carriers`."""
        wanted = np.zeros(self.lo.shape, dtype=bool)
        for k, t in np.ndindex(*wanted.shape[:2]):
            wanted[k, t] = search.unfinished(self.lo[k, t], self.hi[k, t], self.norms, n)
        return wanted

    def records(self, k: int, seeds: range) -> list[dict[str, Any]]:
        """The rays of landscape ``k`` as :class:`~volume_lib.records.Sweep` holds them."""
        # As a file lists them: loss thresholds from the lowest up, then the accuracy threshold.
        order = sorted(
            range(len(self.targets)), key=lambda t: (self.targets[t].kind == "acc", self.targets[t].value)
        )
        lo, hi = self.lo[k][order], self.hi[k][order]
        with np.errstate(divide="ignore", invalid="ignore"):
            widths = np.where(hi > 0, hi / lo - 1, 0.0).T
        return [
            {
                "loss": ray[1],
                "coefficients": ray[0],
                "accs": ray[2],
                "perturbation_seed": seed,
                "perturbation_norm": float(norm),
                "resolution": resolution,
                "slopes": slopes,
                "bends": bends,
            }
            for ray, seed, norm, resolution, (slopes, bends) in zip(
                self.rays(k), seeds, self.norms, widths, self.moments, strict=True
            )
        ]


def walk(
    rays: PlainRays | FastRays,
    limit: int,
    settings: SweepSettings,
    bar: Bar | None = None,
    keep: Keep | None = None,
) -> Walked:
    """Walk all directions, ``limit`` at a time, and refine those that can carry a mean.

    ``keep``: where batches are kept, and looked for first.
    """
    return _Walk(rays, limit, settings, bar, keep).run()


class _Walk:
    """What the two rounds of a walk share."""

    def __init__(self, rays, limit: int, settings: SweepSettings, bar: Bar | None, keep: Keep | None) -> None:
        self.rays, self.settings, self.bar, self.keep = rays, settings, bar, keep
        self.n = len(rays.theta)
        self.limit, self.kept = limit, 0
        self.targets = settings.targets
        self.search = settings.search.suited(len(settings.seeds), self.n)
        self.history = History()
        sizes = [shape.numel() for shape in rays.shapes.values()]
        self.moments = Moments(rays.theta, rays.scale, sizes)
        self.walked = Walked(len(rays.sizes), self.targets, len(settings.seeds), len(sizes))

    def run(self) -> Walked:
        self._resume()
        if self.walked.done:
            self._compare([0])
        while self.walked.done < len(self.settings.seeds):
            first = not self.walked.done
            self._next()
            if first:
                self._compare([0])
        self._refine()
        self._recall()
        self._compare(chosen(self.walked.done))
        return self.walked

    def _compare(self, rows: list[int]) -> None:
        """Compute losses of walked rays again, one at the minimum; where one differs, nothing is kept."""
        largest = max((target.value for target in self.targets if target.kind == "loss"), default=0.0)
        walked = self.walked.some(rows)
        try:
            for number, row in enumerate(rows):
                seed = self.settings.seeds[row]
                check_again(self.rays, seed, walked[row], largest)
                if number == len(rows) - 1:
                    check_again(self.rays, seed, walked[row], largest, at_zero=True)
        except InputError:
            if self.keep is not None:
                storage.remove_partials(self.keep.folder)
            raise

    def _next(self) -> None:
        """Walk the next directions."""
        size = min(FIRST_BATCH * 4 ** min(self.walked.batches, 8), LARGEST_BATCH, self.limit)
        rows = np.arange(self.walked.done, min(self.walked.done + size, len(self.settings.seeds)))
        batch_norms = self._load(rows)
        points = self.search.trace(self.rays, self.targets, self.history)
        self._take(rows, batch_norms, points, self.history.latest)
        if self.bar is not None:
            self.bar.update(len(rows) * self.rays.sizes[-1])
            self.bar.set_postfix_str(_spread(points[-1], self.targets[0], batch_norms))

    def _refine(self) -> None:
        """Refine until nothing that can carry a mean is left as it was, the largest radii first."""
        announced: set[int] = set()
        search = self.search
        while isinstance(search, Crossing) and (wanted := self.walked.unfinished(search, self.n)).any():
            chosen = np.flatnonzero(wanted.any(axis=(0, 1)))
            size = self.rays.sizes[-1]
            if self.bar is not None:
                more = set(chosen.tolist()) - announced
                announced |= more
                self.bar.lengthen(len(more) * size)
                self.bar.set_postfix_str(f"the largest radii, to {search.xrtol:g}")
            largest = (
                np.nanmax(np.where(wanted, self.walked.lo, 0), axis=(0, 1))[chosen]
                * self.walked.norms[chosen]
            )
            rows = np.sort(chosen[np.argsort(-largest, kind="stable")][: min(self.limit, LARGEST_BATCH)])
            batch_norms = self._load(rows)
            points = self.walked.points(rows)
            search.refine(self.rays, points, self.targets, self.history, wanted[:, :, rows])
            self._take(rows, batch_norms, points)
            if self.bar is not None:
                self.bar.update(len(rows) * size)

    def _load(self, rows: np.ndarray) -> np.ndarray:
        directions = draw_batch([self.settings.seeds[row] for row in rows], self.n)
        if rows[0] >= self.walked.done:
            self.walked.moments[rows] = self.moments(directions)
        self.rays.load(directions)
        return norms(directions).numpy()

    def _recall(self) -> None:
        """The moments of directions that an interrupted walk had drawn, which are drawn again."""
        for row in np.flatnonzero(np.isnan(self.walked.moments[:, 1, 0])):
            self.walked.moments[row] = self.moments(draw_batch([self.settings.seeds[row]], self.n))[0]

    # ---- what is kept

    def _take(
        self, rows, batch_norms, points: list[Points], lessons: dict[tuple, np.ndarray] | None = None
    ) -> None:
        packed = [landscape.packed() for landscape in points]
        if self.keep is not None:
            index = {target: number for number, target in enumerate(self.targets)}
            plain = {
                (kind, k, index[target]): values for (kind, k, target), values in (lessons or {}).items()
            }
            counts = np.stack([rays.counts for rays in packed])
            values = [rays.values for rays in packed]
            partial = Partial(rows, batch_norms, values, counts, self.limit, plain)
            storage.save_partial(self.keep.folder, self.kept, partial, self.keep.made_from)
            self.kept += 1
        self.walked.take(rows, batch_norms, packed)

    def _resume(self) -> None:
        """Take what an interrupted walk left, as if it had been walked now."""
        if self.keep is None:
            return
        for partial in storage.load_partials(self.keep.folder, self.keep.made_from):
            packed = [Packed(*one) for one in zip(partial.values, partial.counts, strict=True)]
            before = self.walked.done
            self.walked.take(partial.rows, partial.norms, packed)
            if partial.lessons:
                self.history.learn(
                    {(kind, k, self.targets[t]): found for (kind, k, t), found in partial.lessons.items()}
                )
            self.limit = min(self.limit, partial.limit)  # the same batches as without the interruption
            self.kept += 1
            if self.bar is not None:
                self.bar.skip((self.walked.done - before) * self.rays.sizes[-1])


def _spread(points: Points, target: Target, batch_norms: np.ndarray) -> str:
    """Threshold radii of the batch just done, in the largest landscape: median and range."""
    _, hi = bracket(points, np.arange(len(batch_norms)), target)
    radii = (hi * batch_norms)[np.isfinite(hi)]
    if not len(radii):
        return f"no ray crossed {target.value:g}"
    return f"radius at {target.value:g}: {np.median(radii):.4g} ({radii.min():.4g} to {radii.max():.4g})"
