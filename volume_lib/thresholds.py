"""Thresholds: which there can be, and which points of a ray lie beyond one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from volume_lib.errors import InputError


def above(losses: ArrayLike, loss_threshold: float) -> np.ndarray:
    """Which losses exceed the threshold; infinite ones and NaN do. The shape is that of ``losses``."""
    return ~(np.asarray(losses, dtype=np.float64) <= loss_threshold)


def below(accuracies: ArrayLike, acc_threshold: float) -> np.ndarray:
    """Which accuracies fall short of the threshold; NaN does. The shape is that of ``accuracies``."""
    return ~(np.asarray(accuracies, dtype=np.float64) >= acc_threshold)


def check_thresholds(loss_threshold: float | None, acc_threshold: float | None) -> None:
    """Raise :class:`InputError` unless the loss threshold is positive and the accuracy's within (0, 1]."""
    if loss_threshold is not None and not (is_number(loss_threshold) and 0 < loss_threshold < math.inf):
        raise InputError(f"loss_threshold must be a positive number, not {loss_threshold!r}")
    if acc_threshold is not None and not (is_number(acc_threshold) and 0 < acc_threshold <= 1):
        raise InputError(f"acc_threshold must lie in (0, 1], not {acc_threshold!r}")


def each_threshold(loss_thresholds: Sequence[float]) -> list[float]:
    """The thresholds of a list, all checked before the first is used."""
    if (
        isinstance(loss_thresholds, str)
        or not isinstance(loss_thresholds, Iterable)
        or not len(loss_thresholds)
    ):
        raise InputError(f"loss_thresholds: {loss_thresholds!r} must be a list, such as [0.1]")
    for threshold in loss_thresholds:
        check_thresholds(math.nan if threshold is None else threshold, None)
    return list(loss_thresholds)


def is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)
