"""Label noise: a share of the additional samples carries a label that is not its own.

Base samples keep theirs, so that all minima of a run can fit the landscape of the base samples, whatever
else they had to learn by heart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.section import NEEDS_BASE, NEEDS_DATA
from volume_lib.problems.targets import kind_of
from volume_lib.records import LABEL_NOISE, Dataset, TrainedModel

_OFFSET = 0x1ABE1  # draws of their own, beside those of the split, which has the seed itself


def with_label_noise(problem: Problem, dataset: Dataset, share: float) -> Dataset:
    """``dataset`` with the ``share`` (0 to 1) of its additional labels replaced by wrong ones.

    At every level of k additional samples the number of wrong labels is the whole number nearest to
    ``share``·k. Which samples these are, and which wrong label each would get, follows from
    ``dataset.data_seed``: between two levels, the samples of a smaller share are among those of a larger one,
    but for one where rounding asks. A wrong label is uniform over what else the sample could be
    (:func:`~volume_lib.problems.targets.wrong`): another class, another one-hot row, another set of labels.

    Raises InputError for targets that are values (a regression), for data of another type than ``data``, and
    where there are no additional samples.
    """
    if not share:
        return dataset
    if dataset.dataset_type != "data":
        raise InputError(NEEDS_DATA.format(dataset.dataset_type))
    if kind_of(dataset.y_additional) == "values" or kind_of(dataset.y_base_train) == "values":
        raise InputError("label_noise: these targets are values, of which none is wrong; it needs labels")
    if not len(dataset.y_additional):
        raise InputError("label_noise: replaces labels of additional samples; dataset_quantities has none")
    clean = dataset.y_additional
    seed = (dataset.data_seed + _OFFSET) % 2**64
    wrong = problem.wrong_labels(clean, torch.Generator().manual_seed(seed))
    # by a generator of their own, so that a further level leaves the places before it as they are
    chosen = _chosen(dataset.dataset_quantities, share, torch.Generator().manual_seed(seed ^ 1))
    return replace(dataset, y_additional=torch.where(chosen.view(-1, *[1] * (clean.ndim - 1)), wrong, clean))


def _chosen(levels: Sequence[int], share: float, generator: torch.Generator) -> Tensor:
    """(N,) which of the additional samples get a wrong label: in each step between levels the first of a
    random order, as many as make the count of all up to there the nearest whole number."""
    counts = [int(share * level + 0.5) for level in (0, *levels)]
    chosen = []
    for (start, end), (before, after) in zip(pairwise((0, *levels)), pairwise(counts), strict=True):
        places = torch.randperm(end - start, generator=generator)
        chosen.append(places < after - before)
    return torch.cat(chosen)


def own_data(problem: Problem, dataset: Dataset, trained: TrainedModel) -> Dataset:
    """The data that a minimum was trained on: ``dataset``, with the labels of its share where that varies."""
    return with_label_noise(problem, dataset, trained.value) if trained.key == LABEL_NOISE else dataset


def check_landscapes(models: Iterable[TrainedModel], levels: Sequence[int] | None) -> None:
    """InputError where minima of different labels are to be measured on more than the base samples."""
    if any(trained.key == LABEL_NOISE for trained in models) and list(levels or ()) != [0]:
        raise InputError(NEEDS_BASE)
