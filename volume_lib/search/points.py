"""What a search knows of its rays: evaluated points, thresholds, and the bracket of each crossing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from volume_lib.thresholds import above, below

FLOAT32_MARGIN = 1e-4
"""Relative difference between a loss and a threshold that float32 is trusted to tell."""


@dataclass
class Points:
    """Evaluated points of ``D`` rays in one landscape: arrays ``(D, P)``, unordered, NaN where empty.

    Column 0 is the trained model itself, coefficient 0.
    """

    coefficients: np.ndarray
    losses: np.ndarray
    accs: np.ndarray
    filled: np.ndarray  # (D,) how many columns of each row are in use

    @classmethod
    def start(cls, num_rows: int, loss: float, acc: float, capacity: int = 32) -> Points:
        """Rays that know nothing but the loss and accuracy of the trained model."""
        arrays = [np.full((num_rows, capacity), np.nan) for _ in range(3)]
        for array, value in zip(arrays, (0.0, loss, acc), strict=True):
            array[:, 0] = value
        return cls(*arrays, filled=np.ones(num_rows, dtype=int))

    @classmethod
    def of_ray(cls, ray: dict[str, Any]) -> Points:
        """The one ray of a sweep's file, ``D = 1``."""
        arrays = [np.asarray(ray[name], dtype=np.float64)[None] for name in ("coefficients", "loss", "accs")]
        return cls(*arrays, filled=np.array([arrays[0].shape[1]]))

    @classmethod
    def of_rays(cls, rays: Sequence[np.ndarray]) -> Points:
        """Rays as :meth:`Packed.rays` has them: ``(3, P)`` each."""
        filled = np.array([ray.shape[1] for ray in rays])
        arrays = np.full((3, len(rays), filled.max() + 8), np.nan)
        for row, ray in enumerate(rays):
            arrays[:, row, : filled[row]] = ray
        return cls(*arrays, filled=filled)

    def add(self, rows: np.ndarray, coefficients: np.ndarray, losses: np.ndarray, accs: np.ndarray) -> None:
        """Add one point to each of the given rows."""
        if self.filled[rows].max(initial=0) == self.coefficients.shape[1]:
            for name in ("coefficients", "losses", "accs"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.full_like(old, np.nan)], axis=1))
        columns = self.filled[rows]
        self.coefficients[rows, columns] = coefficients
        self.losses[rows, columns] = losses
        self.accs[rows, columns] = accs
        self.filled[rows] += 1

    def ray(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients (increasing), losses and accuracies of one ray."""
        used = slice(0, self.filled[row])
        coefficients, first = np.unique(self.coefficients[row, used], return_index=True)
        return coefficients, self.losses[row, first], self.accs[row, first]

    def packed(self) -> Packed:
        """All rays in little memory."""
        rays = [np.stack(self.ray(row)) for row in range(len(self.filled))]
        return Packed(np.concatenate(rays, axis=1), np.array([ray.shape[1] for ray in rays]))


@dataclass(frozen=True)
class Packed:
    """Rays one after the other: thousands of small arrays would be several times their numbers.

    ``values`` ``(3, T)``: coefficients, losses and accuracies; ``counts`` ``(D,)``: points of each ray.
    """

    values: np.ndarray
    counts: np.ndarray

    def rays(self) -> list[np.ndarray]:
        """``(3, P)`` of each ray, as views."""
        return np.split(self.values, np.cumsum(self.counts)[:-1], axis=1)


@dataclass(frozen=True)
class Target:
    """A threshold: the loss rises above ``value``, or the accuracy falls below it."""

    value: float
    kind: Literal["loss", "acc"] = "loss"

    def exceeded(self, points: Points, rows: np.ndarray) -> np.ndarray:
        """Which points ``(R, P)`` lie beyond the threshold: NaN and infinite losses do, empty places not."""
        used = np.arange(points.coefficients.shape[1]) < points.filled[rows, None]
        if self.kind == "acc":
            return used & below(points.accs[rows], self.value)
        return used & above(points.losses[rows], self.value)

    def excess(self, points: Points, rows: np.ndarray) -> np.ndarray:
        """``log(loss / threshold)`` of the points ``(R, P)``, NaN where it says nothing."""
        if self.kind == "acc":
            return np.full((len(rows), points.losses.shape[1]), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.log(points.losses[rows]) - np.log(self.value)
        return np.where(np.isfinite(excess), excess, np.nan)

    def close(self, losses: np.ndarray) -> np.ndarray:
        """Losses ``(R,)`` within float32 rounding of the threshold."""
        return (self.kind == "loss") & (np.abs(losses - self.value) < FLOAT32_MARGIN * self.value)


def bracket(points: Points, rows: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """``(lo, hi)``, each ``(R,)``: the first point beyond the threshold and the last one before it.

    ``hi`` is infinite for a ray that was never seen beyond the threshold. For a model that is beyond it at
    coefficient 0, both are 0.
    """
    c = points.coefficients[rows]
    beyond = target.exceeded(points, rows)
    hi = np.where(beyond, c, np.inf).min(axis=1)
    lo = np.where(c < hi[:, None], c, 0.0).max(axis=1, initial=0.0)
    return lo, hi
