"""How an estimate converges with the number of directions, on bodies whose volume is known.

Every body is swept once, along the path of a network (``run_sweep``, its file, ``estimate_volumes``); smaller
numbers of directions are the first ones of that sweep.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from volume_lib import storage, volume
from volume_lib.errors import InputError
from volume_lib.sweep.run import run_sweep
from volume_lib.validation.bodies import Body


@dataclass(frozen=True)
class Convergence:
    """Estimates of one body's log volume in one scaling, in nats, against the number of directions.

    ``directions`` (K,) increasing; ``estimate``, ``low``, ``high`` (the 95 % interval) and ``effective``
    (effective directions), all (K,); ``exact``: the body's true log volume; ``n``: its dimension.
    """

    scaling: str
    n: int
    exact: float
    directions: np.ndarray
    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    effective: np.ndarray


def converge(
    body: Body,
    directions: Sequence[int],
    *,
    scaling: str,
    threshold: float = 0.1,
    perturbation_seed: int = 0,
    largest_draw: float = 3e7,
) -> Convergence:
    """Sweep a body and estimate its volume from the first 1, 2, … of the directions.

    ``directions``: the numbers of directions to estimate from. Those that would draw more than
    ``largest_draw`` random numbers in all are left out, the smallest never. Raises :class:`InputError` for
    a number below 1.
    """
    counts = sorted({int(count) for count in directions})
    if not counts or counts[0] < 1:
        raise InputError(f"directions must be whole numbers from 1, not {list(directions)}")
    counts = [count for count in counts if count == counts[0] or count * body.n <= largest_draw]
    with tempfile.TemporaryDirectory() as folder:
        (path,) = run_sweep(
            body, [body.minimum()], body.dataset(), folder, num_directions=counts[-1],
            loss_thresholds=[threshold], scaling=scaling, perturbation_seed=perturbation_seed, device="cpu",
            max_coefficient=1e6,  # in two dimensions some directions are very short
        )  # fmt: skip
        sweep = storage.load_sweep(path)
    columns = []
    for count in counts:
        first = replace(sweep, wiggle_results=sweep.wiggle_results[:count])
        found = volume.estimate_volumes([first], threshold, subset_sizes=[1])
        value, (low, high) = found["log_volume_values"][0], found["log_exp_r_n_ci"][0]
        to_volume = value - found["log_exp_r_n_values"][0]
        columns.append((value, low + to_volume, high + to_volume, found["effective_directions"][0]))
    estimate, low, high, effective = np.array(columns).T
    exact = body.log_volume(threshold)
    return Convergence(scaling, body.n, exact, np.array(counts), estimate, low, high, effective)
