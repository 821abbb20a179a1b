"""Before a sweep: do the minima hold what its numbers assume?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from tqdm.auto import tqdm

from volume_lib.abilities import ready
from volume_lib.parameters import moved_names
from volume_lib.preflight import preflight
from volume_lib.problems.base import Problem
from volume_lib.problems.label_noise import own_data
from volume_lib.records import Dataset, TrainedModel

SECONDS = 1.0
"""What one pass of all minima over their own samples may take, together."""


def storable(trained: TrainedModel) -> TrainedModel:
    """The minimum as a sweep computes with it and its files hold it: half precision becomes float32."""
    name = f"{trained.key} {trained.value}: "
    model, changed = ready(trained.model, name)
    if not changed:
        return trained
    tqdm.write(f"preflight: {name}{changed}")
    return replace(trained, model=model)


def check_models(
    problem: Problem,
    models: Sequence[TrainedModel],
    dataset: Dataset,
    thresholds: Sequence[float],
    device: torch.device,
) -> list[str]:
    """Ask the :mod:`~volume_lib.preflight` of every minimum, on its own samples.

    Returns what was found, one line for each thing that a user may not count on; they are printed, too.

    Raises:
        InputError: one of them, or the loss, cannot be measured.
    """
    found = {}
    for trained in models:
        own = own_data(problem, dataset, trained)
        whole = trained.level <= len(dataset.x_additional)
        x, y = own.upto(trained.level if whole else len(dataset.x_additional))
        name = f"{trained.key} {trained.value}"
        answers = preflight(
            trained.model,
            x,
            y,
            loss=problem.per_sample_loss,
            accuracy=problem.correct,
            thresholds=thresholds,
            device=device,
            moved=moved_names(trained.model),
            recorded_loss=trained.train_loss[-1] if trained.train_loss and whole else None,
            seconds=SECONDS / len(models),
            name=name,
        )
        for note in answers.notes:  # what holds for all is said once
            found.setdefault(note.removeprefix(f"{name}: "), note)
    for note in found.values():
        tqdm.write(f"preflight: {note}")
    return list(found.values())
