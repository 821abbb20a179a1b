"""What a sweep finds there already: whole files of a model, and what its batches were made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.provenance import tensors_digest
from volume_lib.records import Dataset, TrainedModel
from volume_lib.sources import short_digest
from volume_lib.sweep.settings import SweepSettings

MadeFrom = dict[int, tuple[str, str]]
"""Landscape level → digests of its samples and of the problem."""


def batches_made_from(
    settings: SweepSettings, trained: TrainedModel, made_from: MadeFrom, device: torch.device
) -> str:
    """What batches of an interrupted sweep must agree on to be gone on from, in 16 letters.

    Every setting, how the search scans, too; the weights; landscapes, samples and loss; where it is computed.
    """
    weights = tensors_digest(trained.model.state_dict().values())
    return short_digest("\0".join([repr(settings), weights, repr(sorted(made_from.items())), device.type]))


def are_done(
    paths: Sequence[Path],
    settings: SweepSettings,
    problem: Problem,
    trained: TrainedModel,
    dataset: Dataset,
    made_from: MadeFrom,
) -> bool:
    """Whether a model's files are all there, made with these settings, weights, samples and loss."""
    if not all(path.exists() for path in paths):
        return False
    try:
        sweeps = [storage.load_sweep(path) for path in paths]
    except InputError:
        return False  # damaged, or not a sweep: written again
    for sweep, origin in zip(sweeps, made_from.values(), strict=True):
        said = (sweep.samples_digest, sweep.problem_digest)
        if not settings.wrote(sweep, trained) or any(
            a not in ("", b) for a, b in zip(said, origin, strict=True)
        ):
            return False
    if all(sweep.samples_digest and sweep.problem_digest for sweep in sweeps):
        return True
    losses = losses_at_zero(problem, trained, dataset, list(made_from))
    return all(  # an older file does not say what made it
        math.isclose(sweep.wiggle_results[0]["loss"][0], loss, rel_tol=1e-3, abs_tol=1e-6)
        for sweep, loss in zip(sweeps, losses, strict=True)
    )


def losses_at_zero(
    problem: Problem, trained: TrainedModel, dataset: Dataset, levels: Sequence[int], chunk: int = 1000
) -> list[float]:
    """The minimum's own loss in each landscape: what every ray of its files must begin with."""
    x, y = dataset.upto(max(levels))
    with torch.no_grad():
        parts = [
            problem.per_sample_loss(trained.model(x[i : i + chunk].clone()), y[i : i + chunk]).double()
            for i in range(0, len(x), chunk)
        ]
    losses = torch.cat(parts)
    return [losses[: dataset.base_data_size + level].mean().item() for level in levels]
