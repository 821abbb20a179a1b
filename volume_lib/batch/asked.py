"""Is what a step wrote what it was asked for? And what is wrong with it though it is?

From what the files say of themselves. A file that does not say, as older ones, is not doubted.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.batch.steps import Job
from volume_lib.storage.peek import peek_json, peek_sweep, peek_torch
from volume_lib.training.section import TrainSettings

_MODEL_KEYS = (
    *TrainSettings.model_fields,
    "base_data_size",
    "data_seed",
    "model_seed",
    "dataset_type",
    "problem",
)
_DATA_KEYS = ("dataset_quantities", "dataset_type", "data_seed", "problem")


def wanted_models(job: Job) -> list[Path]:
    """The files of the models that a training is asked for."""
    parameters = job.parameters
    values = parameters["values"] or parameters["dataset_quantities"]
    folder = job.folder / storage.MODELS_AND_DATA
    return [storage.model_path(folder, job.experiment.train.key, value) for value in values]


def difference(job: Job) -> str:
    """What the files of a step say that differs from what it was asked for; empty if nothing does."""
    found = {"train": _of_training, "perturb": _of_sweep, "volume": _of_volumes}.get(job.step, lambda _: [])(
        job
    )
    return next(filter(None, found), "")


def model_difference(job: Job, path: Path) -> str:
    """What a model's file says that a training would not; empty for one that was imported."""
    said = peek_torch(path)
    if said is None or said.get("imported"):
        return ""
    skipped = {job.parameters["vary"]}
    return _differs(path, said, job.parameters, [key for key in _MODEL_KEYS if key not in skipped])


def dataset_difference(job: Job) -> str:
    path = job.folder / storage.MODELS_AND_DATA / "dataset.pt"
    return _differs(path, peek_torch(path), job.parameters, _DATA_KEYS)


def _differs(path: Path, said: dict[str, Any] | None, asked: dict[str, Any], keys: Any) -> str:
    for key in keys:
        if said is not None and key in said and key in asked and not _equal(said[key], asked[key]):
            return f"{path}: {key} is {said[key]!r:.80}, asked for {asked[key]!r:.80}"
    return ""


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12)
    return one == other


def _of_training(job: Job) -> list[str]:
    paths = wanted_models(job)
    missing = [f"{path}: asked for, and not written" for path in paths if not path.is_file()]
    return [*missing, dataset_difference(job), *(model_difference(job, path) for path in paths)]


def _of_sweep(job: Job) -> list[str]:
    found = []
    for path in job.outputs():
        said, asked = peek_sweep(path), job.parameters
        if said is not None and isinstance(said.get("loss_thresholds"), list):
            said["loss_thresholds"] = sorted(said["loss_thresholds"])
            asked = {**asked, "loss_thresholds": sorted(set(asked["loss_thresholds"]))}
        found.append(_differs(path, said, asked, ("num_directions", "loss_thresholds", "scaling", "search")))
    return found


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
