"""From a finished round to the record of it."""

from __future__ import annotations

import math

import numpy as np

from volume_lib.integration.diagnostics import effective_samples, split_rhat
from volume_lib.integration.record import Mass
from volume_lib.integration.region import visible_share
from volume_lib.integration.run import Runner
from volume_lib.rays.reference import Reference


def note_round(runner: Runner) -> None:
    walk = runner.walk
    fore, back, _, _ = runner.passes()
    before = [sum(row[key] for row in walk.history) for key in ("gradients", "seconds")]
    walk.history.append(
        {
            "moves": walk.moves,
            "forward": fore.log_mass,
            "backward": back.log_mass,
            "beta": walk.beta,
            "gradients": walk.spent - before[0],
            "seconds": max(walk.seconds - before[1], 1e-3),
        }
    )


def record_of(
    runner: Runner, found: Reference, region: str, threshold: float, gap: float | None, rays
) -> Mass:
    walk, target = runner.walk, runner.target
    fore, back, forward, backward = runner.passes()
    rows = _path_rows(runner, fore, forward, backward)
    low = min(
        fore.log_mass - 2.5 * fore.error - fore.spacing, back.log_mass - 2.5 * back.error - back.spacing
    )
    high = max(
        fore.log_mass + 2.5 * fore.error + fore.spacing, back.log_mass + 2.5 * back.error + back.spacing
    )
    share = visible_share(target, walk.end)
    apart = abs(fore.log_mass - back.log_mass)
    middle = sum(min(one.log_mass, 0.0) for one in (fore, back)) / 2  # a probability is at most 1
    wanted = gap if gap is not None else max(1.0, 0.01 * abs(middle))
    reasons = []
    if apart > wanted:
        reasons.append(f"the passes are {apart:,.1f} nats apart, {wanted:,.1f} are wanted")
    if high - low > 2 * wanted + 5 * math.hypot(fore.error, back.error):
        reasons.append(f"the interval is {high - low:,.1f} nats wide")
    if rows[-1]["rhat"] > 1.2:
        reasons.append(f"R-hat is {rows[-1]['rhat']:.2f} at the path's end")
    return Mass(
        log_mass=middle,
        interval=(low, min(high, 0.0)),
        forward=fore.log_mass,
        backward=back.log_mass,
        gap=apart,
        converged=not reasons,
        reason="; ".join(reasons),
        reference=found.name,
        region=region,
        rays=rays,
        threshold=threshold,
        num_params=target.n,
        forward_error=fore.error,
        backward_error=back.error,
        spacing=max(fore.spacing, back.spacing),
        rhat=max(row["rhat"] for row in rows),
        ess=min(row["ess"] for row in rows),
        acceptance=min(row["acceptance"] for row in rows),
        visible_share=share,
        path=rows,
        history=[dict(row) for row in walk.history],
        notes=found.notes,
        gradients=walk.spent,
        seconds=walk.seconds,
    )


def _path_rows(runner: Runner, fore, forward, backward) -> list[dict[str, float]]:
    walk, rows = runner.walk, []
    for i, point in enumerate(runner.points()):
        out, back = (runner.watched(samples) for samples in (walk.forward[i], walk.backward[-1 - i]))
        per_pass = min(len(out), len(back))
        rows.append(
            {
                "k": point.k,
                "beta": point.beta,
                "ceiling": point.ceiling,
                "integrand": forward[i].value,
                "integrand_back": backward[i].value,
                "error": forward[i].error,
                "error_back": backward[i].error,
                "contribution": float(fore.contributions[i]),
                "loss": forward[i].loss,
                "loss_back": backward[i].loss,
                "acceptance": walk.accepted[i][0],
                "leaps": walk.accepted[i][1],
                "rhat": split_rhat(np.concatenate([out[-per_pass:], back[-per_pass:]], axis=1)),
                "ess": effective_samples(np.concatenate([out, back])),
            }
        )
    return rows
