"""Which models a training is to make, and which of them are already there."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.errors import InputError, near_match
from volume_lib.problems.base import Problem
from volume_lib.problems.provenance import level_digest, problem_digest, tensors_digest
from volume_lib.records import ADDITIONAL, Dataset, TrainedModel
from volume_lib.storage.checkpoints import is_foreign
from volume_lib.training.loop import Settings
from volume_lib.training.optimizers import OPTIMIZERS, SCHEDULES
from volume_lib.training.rules import check_sam, check_varied

VARIES = ("batch_size", "epochs")

_NOT_OURS = "{}: was not trained here and is never replaced; import it under another name, or move it away"

_NEWER = ("test_digest", "problem_digest")
"""Settings that older files do not record, and are not asked for."""


@dataclass(frozen=True)
class Plan:
    """What a training varies, and what it keeps: the arguments of ``train_models`` that make its models."""

    problem: Problem
    model: Mapping[str, Any]
    epochs: int
    batch_size: int
    settings: Settings
    vary: str | None = None
    values: Sequence[int] | None = None

    def check(self) -> None:
        """Raise InputError for the first argument that cannot be."""
        check_settings(self.settings, epochs=self.epochs, batch_size=self.batch_size)
        self._check_values()
        self.model_kwargs()

    def _check_values(self) -> None:
        vary, values = self.vary, self.values
        if vary is not None and vary not in VARIES:
            raise InputError(f'vary "{vary}": must be one of {", ".join(VARIES)}{near_match(vary, VARIES)}')
        if values is not None:
            whole = all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values)
            if not values or not whole or sorted(set(values)) != list(values):
                raise InputError(f"values {values}: must be whole numbers, 1 or more, each above the last")
        check_varied(vary, values, self.epochs, self.settings.target_train_loss)

    def model_class(self) -> str:
        return self.problem.model_class_name(self.model.get("model_class"))

    def model_kwargs(self) -> dict[str, Any]:
        """The model's arguments with all defaults, less its class."""
        given = {key: value for key, value in self.model.items() if key != "model_class"}
        return self.problem.full_model_kwargs(given, self.model_class())

    def wanted(self, dataset: Dataset, model_seed: int) -> list[Wanted]:
        """The models of one run, sorted by what varies."""
        levels = dataset.dataset_quantities
        if self.vary is None:
            points = [(level, level, self.epochs, self.batch_size) for level in levels]
        elif self.vary == "batch_size":
            points = [(value, levels[0], self.epochs, value) for value in self.values]
        else:
            points = [(value, levels[0], value, self.batch_size) for value in self.values]
        return [self._wanted(dataset, model_seed, *point) for point in points]

    def _wanted(
        self, dataset: Dataset, model_seed: int, value: int, level: int, epochs: int, batch_size: int
    ) -> Wanted:
        record = {**asdict(self.settings), "epochs": epochs, "batch_size": batch_size}
        record.pop(self.vary, None)  # the file holds it as the model's value
        if self.vary == "epochs" and self.settings.lr_schedule:
            record["schedule_epochs"] = self.epochs
        record |= {"base_data_size": dataset.base_data_size, "data_seed": dataset.data_seed}
        record["data_digest"] = level_digest(dataset, level)
        record["test_digest"] = tensors_digest([dataset.x_test, dataset.y_test])
        record["problem_digest"] = problem_digest(self.problem)
        identity = {
            "model_class": self.model_class(),
            "model_kwargs": self.model_kwargs(),
            "model_seed": model_seed,
            "problem": self.problem.name,
            "dataset_type": dataset.dataset_type,
            "additional_data": level,
        }
        return Wanted(self.vary or ADDITIONAL, value, level, epochs, batch_size, record, identity)


@dataclass
class Wanted:
    """One model that a training is to make.

    ``settings`` is what its file is to record of the training, ``identity`` what else must agree for the
    model of a file to be this one.
    """

    key: str
    value: int
    level: int
    epochs: int
    batch_size: int
    settings: dict[str, Any]
    identity: dict[str, Any]

    def path(self, folder: Path) -> Path:
        return storage.model_path(folder, self.key, self.value)

    def saved(self, folder: Path, problem: Problem) -> TrainedModel | None:
        """The model of the file, if the same settings and samples gave it or it was imported for these.

        Raises InputError for a file that this training must not replace: one that it did not write, or an
        imported model of other samples.
        """
        path = self.path(folder)
        if not path.exists():
            return None
        try:
            found = storage.load_model(path, problem)
        except InputError as error:
            if is_foreign(path):
                raise InputError(_NOT_OURS.format(path)) from error
            warnings.warn(f"{error}; it is trained anew", stacklevel=4)
            return None
        same = (found.key, found.value) == (self.key, self.value)
        same &= all(getattr(found, k) == v for k, v in self.identity.items() if k != "model_seed")
        if "data_digest" not in found.settings:
            raise InputError(_NOT_OURS.format(path))
        if found.settings.get("imported"):
            told = [
                name
                for name in ("data_digest", "test_digest")
                if found.settings.get(name) != self.settings[name]
            ]
            if told or not same:
                raise InputError(
                    f"{path}: imported for other {'samples' if told else 'settings'}, and never replaced; "
                    f"move it away and import {found.settings.get('source')} again"
                )
            return found
        settings = {name: self.settings[name] for name in _NEWER if name in self.settings} | found.settings
        same &= settings == self.settings and found.model_seed == self.identity["model_seed"]
        return found if same else None


def check_settings(settings: Settings, *, epochs: int, batch_size: int) -> None:
    """Raise InputError for the first setting that cannot be."""
    for name, value, known in (
        ("optimizer", settings.optimizer, OPTIMIZERS),
        ("lr_schedule", settings.lr_schedule, {None: None, **SCHEDULES}),
    ):
        if value not in known:
            names = [n for n in known if n is not None]
            raise InputError(f'{name} "{value}": must be one of {", ".join(names)}{near_match(value, names)}')
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise InputError(f"{name} {number!r}: must be a whole number, 1 or more")
    for name, number, positive in (
        ("learning_rate", settings.learning_rate, True),
        ("target_train_loss", settings.target_train_loss, True),
        ("weight_decay", settings.weight_decay, False),
        ("sam_rho", settings.sam_rho, False),
    ):
        if number is not None and not (number > 0 or (number == 0 and not positive)):
            raise InputError(f"{name} {number!r}: must be {'above 0' if positive else '0 or more'}")
    check_sam(settings.sam_rho, settings.sam_adaptive)


def warn_of_strangers(folder: Path, wanted: list[Wanted]) -> None:
    """Point out models in ``folder`` that are none of ``wanted``."""
    ours = {w.path(folder).name for w in wanted}
    strangers = sorted(path.name for path in folder.glob("model_*.pt") if path.name not in ours)
    if strangers:
        warnings.warn(
            f"{folder}: {', '.join(strangers)} are no models of this training; delete them, or they are "
            "analysed with the others",
            stacklevel=4,
        )
