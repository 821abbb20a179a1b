"""``models_and_data/``: the data set and the trained models."""

from __future__ import annotations

import re
import warnings
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL, Dataset, TrainedModel
from volume_lib.storage import older, schema
from volume_lib.storage.files import save_torch
from volume_lib.storage.paths import (
    MODEL_NAME,
    MODELS_AND_DATA,
    TRAIN_NOTEBOOK,
    list_models,
    model_path,
    run_seeds,
    value_of,
)
from volume_lib.storage.readers import load_torch, read
from volume_lib.storage.strays import is_stray, own_models
from volume_lib.storage.trainings import check_models
from volume_lib.storage.weights import check_storable, rebuild, weights_digest

if TYPE_CHECKING:
    from torch import Tensor

    from volume_lib.problems.base import Problem

_PARTS = ("base_train", "additional", "test")
_TENSORS = tuple(f"{axis}_{part}" for part in _PARTS for axis in "xy")
_SEED = schema.whole(-1, 2**64 - 1)
_DATASET: dict[str, schema.Check] = {
    **dict.fromkeys(_TENSORS, schema.samples),
    "dataset_quantities": schema.many(schema.whole(), at_least=1),
    "dataset_type": schema.NAME,
    "problem": schema.text(),
    "data_seed": _SEED,
}


def _own_memory(tensor: Tensor) -> Tensor:
    """On the CPU, without the rest of the storage that a slice would take along into the file."""
    return tensor.detach().cpu().contiguous().clone()


def _plain(name: str, value: Any) -> Any:
    """``value`` as every reader of pickles takes it: numpy scalars become Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(name, entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(name, entry) for entry in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f"{name}: a {type(value).__name__} cannot be stored; numbers, strings, lists and dicts can"
    )


def save_dataset(folder: str | Path, dataset: Dataset) -> Path:
    """Write ``<folder>/dataset.pt``."""
    content = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    content = {name: _plain(name, value) for name, value in content.items() if name not in _TENSORS}
    content |= {name: _own_memory(getattr(dataset, name)) for name in _TENSORS}
    path = Path(folder) / "dataset.pt"
    save_torch(path, content)
    return path


def load_dataset(folder: str | Path) -> Dataset:
    """Read ``<folder>/dataset.pt``. The problem that it names is a text here: nothing is imported.

    Files of older notebooks do not name their problem and data seed: ``problem`` is then ``""`` and
    ``data_seed`` the one in the name of the run folder, or -1.
    """
    path = Path(folder) / "dataset.pt"
    content = read(path, load_torch, TRAIN_NOTEBOOK)
    schema.require(path, content, (*_TENSORS, "dataset_quantities", "dataset_type"), TRAIN_NOTEBOOK)
    content.setdefault("problem", "")
    content.setdefault("data_seed", _seeds_in_name(path)[1])
    schema.check(path, content, _DATASET, TRAIN_NOTEBOOK)
    for part in _PARTS:
        inputs, targets = len(content[f"x_{part}"]), len(content[f"y_{part}"])
        if inputs != targets:
            raise InputError(f"{path}: {inputs} inputs x_{part} but {targets} targets y_{part}")
    largest, count = max(content["dataset_quantities"]), len(content["x_additional"])
    if largest > count:
        raise InputError(f"{path}: dataset_quantities: {largest} is more than the {count} of x_additional")
    return Dataset(**{field.name: content[field.name] for field in fields(Dataset) if field.name in content})


def _seeds_in_name(path: Path) -> tuple[int, int]:
    """What the run's folder says where an older file does not; -1 where it does not either."""
    from volume_lib.problems.registry import absolute

    return run_seeds(absolute(path).parent.parent) or (-1, -1)


_CURVES = ("train_loss", "test_loss", "train_accs", "test_accs")
_MODEL_KEYS = ("state_dict", *_CURVES, "additional_data", "dataset_type", "model_class")
_RECORD_KEYS = (*_MODEL_KEYS[1:], "problem", "model_kwargs", "model_seed", "key")
_FIELDS = {"additional_data": "level"}
"""Keys of the file whose field of :class:`TrainedModel` is called otherwise."""
_MODEL: dict[str, schema.Check] = {
    "state_dict": schema.weights(schema.real_tensor),
    **dict.fromkeys(_CURVES, schema.curve),
    "additional_data": schema.whole(),
    "dataset_type": schema.NAME,
    "model_class": schema.text(r"\w{1,100}", "the name of a class"),
    "problem": schema.text(),
    "model_kwargs": schema.named,
    "model_seed": _SEED,
    "key": schema.NAME,
    "weights_digest": schema.text(),
}


def save_model(folder: str | Path, trained: TrainedModel) -> Path:
    """Write ``<folder>/model_<key>_<value>.pt``; the training settings become keys of their own.

    Raises ``ValueError`` where a setting has the name of another key of the file, or cannot be stored.
    """
    content = {name: getattr(trained, _FIELDS.get(name, name)) for name in _RECORD_KEYS}
    content |= {name: [float(value) for value in content[name]] for name in _CURVES}
    clash = sorted(set(trained.settings) & {"state_dict", "weights_digest", *content})
    if clash:
        raise ValueError(f"training settings cannot be called {', '.join(clash)}")
    content |= trained.settings
    if trained.key != ADDITIONAL:
        content[trained.key] = trained.value
    content = {name: _plain(name, value) for name, value in content.items()}
    check_storable(trained.model)
    content["state_dict"] = {name: _own_memory(value) for name, value in trained.model.state_dict().items()}
    content["weights_digest"] = weights_digest(content["state_dict"])
    path = model_path(folder, trained.key, trained.value)
    save_torch(path, content)
    return path


