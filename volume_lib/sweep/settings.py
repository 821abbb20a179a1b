"""What a sweep is asked for, checked, and whether a file holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volume_lib.errors import InputError
from volume_lib.parameters import num_moved
from volume_lib.rays.scaling import SCALINGS
from volume_lib.records import Sweep, TrainedModel
from volume_lib.search.crossings import Crossing, Grid
from volume_lib.search.points import Target
from volume_lib.storage import arrays_of
from volume_lib.thresholds import check_thresholds

MAX_SEED = 2**63
"""Seeds of directions lie below: files hold them as signed 64-bit numbers."""


@dataclass(frozen=True)
class SweepSettings:
    """What defines the content of a sweep's files, apart from the model and the data."""

    seeds: range
    loss_thresholds: tuple[float, ...]
    acc_threshold: float | None
    search: Crossing | Grid
    scaling: str

    @classmethod
    def checked(
        cls,
        *,
        num_directions: int,
        loss_thresholds: Sequence[float],
        acc_threshold: float | None,
        search: str | Crossing | Grid,
        scaling: str,
        perturbation_seed: int,
        max_coefficient: float | None,
    ) -> SweepSettings:
        """Settings from the arguments of :func:`volume_lib.sweep.run.run_sweep`.

        Raises:
            InputError: one of them is impossible.
        """
        if not _whole(num_directions) or num_directions < 1:
            raise InputError(f"num_directions must be a whole number, at least 1; got {num_directions!r}")
        whole = _whole(perturbation_seed)
        if not whole or perturbation_seed < 0 or perturbation_seed + num_directions > MAX_SEED:
            raise InputError(
                "perturbation_seed must be a whole number between 0 and 2^63 less the number of directions, "
                f"{num_directions}; got {perturbation_seed!r}"
            )
        if not len(loss_thresholds) or not all(0 < value < math.inf for value in loss_thresholds):
            raise InputError(f"loss_thresholds must be a list of positive numbers; got {loss_thresholds}")
        check_thresholds(None, acc_threshold)
        if scaling not in SCALINGS:
            raise InputError(f"scaling must be one of {', '.join(SCALINGS)}; got {scaling!r}")
        return cls(
            seeds=range(perturbation_seed, perturbation_seed + num_directions),
            loss_thresholds=tuple(sorted({float(value) for value in loss_thresholds})),
            acc_threshold=acc_threshold,
            search=_search(search, max_coefficient),
            scaling=scaling,
        )

    @property
    def targets(self) -> list[Target]:
        """Loss thresholds from the highest down, then the accuracy threshold."""
        targets = [Target(value) for value in sorted(self.loss_thresholds, reverse=True)]
        return targets if self.acc_threshold is None else [*targets, Target(self.acc_threshold, "acc")]

    def wrote(self, sweep: Sweep, trained: TrainedModel) -> bool:
        """Whether an existing file holds these settings' sweep of this very model.

        How a search scanned (``scan_ratio``, ``pilot_samples``) does not show in a file, and is not asked.
        """
        weights = arrays_of(trained.model)
        return (
            [ray["perturbation_seed"] for ray in sweep.wiggle_results] == list(self.seeds)
            and sorted(sweep.loss_thresholds) == sorted(self.loss_thresholds)
            and (sweep.acc_threshold, sweep.search, sweep.scaling)
            == (self.acc_threshold, self.search.name, self.scaling)
            and sweep.num_params == num_moved(trained.model)
            and sweep.state_dict.keys() == weights.keys()
            and all(np.array_equal(sweep.state_dict[name], weights[name]) for name in weights)
            and all(self.search.made(ray, self.targets) for ray in sweep.wiggle_results)
        )


def _whole(number: object) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _search(search: str | Crossing | Grid, max_coefficient: float | None) -> Crossing | Grid:
    if max_coefficient is not None and not max_coefficient > 0:
        raise InputError(f"max_coefficient must be positive; got {max_coefficient}")
    if not isinstance(search, str):
        if max_coefficient is not None:
            raise InputError(
                f"max_coefficient: the search given has its own; got {max_coefficient} beside it"
            )
        return search
    if search == "crossing":
        return Crossing() if max_coefficient is None else Crossing(max_coefficient=max_coefficient)
    if search == "grid":
        return Grid(tuple((max_coefficient or 1.0) * c for c in Grid().coefficients))
    raise InputError(f'search must be "crossing" or "grid"; got {search!r}')
