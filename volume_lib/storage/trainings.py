"""Whether the models of a folder are of one training, on the samples that lie beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volume_lib.errors import InputError
from volume_lib.records import Dataset, TrainedModel, same
from volume_lib.storage.paths import TRAIN_NOTEBOOK, model_path

# What differs between the models of one training: what each has seen, and where an imported one is from.
_OF_EACH = {"data_digest", "imported", "source", "source_digest"}


def check_models(folder: str | Path, models: Sequence[TrainedModel], dataset: Dataset) -> None:
    """Raise InputError unless ``models`` are of one training on the samples of ``dataset``.

    Models that were imported may differ in how they were trained, not in their samples.
    """
    told = {trained.value: _said_by(trained) for trained in models}
    trained_here = [t for t in models if "data_digest" in t.settings and not t.settings.get("imported")]
    for trained in trained_here[1:]:
        usual, own = told[trained_here[0].value], told[trained.value]
        differs = [name for name in sorted(usual.keys() & own.keys()) if not same(usual[name], own[name])]
        if differs:
            name = differs[0]
            raise InputError(
                f"{_file(folder, trained)}: {name} {own[name]!r}, but {usual[name]!r} in "
                f"{_file(folder, trained_here[0]).name}: models of two trainings; run "
                f"'{TRAIN_NOTEBOOK}' again, or move the models of one of them away"
            )
    from volume_lib.problems.provenance import level_digest  # here: commands start without torch

    seen: dict[int, str] = {}
    for trained in models:
        level, said = trained.level, trained.settings.get("data_digest")
        if said and level <= len(dataset.x_additional):
            seen.setdefault(level, level_digest(dataset, level))
            if said != seen[level]:
                raise InputError(
                    f"{_file(folder, trained)}: was trained on other samples than those of dataset.pt; run "
                    f"'{TRAIN_NOTEBOOK}' again"
                )


def _said_by(trained: TrainedModel) -> dict[str, Any]:
    said = {name: value for name, value in trained.settings.items() if name not in _OF_EACH}
    names = ("model_class", "model_kwargs", "model_seed", "problem", "dataset_type")
    said |= {name: getattr(trained, name) for name in names}
    arguments = trained.model_kwargs.items()
    return said | {"model_kwargs": {name: value for name, value in arguments if name != trained.key}}


def _file(folder: str | Path, trained: TrainedModel) -> Path:
    return model_path(folder, trained.key, trained.value)
