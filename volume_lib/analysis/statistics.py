"""What the table says: agreement of ranks, the power law of volume against data, the order's reliability."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from volume_lib.analysis.table import ExperimentResults, Stability
from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL

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
    loss_threshold: float | None = None


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

    @property
    def left_out(self) -> list[float]:
        """The sizes that no run's line takes in: 0, or without a volume in any run."""
        return self.sizes[~np.isfinite(self.residuals).any(axis=0)].astype(float).tolist()


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

    ``method``: ``"spearman"`` or ``"kendall"`` (τ-b, which allows for ties). A minimum without a volume in a
    run has no rank there. The interval says how far another draw of seeds could move the mean.
    """
    measures: dict[str, Callable] = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}
    if method not in measures:
        raise InputError(f'method "{method}": "spearman" or "kendall"')
    volumes, others = experiment.matrix(quantity, landscape), experiment.matrix(column, landscape)
    per_run = np.full(len(volumes), np.nan)
    for i, (a, b) in enumerate(zip(volumes, others, strict=True)):
        known = np.isfinite(a) & ~np.isnan(b)
        per_run[i] = order_agreement(a[known], b[known], measures[method])
    valid = per_run[~np.isnan(per_run)]
    threshold = None if quantity.endswith("_acc") else experiment.loss_threshold
    if not valid.size:
        return Agreement(landscape, method, per_run, math.nan, (math.nan, math.nan), threshold)
    generator = np.random.default_rng(seed)
    means = valid[generator.integers(len(valid), size=(bootstrap, len(valid)))].mean(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Agreement(landscape, method, per_run, float(valid.mean()), (float(low), float(high)), threshold)


def order_agreement(a: np.ndarray, b: np.ndarray, measure: Callable = stats.spearmanr) -> float:
    """How well two orders of the same minima agree; NaN of fewer than three, or where one has no order."""
    a, b = stats.rankdata(a), stats.rankdata(b)  # infinities too have a rank
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(measure(a, b).statistic)


def fit_power_law(sizes: Sequence[float] | np.ndarray, log_volumes: np.ndarray) -> PowerLaw:
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


OWN = "own"
"""In :func:`scaling_law`: each minimum in the landscape of its own training data."""


def scaling_law(
    experiment: ExperimentResults, landscape: int | str | None = None, *, quantity: str = "log_exp_r_n"
) -> PowerLaw:
    """The power law of volume against data of an experiment: :func:`fit_power_law` where it means something.

    ``landscape``: the one in which all minima are measured (None: the smallest), or :data:`OWN`, each minimum
    in the landscape of its own training data. Sizes are whole training sets, base samples included; of
    poison and noise the samples of that kind, where the level 0 has no logarithm and is left out.

    Raises :class:`InputError` where the minima are no amounts of data, or amounts whose base samples are
    not known, or too few of them have a volume.
    """
    if experiment.key != ADDITIONAL:
        raise InputError(
            f"a power law of volume against data needs minima that differ in data; these differ in "
            f"{'what their files do not say' if experiment.key == 'unknown' else experiment.key}"
        )
    if experiment.dataset_type == "data" and not experiment.counts_training_data:
        raise InputError(
            f"{experiment.folder}: its files do not say how many base samples there are; give base_size, "
            "without which sizes are not known and no power law can be fitted"
        )
    if landscape == OWN:
        values = experiment.own_landscapes(quantity)
    else:
        level = experiment.landscapes[0] if landscape is None else int(landscape)
        values = experiment.matrix(quantity, level)
    return fit_power_law(experiment.minima_sizes, values)


def mean_stability(experiment: ExperimentResults, landscape: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """How many directions tell the order of the minima: the mean over runs, with every run's numbers.

    Name → (K,) numbers of directions and (S, K) shares: ``largest`` (the largest minimum is found), ``order``
    (the order of all is), and the same ``…_by_radius``, by the largest radius alone. Only numbers of
    directions that all runs have; names that no run has are left out.
    """
    runs = experiment.stability.get(landscape, [])
    found = {}
    for name in Stability._fields[1:]:
        told = [run for run in runs if getattr(run, name)]
        sizes = sorted(set.intersection(*(set(run.sizes) for run in told))) if told else []
        if sizes:
            shares = [[getattr(run, name)[run.sizes.index(size)] for size in sizes] for run in told]
            found[name] = (np.array(sizes), np.array(shares))
    return found


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
            out[:, j] = [_quantile(np.sort(column), share) for share in (0.5, 0.25, 0.75)]
        else:
            deviation = column.std(ddof=1) if column.size > 1 else 0.0
            out[:, j] = column.mean(), column.mean() - deviation, column.mean() + deviation
    return out[0], out[1], out[2]


def _quantile(ordered: np.ndarray, share: float) -> float:
    """Linear between order statistics, as numpy's; −inf where it lies between nothing and something."""
    position = share * (len(ordered) - 1)
    below = int(position)
    if position == below or np.isneginf(ordered[below]):
        return float(ordered[below])
    return float(ordered[below] + (position - below) * (ordered[below + 1] - ordered[below]))


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
