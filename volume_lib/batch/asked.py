"""Is what a step wrote what it was asked for? And what is wrong with it though it is?"""

from __future__ import annotations

import math
from pathlib import Path

from volume_lib import storage
from volume_lib.batch.steps import Job
from volume_lib.experiment.differences import (
    asked_models,
    dataset_difference,
    model_difference,
    sweep_difference,
)
from volume_lib.storage.peek import peek_json, peek_torch


def wanted_models(job: Job) -> list[Path]:
    """The files of the models that a training is asked for."""
    return asked_models(job.folder, job.experiment.train.key, job.parameters)


def difference(job: Job) -> str:
    """What the files of a step say that differs from what it was asked for; empty if nothing does."""
    found = {"train": _of_training, "perturb": _of_sweep, "volume": _of_volumes}.get(job.step, lambda _: [])(
        job
    )
    return next(filter(None, found), "")


def _of_training(job: Job) -> list[str]:
    paths = wanted_models(job)
    missing = [f"{path}: asked for, and not written" for path in paths if not path.is_file()]
    asked = job.parameters
    return [
        *missing,
        dataset_difference(job.folder, asked),
        *(model_difference(path, asked) for path in paths),
    ]


def _of_sweep(job: Job) -> list[str]:
    return [sweep_difference(path, job.parameters) for path in job.outputs()]


def _of_volumes(job: Job) -> list[str]:
    there = {threshold for _, _, threshold in storage.list_results(job.folder)}
    asked = job.parameters["loss_thresholds"]
    return [
        f"{job.folder}: no results.json at loss threshold {threshold!r}, which was asked for"
        for threshold in asked
        if not any(math.isclose(threshold, other, rel_tol=1e-5) for other in there)
    ]


def warnings_of(job: Job) -> list[str]:
    """What a person should know of a step that is done: minima that are none."""
    if job.step == "train":
        return _unfitted(job)
    return _without_volume(job) if job.step == "volume" else []


def _unfitted(job: Job) -> list[str]:
    threshold = max(job.experiment.parameters("volume")["loss_thresholds"])
    told = []
    for path in wanted_models(job):
        curve = (peek_torch(path) or {}).get("train_loss")
        last = curve[-1] if isinstance(curve, list) and curve else None
        if isinstance(last, int | float) and not last <= threshold:
            told.append(f"{path.name}: training loss {last:.3g} is above every threshold ({threshold:g})")
    return told


def _without_volume(job: Job) -> list[str]:
    told = []
    for (_, level, threshold), path in storage.list_results(job.folder).items():
        said = peek_json(path) or {}
        volumes, names = said.get("log_exp_r_n_values"), said.get("key_values", said.get("model_data_levels"))
        if isinstance(volumes, list) and isinstance(names, list):
            none = [f"{name}" for name, value in zip(names, volumes, strict=False) if value is None]
            if none:
                told.append(f"landscape {level}, loss {threshold:g}: no volume for {', '.join(none)}")
    return told
