"""How stable the order of the minima is: between the seeds, and with fewer directions than were drawn."""

from __future__ import annotations

import csv
import io
import math
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from volume_lib import storage
from volume_lib.analysis.statistics import mean_stability, order_agreement
from volume_lib.analysis.table import ExperimentResults, Stability
from volume_lib.records import plain_value
from volume_lib.volume.words import Table

SURE = 0.95
"""So many random subsets must tell the same as all directions, on average over the runs."""


class RankStability(NamedTuple):
    """What a landscape's runs say of the order of its minima.

    ``runs``: with a volume of two minima or more; ``agreement``: mean Spearman ρ between the orders of two
    runs, over all pairs that share three minima with volumes; ``largest``: the minimum that is the largest
    in most runs (of equals the first), ``same_largest`` the share of runs in which it is.

    The others count directions: the number from which on random subsets name the same largest minimum
    (``directions_largest``) or the same order of all (``directions_order``) as all ``directions`` do, in
    :data:`SURE` of the draws on average over the runs; ``…_by_radius`` by the largest radius alone.
    ``inf``: more than ``subset``, the largest subset that is not all of them; NaN: the files do not say.
    All directions agree with themselves whatever they are worth, so that number is never an answer.
    """

    landscape: int
    minima: int
    runs: int
    agreement: float
    largest: float
    same_largest: float
    directions: float
    subset: float
    directions_largest: float
    directions_order: float
    directions_largest_by_radius: float
    directions_order_by_radius: float


def rank_stability(experiment: ExperimentResults, quantity: str = "log_exp_r_n") -> list[RankStability]:
    """One :class:`RankStability` for each landscape of two minima or more.

    Agreement and largest minimum are by ``quantity``; the numbers of directions always by log E[r^n].
    """
    found = []
    for landscape in experiment.landscapes:
        values = experiment.matrix(quantity, landscape)
        count = int((~np.isnan(values)).any(axis=0).sum())
        if count < 2:
            continue
        ranked = values[np.isfinite(values).sum(axis=1) > 1]
        largest, share = _largest(experiment, ranked)
        needed = _directions(experiment, landscape)
        found.append(RankStability(landscape, count, len(ranked), _between(ranked), largest, share, *needed))
    return found


def stability_table(found: list[RankStability]) -> Table:
    """The table as a reader wants it: one row for each landscape."""
    header = ("landscape", "runs", "ρ between runs", "largest", "in", "of directions", "find it", "order all")
    header += ("find it by radius", "order all by it")
    rows = []
    for one in found:
        agreement = "" if math.isnan(one.agreement) else f"{one.agreement:.3f}"
        largest = "" if math.isnan(one.largest) else f"{plain_value(one.largest):,}"
        share = "" if math.isnan(one.same_largest) else f"{one.same_largest:.0%}"
        directions = [_count(one.directions, one.subset)]
        directions += [_count(value, one.subset) for value in one[8:]]
        rows.append((f"+{one.landscape:,}", str(one.runs), agreement, largest, share, *directions))
    return Table(header, rows)


def write_stability(
    experiment: ExperimentResults, path: str | Path | None = None, quantity: str = "log_exp_r_n"
) -> Path:
    """Write :func:`rank_stability` as CSV, by default ``<experiment>/analysis/rank_stability.csv``.

    Numbers have six decimals at most. What is unknown is empty; ``inf`` where no fewer than all directions
    tell it.
    """
    path = Path(path) if path is not None else storage.analysis_dir(experiment.folder) / "rank_stability.csv"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RankStability._fields)
    for one in rank_stability(experiment, quantity):
        plain = [plain_value(round(v, 6)) if isinstance(v, float) and math.isfinite(v) else v for v in one]
        writer.writerow(["" if v != v else v for v in plain])
    storage.write_bytes(path, text.getvalue().encode())
    return path


def _between(values: np.ndarray) -> float:
    """Mean Spearman ρ between the rows of (S, M) over their common finite entries; NaN without a pair."""
    shared = [(a, b, np.isfinite(a) & np.isfinite(b)) for a, b in combinations(values, 2)]
    found = [rho for a, b, both in shared if not math.isnan(rho := order_agreement(a[both], b[both]))]
    return float(np.mean(found)) if found else math.nan


def _largest(experiment: ExperimentResults, values: np.ndarray) -> tuple[float, float]:
    """The minimum that most rows of (S, M) have as their largest, and the share of rows that do."""
    if not len(values):
        return math.nan, math.nan
    tops = np.nanargmax(values, axis=1)
    counts = np.bincount(tops, minlength=values.shape[1])
    return float(experiment.minima[int(counts.argmax())]), float(counts.max() / len(values))


def _directions(experiment: ExperimentResults, landscape: int) -> list[float]:
    """The last six fields of :class:`RankStability`."""
    shares = mean_stability(experiment, landscape)
    if not shares:
        return [math.nan] * 6
    every = min(run.sizes[-1] for run in experiment.stability[landscape])
    subsets = {float(size) for sizes, _ in shares.values() for size in sizes if size < every}
    found = [every, max(subsets, default=math.nan)]
    for name in Stability._fields[1:]:
        if name not in shares:
            found.append(math.nan)
            continue
        sizes, of_runs = shares[name]
        unsure = sizes[(of_runs.mean(axis=0) < SURE) & (sizes < every)]
        enough = sizes[(sizes > unsure.max(initial=0)) & (sizes < every)]
        found.append(float(enough.min()) if enough.size else math.inf)
    return found


def _count(value: float, subset: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if math.isfinite(value) else f"> {subset:,.0f}"
