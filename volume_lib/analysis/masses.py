"""Log masses of an experiment's minima, by rays and by integration, in one table."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from volume_lib.analysis.statistics import order_agreement
from volume_lib.analysis.table import ExperimentResults
from volume_lib.volume.words import Table


def mass_table(experiment: ExperimentResults, landscape: int) -> Table:
    """One row for each minimum of a landscape, in nats: means over the runs that have a mass there.

    *Over seeds*: the smallest and the largest of the runs. *Directions*: how many carry the mean, on average.
    *Interval*: from the lowest to the highest end of all runs' integrations.
    """
    header = ("minimum", "runs", "log mass by rays", "over seeds", "directions", "log mass", "interval")
    rows = []
    for minimum in experiment.minima:
        found = experiment.rows(landscape=landscape, minimum=minimum)
        if not len(found):
            continue
        rays, mass = (found[name][np.isfinite(found[name])] for name in ("log_mass_rays", "log_mass"))
        carried = found["log_mass_rays_directions"][np.isfinite(found["log_mass_rays"])]
        low, high = found["log_mass_low"], found["log_mass_high"]
        rows.append(
            (
                f"{minimum:,}",
                str(len(found)),
                f"{rays.mean():,.0f}" if len(rays) else "",
                f"{rays.min():,.0f} … {rays.max():,.0f}" if len(rays) else "",
                f"{carried.mean():.1f}" if len(carried) else "",
                f"{mass.mean():,.0f}" if len(mass) else "",
                f"{np.nanmin(low):,.0f} … {np.nanmax(high):,.0f}" if len(mass) else "",
            )
        )
    return Table(header, rows)


class MassOrder(NamedTuple):
    """Of one run's minima: how well rays and integration agree in their order.

    ``agreement``: Spearman's rank correlation, NaN of fewer than three. ``pairs`` of minima; ``apart``: those
    whose intervals of integration do not meet; ``same``: of these, how many rays order the same way.
    ``spread_rays``, ``spread``: the largest log mass less the smallest, by rays and by integration, nats.
    """

    run: str
    agreement: float
    pairs: int
    apart: int
    same: int
    spread_rays: float
    spread: float


def mass_orders(experiment: ExperimentResults, landscape: int | None) -> list[MassOrder]:
    """The order of each run's minima in ``landscape``, or (None) each in the landscape of its own data; of
    those with a log mass both by rays and by integration."""
    names = ("log_mass_rays", "log_mass", "log_mass_low", "log_mass_high")
    pick = experiment.own_landscapes if landscape is None else lambda name: experiment.matrix(name, landscape)
    found = []
    for run, *columns in zip(experiment.runs, *(pick(name) for name in names), strict=True):
        known = np.isfinite(columns).all(axis=0)
        rays, mass, low, high = (column[known] for column in columns)
        pairs = list(combinations(range(len(mass)), 2))
        apart = [(i, j) for i, j in pairs if low[i] > high[j] or low[j] > high[i]]
        same = sum((rays[i] > rays[j]) == (mass[i] > mass[j]) for i, j in apart)
        if len(mass):
            told = order_agreement(rays, mass), len(pairs), len(apart), same
            found.append(MassOrder(run, *told, float(np.ptp(rays)), float(np.ptp(mass))))
    return found
