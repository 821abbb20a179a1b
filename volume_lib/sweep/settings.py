"""What a sweep is asked for, ready for use, and whether a file holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.parameters import num_moved
from volume_lib.records import Sweep, TrainedModel
from volume_lib.search.crossings import Crossing, Grid
from volume_lib.search.points import Target
from volume_lib.storage import arrays_of
from volume_lib.sweep.section import PerturbSettings


@dataclass(frozen=True)
class SweepSettings:
    """What defines the content of a sweep's files, apart from the model and the data."""

    seeds: range
    loss_thresholds: tuple[float, ...]
    acc_threshold: float | None
    search: Crossing | Grid
    scaling: str

    @classmethod
    def of(cls, asked: PerturbSettings, search: Crossing | Grid | None = None) -> SweepSettings:
        """What is asked for, with the search that its name stands for, or with ``search`` instead.

        Raises:
            InputError: a search of one's own, and a ``max_coefficient`` or ``xrtol_rest`` beside it.
        """
        for name in ("max_coefficient", "xrtol_rest"):
            value = getattr(asked, name)
            if search is not None and value is not None:
                raise InputError(f"{name}: the search given has its own; got {value} beside it")
        first = asked.perturbation_seed
        return cls(
            seeds=range(first, first + asked.num_directions),
            loss_thresholds=tuple(sorted(asked.loss_thresholds)),
            acc_threshold=asked.acc_threshold,
            search=search or _search(asked.search, asked.max_coefficient, asked.xrtol_rest),
            scaling=asked.scaling,
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
            and self.search.made(sweep.wiggle_results, self.targets, sweep.num_params)
        )


def _search(name: str, max_coefficient: float | None, xrtol_rest: float | None) -> Crossing | Grid:
    if name == "grid":
        return Grid(tuple((max_coefficient or 1.0) * c for c in Grid().coefficients))
    given: dict[str, Any] = {"max_coefficient": max_coefficient, "xrtol_rest": xrtol_rest}
    return Crossing(**{key: value for key, value in given.items() if value is not None})
