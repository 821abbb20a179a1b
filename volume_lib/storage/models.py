"""``models_and_data/``: the data set and the trained models."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL, Dataset, TrainedModel
from volume_lib.storage import older
from volume_lib.storage.files import read, require, save_torch
from volume_lib.storage.paths import MODELS_AND_DATA, TRAIN_NOTEBOOK, list_models, model_path, run_seeds
from volume_lib.storage.safe_pickle import load_torch

if TYPE_CHECKING:
    from torch import Tensor

    from volume_lib.problems.base import Problem

_TENSORS = ("x_base_train", "y_base_train", "x_additional", "y_additional", "x_test", "y_test")


def _own_memory(tensor: Tensor) -> Tensor:
    """On the CPU, without the rest of the storage that a slice would take along into the file."""
    return tensor.detach().cpu().contiguous().clone()


def _plain(name: str, value: Any) -> Any:
    """``value`` as torch's weights-only reader takes it: numpy scalars become Python's own."""
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
    """Read ``<folder>/dataset.pt``.

    Files of older notebooks do not name their problem and data seed: ``problem`` is then ``""`` and
    ``data_seed`` the one in the name of the run folder, or -1.
    """
    import torch

    path = Path(folder) / "dataset.pt"
    content = read(path, load_torch, TRAIN_NOTEBOOK)
    require(path, content, (*_TENSORS, "dataset_quantities", "dataset_type"), TRAIN_NOTEBOOK)
    for name in _TENSORS:
        content[name] = torch.as_tensor(content[name])
    for part in ("base_train", "additional", "test"):
        inputs, targets = len(content[f"x_{part}"]), len(content[f"y_{part}"])
        if inputs != targets:
            raise InputError(f"{path}: {inputs} inputs x_{part} but {targets} targets y_{part}")
    content["dataset_quantities"] = [int(level) for level in content["dataset_quantities"]]
    content.setdefault("problem", "")
    content.setdefault("data_seed", _seeds_in_name(path)[1])
    return Dataset(**{field.name: content[field.name] for field in fields(Dataset)})


def _seeds_in_name(path: Path) -> tuple[int, int]:
    """What the run's folder says where an older file does not; -1 where it does not either."""
    return run_seeds(path.resolve().parent.parent) or (-1, -1)


_CURVES = ("train_loss", "test_loss", "train_accs", "test_accs")
_MODEL_KEYS = ("state_dict", *_CURVES, "additional_data", "dataset_type", "model_class")
_NEWER_MODEL_KEYS = ("problem", "model_kwargs", "model_seed", "key")


def save_model(folder: str | Path, trained: TrainedModel) -> Path:
    """Write ``<folder>/model_<key>_<value>.pt``; the training settings become keys of their own.

    Raises ``ValueError`` where a setting has the name of another key of the file, or cannot be stored.
    """
    content = {name: getattr(trained, name) for name in (*_MODEL_KEYS[1:], *_NEWER_MODEL_KEYS)}
    content |= {name: [float(value) for value in content[name]] for name in _CURVES}
    clash = sorted(set(trained.settings) & {"state_dict", *content})
    if clash:
        raise ValueError(f"training settings cannot be called {', '.join(clash)}")
    content |= trained.settings
    if trained.key != ADDITIONAL:
        content[trained.key] = trained.value
    content = {name: _plain(name, value) for name, value in content.items()}
    content["state_dict"] = {name: _own_memory(value) for name, value in trained.model.state_dict().items()}
    path = model_path(folder, trained.key, trained.value)
    save_torch(path, content)
    return path


def load_model(path: str | Path, problem: Problem) -> TrainedModel:
    """Rebuild the exact model of one file, in eval mode on the CPU.

    Files of older notebooks hold their weights under ``model_state`` and do not say how the model was
    built: then the shapes tell (:mod:`volume_lib.storage.older`), or it is the problem's default of that
    class.
    """
    import torch

    path = Path(path)
    content = read(path, load_torch, TRAIN_NOTEBOOK)
    if isinstance(content, dict) and "state_dict" not in content and "model_state" in content:
        content["state_dict"] = content.pop("model_state")
    require(path, content, _MODEL_KEYS, TRAIN_NOTEBOOK)
    content = older.model_content(content, problem)
    state = content.pop("state_dict")
    kind = content["model_class"]
    if kind not in problem.model_classes:
        known = ", ".join(problem.model_classes)
        raise InputError(f"{path}: model_class {kind!r} is not one of problem {problem.name}'s ({known})")
    content.setdefault("problem", problem.name)
    content.setdefault("model_kwargs", problem.default_model_kwargs(kind))
    content.setdefault("model_seed", _seeds_in_name(path)[0])
    key, value = path.stem.removeprefix("model_").rpartition("_")[::2]
    content["key"] = older.value_key(content, key)
    content.pop(content["key"], None)
    model = problem.build_model(content["model_kwargs"], max(content["model_seed"], 0), kind)
    try:
        model.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: its weights do not fit {kind} with {content['model_kwargs']}: {reason}"
        ) from error
    for name in _CURVES:
        content[name] = [float(entry) for entry in np.atleast_1d(content[name])]
    record = {name: content.pop(name) for name in (*_MODEL_KEYS[1:], *_NEWER_MODEL_KEYS)}
    return TrainedModel(model=model.eval(), value=int(value), settings=content, **record)


def load_models_and_data(
    folder: str | Path = MODELS_AND_DATA, problem: str | Problem | None = None
) -> tuple[list[TrainedModel], Dataset]:
    """The rebuilt models, by value, and the data set that they were trained on.

    ``problem`` is asked for only where ``dataset.pt`` does not name it and neither shapes nor the model's
    class say which it is. A problem of the user's own (``my_problem.py:MyProblem``) is looked for beside
    the run folder and above it.
    """
    folder = Path(folder)
    dataset = load_dataset(folder)
    problem = problem or dataset.problem or _guessed_problem(folder, dataset)
    dataset.problem = dataset.problem or (problem if isinstance(problem, str) else problem.name)
    if isinstance(problem, str):
        from volume_lib.problems import get_problem

        problem = get_problem(problem, folder.resolve().parent)
    paths = list_models(folder)
    if not paths:
        raise InputError(f"{folder}: no model_*.pt files; '{TRAIN_NOTEBOOK}' writes them")
    return [load_model(path, problem) for path in paths], dataset


def _guessed_problem(folder: Path, dataset: Dataset) -> str:
    """The problem of an older run; InputError where its files do not tell."""
    paths = list_models(folder)
    content = read(paths[0], load_torch, TRAIN_NOTEBOOK) if paths else {}
    kind = content.get("model_class", "") if isinstance(content, dict) else ""
    name = older.problem_name(dataset, str(kind))
    if name is None:
        shape = "×".join(map(str, dataset.x_base_train.shape[1:]))
        raise InputError(
            f"{folder / 'dataset.pt'}: does not name its problem, and samples of {shape} with a model of "
            f"class {kind or 'unknown'} do not tell it; pass problem='mnist' or another"
        )
    return name
