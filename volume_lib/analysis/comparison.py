"""Two experiments side by side: base against large, SAM against plain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from volume_lib.analysis.statistics import CONFIDENCE
from volume_lib.analysis.table import QUANTITIES, ExperimentResults
from volume_lib.errors import InputError


@dataclass(frozen=True)
class Comparison:
    """Two experiments in one landscape, over the minima that both have.

    ``first``, ``second`` (S₁, M) and (S₂, M): values of each run. ``difference`` (M,): second − first, and
    ``interval`` (M, 2) its Student t interval: ``paired`` by seeds over the runs that both have where there
    are two or more (the rows are then those runs), else Welch's over all runs. NaN where there are too few.
    ``per_parameter``: values were divided by the numbers of parameters, which differ.
    """

    names: tuple[str, str]
    landscape: int
    quantity: str
    minima: list[float]
    first: np.ndarray
    second: np.ndarray
    difference: np.ndarray
    interval: np.ndarray
    per_parameter: bool
    paired: bool
    loss_threshold: float | None = None
    """What both were measured at; None where they differ, or where accuracy bounds the regions."""

    def describe(self) -> str:
        """One line for each minimum: the difference with its 95 % interval, or why there is none."""
        unit = "nats per parameter" if self.per_parameter else "nats"
        way = "seed by seed" if self.paired else "Welch's t over all runs"
        if self.quantity not in QUANTITIES:
            unit = self.quantity.replace("_", " ")
        lines = [f"{self.names[1]} less {self.names[0]}, landscape +{self.landscape:,}, {unit}, {way}:"]
        for i, minimum in enumerate(self.minima):
            lines.append(f"  minimum {minimum:>7,}: {self._told(i)}")
        return "\n".join(lines)

    def _told(self, i: int) -> str:
        if np.isfinite(self.interval[i]).all():
            low, high = self.interval[i]
            return f"{self.difference[i]:+.6g} [{low:+.6g}, {high:+.6g}]"
        without = [
            name
            for name, side in zip(self.names, (self.first, self.second), strict=True)
            if not np.isfinite(side[:, i]).any()
        ]
        if without:
            return f"no volume in {' and '.join(without)}: no difference"
        if np.isfinite(self.difference[i]):
            return f"{self.difference[i]:+.6g}, one run: no interval"
        return "no run has a volume in both: no difference"


def compare(
    first: ExperimentResults,
    second: ExperimentResults,
    landscape: int | None = None,
    quantity: str = "log_exp_r_n",
) -> Comparison:
    """Put two experiments side by side: base against large, SAM against plain.

    ``landscape``: the smallest that both have, if not given. Log volumes of networks with different numbers
    of parameters n live in different dimensions; both are then divided by their n (nats per parameter:
    the log of a mean radius). Raises :class:`InputError` where nothing can be compared.
    """
    if first.key != second.key:
        raise InputError(
            f"{first.name} varies {first.key}, {second.name} varies {second.key}: not comparable"
        )
    shared = sorted(set(first.landscapes) & set(second.landscapes))
    if landscape is None and shared:
        landscape = shared[0]
    if landscape not in shared:
        raise InputError(f"landscape {landscape}: {first.name} and {second.name} share {shared or 'none'}")
    minima = [m for m in first.minima if m in set(second.minima)]
    if not minima:
        raise InputError(f"{first.name} and {second.name} share no minimum")
    runs = [run for run in first.runs if run in set(second.runs)]
    paired = len(runs) > 1
    sides, dimensions = [], []
    for experiment in (first, second):
        columns = [experiment.minima.index(m) for m in minima]
        rows = [experiment.runs.index(run) for run in (runs if paired else experiment.runs)]
        sides.append(experiment.matrix(quantity, landscape)[np.ix_(rows, columns)])
        dimensions.append(np.unique(experiment.table["num_params"]).tolist())
    per_parameter = dimensions[0] != dimensions[1] and quantity in QUANTITIES
    if per_parameter:
        sides = [side / n[0] for side, n in zip(sides, dimensions, strict=True)]
    thresholds = {first.loss_threshold, second.loss_threshold}
    difference, interval = (_paired if paired else _welch)(*sides)
    return Comparison(
        (first.name, second.name),
        landscape,
        quantity,
        minima,
        sides[0],
        sides[1],
        difference,
        interval,
        per_parameter,
        paired,
        None if quantity.endswith("_acc") or len(thresholds) > 1 else first.loss_threshold,
    )


def _paired(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the differences run by run (M,) and its interval (M, 2)."""
    difference = np.full(first.shape[1], np.nan)
    interval = np.full((first.shape[1], 2), np.nan)
    for j in range(first.shape[1]):
        both = np.isfinite(first[:, j]) & np.isfinite(second[:, j])
        steps = second[both, j] - first[both, j]
        if steps.size:
            difference[j] = steps.mean()
        if steps.size > 1:
            half = (
                stats.t.ppf(0.5 + CONFIDENCE / 2, steps.size - 1) * steps.std(ddof=1) / math.sqrt(steps.size)
            )
            interval[j] = steps.mean() - half, steps.mean() + half
    return difference, interval


def _welch(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference of the means (M,) and its interval (M, 2), without assuming equal variances."""
    difference = np.full(first.shape[1], np.nan)
    interval = np.full((first.shape[1], 2), np.nan)
    for j in range(first.shape[1]):
        a, b = (side[:, j][np.isfinite(side[:, j])] for side in (first, second))
        if not (a.size and b.size):
            continue
        difference[j] = b.mean() - a.mean()
        if min(a.size, b.size) > 1 and np.ptp(a) + np.ptp(b) > 0:
            test = stats.ttest_ind(b, a, equal_var=False).confidence_interval(CONFIDENCE)
            interval[j] = test.low, test.high
    return difference, interval
