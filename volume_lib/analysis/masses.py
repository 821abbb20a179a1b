"""Log masses of an experiment's minima, by rays and by integration, in one table."""

from __future__ import annotations

import numpy as np

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
