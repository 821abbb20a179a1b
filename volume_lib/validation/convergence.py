"""How an estimate converges with the number of directions, on bodies whose volume is known.

Every body is measured once, as a network is; smaller numbers of directions are the first ones of that sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from volume_lib.errors import InputError
from volume_lib.measuring import measure
from volume_lib.validation.bodies import Body
from volume_lib.validation.record import Convergence
from volume_lib.volume import estimate_volumes
from volume_lib.volume.words import Table


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
    data = body.load()
    sweep = measure(
        body.minimum().model, data.x_train, data.y_train, loss=body.per_sample_loss, threshold=threshold,
        directions=counts[-1], scaling=scaling, seed=perturbation_seed, device="cpu", progress=False,
        max_coefficient=1e6,  # in two dimensions some directions are very short
    ).sweep  # fmt: skip
    assert sweep is not None
    columns = []
    for count in counts:
        first = replace(sweep, wiggle_results=sweep.wiggle_results[:count])
        found = estimate_volumes([first], threshold, subset_sizes=[1])
        value, (low, high) = found["log_volume_values"][0], found["log_exp_r_n_ci"][0]
        to_volume = value - found["log_exp_r_n_values"][0]
        columns.append((value, low + to_volume, high + to_volume, found["effective_directions"][0]))
    estimate, low, high, effective = np.array(columns).T
    exact = body.log_volume(threshold)
    return Convergence(scaling, body.n, exact, np.array(counts), estimate, low, high, effective)


def ends_table(curves: Mapping[tuple[str, str], Sequence[Convergence]]) -> Table:
    """One row for each body (the two words of its key) and scaling: the estimate from the most directions,
    and its error (nats)."""
    header = ("spectrum", "dimension", "scaling", "directions", "effective", "estimate", "exact", "error")
    return Table(
        header,
        [
            (
                *words,
                of.scaling,
                f"{of.directions[-1]:,}",
                f"{of.effective[-1]:,.1f}",
                f"{of.estimate[-1]:,.4f}",
                f"{of.exact:,.4f}",
                f"{of.estimate[-1] - of.exact:+,.4f}",
            )
            for words, of_scalings in curves.items()
            for of in of_scalings
        ],
    )
