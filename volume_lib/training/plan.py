"""Which models a training is to make, and which of them are already there."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.errors import InputError, near_match
from volume_lib.problems.base import Problem
from volume_lib.problems.provenance import level_digest, problem_digest, tensors_digest
from volume_lib.records import Dataset, TrainedModel, same
from volume_lib.storage.checkpoints import is_foreign
from volume_lib.storage.strays import own_models
from volume_lib.training.section import TrainSettings

_NOT_OURS = "{}: was not trained here and is never replaced; import it under another name, or move it away"

_NEWER = ("test_digest", "problem_digest")
"""Settings that older files do not record, and are not asked for."""


@dataclass(frozen=True)
class Plan:
    """What a training varies, and what it keeps: the arguments of ``train_models`` that make its models."""

    problem: Problem
    model: Mapping[str, Any]
    settings: TrainSettings

    def check(self) -> None:
        """Raise InputError for a model that cannot be."""
        if self.settings.argument is None:
            self.model_kwargs()
        for value in self.settings.values or () if self.settings.argument else ():
            self.problem.build_model(self.model_kwargs(value), 0, self.model_class())

    def model_class(self) -> str:
        return self.problem.model_class_name(self.model.get("model_class"))

    def model_kwargs(self, value: float | None = None) -> dict[str, Any]:
        """The model's arguments with all defaults, less its class.

        ``value``: of the argument that varies, where one does. For an argument that is a list of numbers it
        stands for each of them.
        """
        given = {key: value for key, value in self.model.items() if key != "model_class"}
        full = self.problem.full_model_kwargs(given, self.model_class())
        name = self.settings.argument
        if name is None or value is None:
            return full
        if name not in full:
            raise InputError(
                f"vary: model.{name}: {self.model_class()} has no such argument{near_match(name, full)}; "
                f"it has {', '.join(full)}"
            )
        usual = full[name]
        if _is_number(usual):
            return full | {name: value}
        if isinstance(usual, list | tuple) and usual and all(map(_is_number, usual)):
            return full | {name: [value] * len(usual)}
        raise InputError(f"vary: model.{name} is {usual!r}: only numbers, and lists of them, can vary")

    def wanted(self, dataset: Dataset, model_seed: int) -> list[Wanted]:
        """The models of one run, sorted by what varies."""
        levels = dataset.dataset_quantities
        settings = self.settings
        if settings.vary is None:
            return [self._wanted(dataset, model_seed, level, level) for level in levels]
        return [self._wanted(dataset, model_seed, value, levels[0]) for value in settings.values or ()]

    def _wanted(self, dataset: Dataset, model_seed: int, value: int | float, level: int) -> Wanted:
        settings = self.settings
        record = settings.recorded()
        if settings.vary == "epochs" and settings.lr_schedule:
            record["schedule_epochs"] = settings.epochs
        record |= {"base_data_size": dataset.base_data_size, "data_seed": dataset.data_seed}
        # of the samples before any label noise that varies: that is told by the value
        record["data_digest"] = level_digest(dataset, level)
        record["test_digest"] = tensors_digest([dataset.x_test, dataset.y_test])
        record["problem_digest"] = problem_digest(self.problem)
        identity = {
            "model_class": self.model_class(),
            "model_kwargs": self.model_kwargs(value),
            "model_seed": model_seed,
            "problem": self.problem.name,
            "dataset_type": dataset.dataset_type,
            "level": level,
        }
        return Wanted(settings.key, value, level, settings.at(value), record, identity)


@dataclass
class Wanted:
    """One model that a training is to make.

    ``own`` are the settings of its training, with its value of what varies. ``settings`` is what its file is
    to record of the training, ``identity`` what else must agree for the model of a file to be this one.
    """

    key: str
    value: int | float
    level: int
    own: TrainSettings
    settings: dict[str, Any]
    identity: dict[str, Any]

    def path(self, folder: Path) -> Path:
        return storage.model_path(folder, self.key, self.value)

    def saved(self, folder: Path, problem: Problem) -> tuple[TrainedModel | None, str]:
        """The model of the file, if the same settings and samples gave it or it was imported for these; else
        None, and what differs in the file that is to be replaced (``""``: there is none).

        Raises InputError for a file that this training must not replace: one that it did not write, or an
        imported model of other samples.
        """
        path = self.path(folder)
        if not path.exists():
            return None, ""
        try:
            found = storage.load_model(path, problem)
        except InputError as error:
            if is_foreign(path):
                raise InputError(_NOT_OURS.format(path)) from error
            warnings.warn(f"{error}; it is trained anew", stacklevel=4)
            return None, "damaged"
        if "data_digest" not in found.settings:
            raise InputError(_NOT_OURS.format(path))
        identity = {k: v for k, v in self.identity.items() if k != "model_seed"}
        identity |= {"key": self.key, "value": self.value}
        told = _difference({name: getattr(found, name) for name in identity}, identity)
        if found.settings.get("imported"):
            seen = [n for n in ("data_digest", "test_digest") if found.settings.get(n) != self.settings[n]]
            if seen or told:
                raise InputError(
                    f"{path}: imported for other {'samples' if seen else 'settings'}, and never replaced; "
                    f"move it away and import {found.settings.get('source')} again"
                )
            return found, ""
        before = {name: self.settings[name] for name in _NEWER if name in self.settings} | found.settings
        seeds = {"model_seed": found.model_seed}, {"model_seed": self.identity["model_seed"]}
        told = told or _difference(before | seeds[0], self.settings | seeds[1])
        return (None, told) if told else (found, "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_DIGESTS = {
    "data_digest": "other samples",
    "test_digest": "other test samples",
    "problem_digest": "other code",
}


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """``learning_rate 0.01 → 0.1``: the first thing that differs; empty if nothing does."""
    for name in [*now, *before]:
        if not same(before.get(name), now.get(name)):
            change = f"{name} {before.get(name)!r} → {now.get(name)!r}"
            return _DIGESTS.get(name, change if len(change) <= 100 else f"other {name}")
    return ""


def warn_of_strangers(folder: Path, wanted: list[Wanted]) -> None:
    """Point out models in ``folder`` that are none of ``wanted``."""
    ours = {w.path(folder).name for w in wanted}
    strangers = sorted(path.name for path in own_models(folder) if path.name not in ours)
    if strangers:
        warnings.warn(
            f"{folder}: {', '.join(strangers)} are no models of this training; delete them, or they are "
            "analysed with the others",
            stacklevel=4,
        )
