"""What the table says: agreement of ranks, the power law of volume against data, two experiments compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from volume_lib.analysis.table import QUANTITIES, ExperimentResults
from volume_lib.errors import InputError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of two columns over the minima of one landscape.

    ``per_run`` (S,): one coefficient per run, NaN where a run has fewer than three minima or a column
    is constant. ``mean`` and ``interval``: over the runs, a percentile bootstrap; NaN without runs.
    """

    landscape: int
    method: str
    per_run: np.ndarray
    mean: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class PowerLaw:
    """``volume ∝ size^exponent``: a line through log volume (nats) against log size, one for each run.

    ``exponents``, ``intercepts`` (S,); ``exponent`` is the mean over runs with its Student t interval (over
    the residuals' degrees of freedom when there is a single run, which knows nothing of the spread of
    seeds). ``sizes`` (M,), ``residuals`` (S, M) in nats, NaN where a run has no such minimum; ``r_squared``
    of all points about their runs' own means.
    """

    exponent: float
    interval: tuple[float, float]
    exponents: np.ndarray
    intercepts: np.ndarray
    sizes: np.ndarray
    residuals: np.ndarray
    r_squared: float

    def predict(self, sizes: np.ndarray) -> np.ndarray:
        """Log volume (nats) of the mean line at ``sizes``."""
        return self.intercepts.mean() + self.exponent * np.log(sizes)


def rank_agreement(
    experiment: ExperimentResults,
    landscape: int,
    column: str = "test_loss",
    *,
    quantity: str = "log_exp_r_n",
    method: str = "spearman",
    bootstrap: int = 2000,
    seed: int = 0,
) -> Agreement:
    """How well the order of the minima by log volume agrees with their order by ``column``.

    ``method``: ``"spearman"`` or ``"kendall"`` (τ-b, which allows for ties). No volume (−inf) ranks
    below every volume. The interval says how far another draw of seeds could move the mean.
    """
    measures: dict[str, Callable] = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}
    if method not in measures:
        raise InputError(f'method "{method}": "spearman" or "kendall"')
    volumes, others = experiment.matrix(quantity, landscape), experiment.matrix(column, landscape)
    per_run = np.full(len(volumes), np.nan)
    for i, (a, b) in enumerate(zip(volumes, others, strict=True)):
        known = ~(np.isnan(a) | np.isnan(b))
        a, b = stats.rankdata(a[known]), stats.rankdata(b[known])
        if len(a) >= 3 and np.ptp(a) > 0 and np.ptp(b) > 0:
            per_run[i] = measures[method](a, b).statistic
    valid = per_run[~np.isnan(per_run)]
    if not valid.size:
        return Agreement(landscape, method, per_run, math.nan, (math.nan, math.nan))
    generator = np.random.default_rng(seed)
    means = valid[generator.integers(len(valid), size=(bootstrap, len(valid)))].mean(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Agreement(landscape, method, per_run, float(valid.mean()), (float(low), float(high)))


def fit_power_law(sizes: Sequence[float], log_volumes: np.ndarray) -> PowerLaw:
    """Fit ``log volume = intercept + exponent·log size`` by least squares, run by run.

    ``sizes`` (M,), ``log_volumes`` (S, M) in nats. Sizes of 0 and volumes of NaN or −inf are left out of the
    fit, and so is a run with fewer than two points. Raises :class:`InputError` where no run is left.
    """
    with np.errstate(divide="ignore"):  # the log of no data is −inf, and left out below
        x = np.log(np.asarray(sizes, dtype=float))
    y = np.asarray(log_volumes, dtype=float)
    lines, residuals = [], []
    for values in y:
        known = np.isfinite(values) & np.isfinite(x)
        if np.unique(x[known]).size < 2:
            continue
        slope, intercept = np.polyfit(x[known], values[known], 1)
        lines.append((slope, intercept))
        residuals.append(np.where(known, values - (intercept + slope * x), np.nan))
    if not lines:
        raise InputError("a power law needs a run with volumes at two data sizes or more; there is none")
    slopes, intercepts = np.array(lines).T
    left = np.array(residuals)
    about_mean = left + np.where(
        np.isnan(left), np.nan, slopes[:, None] * (x - _mean_where(x, left)[:, None])
    )
    total = float(np.nansum(about_mean**2))
    return PowerLaw(
        exponent=float(slopes.mean()),
        interval=_exponent_interval(slopes, x, left),
        exponents=slopes,
        intercepts=intercepts,
        sizes=np.asarray(sizes, dtype=float),
        residuals=left,
        r_squared=1 - float(np.nansum(left**2)) / total if total > 0 else math.nan,
    )


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
    minima: list[int]
    first: np.ndarray
    second: np.ndarray
    difference: np.ndarray
    interval: np.ndarray
    per_parameter: bool
    paired: bool


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
    difference, interval = (_paired if paired else _welch)(*sides)
    return Comparison(
        (first.name, second.name),
        landscape,
        quantity,
        minima,
        *sides,
        difference,
        interval,
        per_parameter,
        paired,
    )


def mean_and_spread(values: np.ndarray, spread: str = "sd") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, low and high (M,) over the runs (axis 0 of (S, M)), ignoring NaN.

    ``"sd"``: mean ± sample standard deviation of the runs with a volume (finite values). ``"quartiles"``:
    median and quartiles, for which −inf is a value like any other.
    """
    if spread not in ("sd", "quartiles"):
        raise InputError(f'spread "{spread}": "sd" or "quartiles"')
    out = np.full((3, values.shape[1]), np.nan)
    for j, column in enumerate(values.T):
        column = column[~np.isnan(column)] if spread == "quartiles" else column[np.isfinite(column)]
        if not column.size:
            out[:, j] = -np.inf if np.isneginf(values[:, j]).any() else np.nan
        elif spread == "quartiles":
            low, centre, high = np.quantile(column, [0.25, 0.5, 0.75], method="closest_observation")
            out[:, j] = centre, low, high
        else:
            deviation = column.std(ddof=1) if column.size > 1 else 0.0
            out[:, j] = column.mean(), column.mean() - deviation, column.mean() + deviation
    return out[0], out[1], out[2]


def _mean_where(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(S,) mean of ``x`` (M,) over the entries that are not NaN in each row of ``known`` (S, M)."""
    return np.nanmean(np.where(np.isnan(known), np.nan, x), axis=1)


def _exponent_interval(slopes: np.ndarray, x: np.ndarray, residuals: np.ndarray) -> tuple[float, float]:
    if len(slopes) > 1:
        error, freedom = slopes.std(ddof=1) / math.sqrt(len(slopes)), len(slopes) - 1
    else:
        known = ~np.isnan(residuals[0])
        freedom = int(known.sum()) - 2
        if freedom < 1:
            return math.nan, math.nan
        error = math.sqrt(np.nansum(residuals[0] ** 2) / freedom / np.sum((x[known] - x[known].mean()) ** 2))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom) * error)
    return float(slopes.mean() - half), float(slopes.mean() + half)


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