def load_model(path: str | Path, problem: Problem) -> TrainedModel:
    """Rebuild the exact model of one file, in eval mode on the CPU.

    Files of older notebooks hold their weights under ``model_state`` and do not say how the model was
    built: then the shapes tell (:mod:`volume_lib.storage.older`), or it is the problem's default of that
    class.
    """
    path = Path(path)
    key, value = _name_and_number(path)
    content = _checked(path)
    content = older.model_content(content, problem)
    kind = content["model_class"]
    if kind not in problem.model_classes:
        known = ", ".join(problem.model_classes)
        raise InputError(f"{path}: model_class {kind!r} is not one of problem {problem.name}'s ({known})")
    content.setdefault("problem", problem.name)
    content.setdefault("model_seed", _seeds_in_name(path)[0])
    content["key"] = older.value_key(content, key)
    if "model_kwargs" not in content:
        content["model_kwargs"] = problem.default_model_kwargs(kind)
    says = content["additional_data"] if key == ADDITIONAL else content.pop(content["key"], value)
    if says != value:
        raise InputError(
            f"{path}: its name says {value}, its content {schema.shown(says)}: not the same model"
        )
    state = content.pop("state_dict")
    try:
        model = rebuild(problem, kind, content["model_kwargs"], max(content["model_seed"], 0), state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    record = {_FIELDS.get(name, name): content.pop(name) for name in _RECORD_KEYS}
    return TrainedModel(model=model, value=value, settings=content, **record)


def model_content(path: Path) -> tuple[str, int | float, dict[str, Any]]:
    """What varies, its value, and the checked content of a model's file, without building the network."""
    key, value = _name_and_number(path)
    content = _checked(path)
    return older.value_key(content, key), value, content


def _checked(path: Path) -> dict[str, Any]:
    """The content of a model's file, with every entry what it must be."""
    content = read(path, load_torch, TRAIN_NOTEBOOK)
    if isinstance(content, dict) and "state_dict" not in content and "model_state" in content:
        content["state_dict"] = content.pop("model_state")
    schema.require(path, content, _MODEL_KEYS, TRAIN_NOTEBOOK)
    content = {str(name): entry for name, entry in content.items()}
    said = content.pop("weights_digest", None)
    settings = dict.fromkeys(content.keys() - _MODEL.keys(), schema.plain)
    schema.check(path, content, _MODEL | settings, TRAIN_NOTEBOOK)
    if said is not None and said != weights_digest(content["state_dict"]):
        raise InputError(
            f"{path}: weights_digest: the weights were changed after they were written (take it out if that "
            "was you)"
        )
    return content


def _name_and_number(path: Path) -> tuple[str, int | float]:
    """What varies and its value, from a model file's name."""
    found = re.fullmatch(MODEL_NAME, path.name)
    if found is None:
        raise InputError(
            f"{path}: a model's file is called model_<key>_<number>.pt, as model_additional_540.pt"
        )
    return found[1], value_of(found[2])


def load_models_and_data(
    folder: str | Path = MODELS_AND_DATA, problem: str | Problem | None = None
) -> tuple[list[TrainedModel], Dataset]:
    """The rebuilt models, by value, and the data set that they were trained on.

    Args:
        folder: a run's ``models_and_data``.
        problem: a problem or its name. A class in a file of your own (``my_problem.py:MyProblem``) is
            looked for beside the run folder and above it, and is loaded only because it is named here:
            a file that is read never decides which code runs. None: the shipped problem that
            ``dataset.pt`` names; in an older run the one that shapes and the model's class tell.

    Raises InputError, naming the file, where the models are of two trainings, or of other samples.
    """
    folder = Path(folder)
    dataset = load_dataset(folder)
    if problem is None:
        problem = _shipped_problem(folder, dataset)
    if isinstance(problem, str):
        from volume_lib.problems.registry import absolute, get_problem

        problem = get_problem(problem, absolute(folder).parent)
    dataset.problem = dataset.problem or problem.name
    paths = list_models(folder)
    others = sorted(path.name for path in set(folder.glob("model_*.pt")) - set(paths))
    if others:
        warnings.warn(f"{folder}: {', '.join(others)} left out: no number in the name", stacklevel=2)
    copies = [path for path in paths if is_stray(path)]
    if copies:
        names = ", ".join(path.name for path in copies)
        warnings.warn(
            f"{folder}: {names} left out: no model of this training, or a copy of one", stacklevel=2
        )
    paths = [path for path in paths if path not in copies]
    if not paths:
        raise InputError(f"{folder}: no model_*.pt files; '{TRAIN_NOTEBOOK}' writes them")
    models = [load_model(path, problem) for path in paths]
    check_models(folder, models, dataset)
    return models, dataset


def _shipped_problem(folder: Path, dataset: Dataset) -> str:
    """The name of the shipped problem of a run; InputError where its files name none."""
    from volume_lib.problems.registry import is_shipped

    path, name = folder / "dataset.pt", dataset.problem
    if not name:
        paths = own_models(folder)
        kind = _checked(paths[0])["model_class"] if paths else ""
        name = older.problem_name(dataset, kind)
        if name is None:
            shape = "×".join(map(str, dataset.x_base_train.shape[1:]))
            raise InputError(
                f"{path}: does not name its problem, and samples of {shape} with a model of class "
                f"{kind or 'unknown'} do not tell it; pass problem='mnist' or another"
            )
    if not is_shipped(name):
        told = f"names the problem {schema.shown(name)}, which is none of the shipped ones"
        raise InputError(f"{path}: {told}; code is loaded only on request: pass problem={schema.shown(name)}")
    return name
