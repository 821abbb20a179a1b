"""What the files of a run say of how they were made that differs from what experiment.yaml asks for.

From what the files say of themselves, without torch and without their weights. A file that does not say, as
older ones, is not doubted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.experiment.file import Experiment, RunSeeds
from volume_lib.records import same
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
_SWEEP_KEYS = ("num_directions", "loss_thresholds", "scaling", "search")

Asked = Mapping[str, Any]
"""The parameters of a step."""


def run_difference(folder: Path, experiment: Experiment, run: RunSeeds, results: Iterable[Path]) -> str:
    """The first difference of the files in ``folder``, a run's; empty if there is none.

    Looks at the models, rays and ``results`` that are there: what lacks is another question.
    """
    training, sweeping = experiment.parameters("train", run), experiment.parameters("perturb", run)
    models = [path for path in asked_models(folder, experiment.train.key, training) if path.is_file()]
    told = (
        dataset_difference(folder, training),
        *(model_difference(path, training) for path in models),
        *(sweep_difference(path, sweeping) for path in storage.list_outputs(folder, "perturb")),
        *(differs(path, peek_json(path), sweeping, ("num_directions",)) for path in results),
    )
    return next(filter(None, told), "")


def asked_models(folder: Path, key: str, asked: Asked) -> list[Path]:
    """The files of the models that a training is asked for."""
    values = asked["values"] or asked["dataset_quantities"]
    return [storage.model_path(folder / storage.MODELS_AND_DATA, key, value) for value in values]


def model_difference(path: Path, asked: Asked) -> str:
    """What a model's file says that a training would not; empty for one that was imported."""
    said = peek_torch(path)
    if said is None or said.get("imported"):
        return ""
    skipped = {asked["vary"]}
    told = differs(path, said, asked, [key for key in _MODEL_KEYS if key not in skipped])
    network = {"model_class": said.get("model_class"), **(said.get("model_kwargs") or {})}
    named = [name for name in asked.get("model", {}) if f"model.{name}" not in skipped]
    return told or differs(path, network, asked.get("model", {}), named)


def dataset_difference(folder: Path, asked: Asked) -> str:
    """What ``dataset.pt`` says that a training would not."""
    path = folder / storage.MODELS_AND_DATA / "dataset.pt"
    return differs(path, peek_torch(path), asked, _DATA_KEYS)


def sweep_difference(path: Path, asked: Asked) -> str:
    """What a file of rays says that a sweep would not."""
    said = peek_sweep(path)
    if said is not None and isinstance(said.get("loss_thresholds"), list):
        said["loss_thresholds"] = sorted(said["loss_thresholds"])
        asked = {**asked, "loss_thresholds": sorted(set(asked["loss_thresholds"]))}
    return differs(path, said, asked, _SWEEP_KEYS)


def differs(path: Path, said: Asked | None, asked: Asked, keys: Sequence[str]) -> str:
    """The first of ``keys`` of which file and request say different things."""
    for key in keys:
        if said is not None and key in said and key in asked and not _equal(said[key], asked[key]):
            return f"{path}: {key} is {said[key]!r:.80}, asked for {asked[key]!r:.80}"
    return ""


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, int | float) and math.isclose(one, other, rel_tol=1e-12):
        return True
    return same(one, other)
