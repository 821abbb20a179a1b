"""Minima that were trained elsewhere: read, evaluated and recorded as imported; never trained or replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.registry import working_directory
from volume_lib.records import Dataset, TrainedModel
from volume_lib.storage.checkpoints import file_digest, load_weights
from volume_lib.training.plan import Plan, Wanted

_CHUNK = 1000


def import_models(
    plan: Plan,
    dataset: Dataset,
    model_seed: int,
    checkpoints: Mapping[Any, str | Path],
    folder: str | Path,
) -> list[Path]:
    """Save the weights of ``checkpoints`` (level, or other value → file) as models of a run; their paths.

    A relative path is looked for in the working directory and the folders above it. Each model is evaluated
    on its training and test samples: the curves have one entry. Its file says ``imported``, from which
    ``source``, and with which digest. A file that is there stays as it is if it is of the same source;
    InputError where it is not, and before anything is written where weights do not fit the network.
    """
    wanted = {w.value: w for w in plan.wanted(dataset, model_seed)}
    made = []
    for key, named in checkpoints.items():
        if not str(key).isdecimal() or int(key) not in wanted:
            raise InputError(f"checkpoints: {key} is not one of {list(wanted)}")
        made.append((wanted[int(key)], *_built(plan.problem, wanted[int(key)], find(named))))
    paths = []
    for want, model, source in made:
        path = want.path(Path(folder))
        kept = _imported_settings(path, plan.problem)
        record = {"imported": True, "source": source.name, "source_digest": file_digest(source)}
        if path.exists() and (kept or {}).get("source_digest") != record["source_digest"]:
            raise InputError(
                f"{path}: is there already and is never replaced; move it away to import {source}"
            )
        names = ("base_data_size", "data_seed", "data_digest", "test_digest")
        record |= {name: want.settings[name] for name in names}
        if kept != record:
            storage.save_model(folder, _evaluated(plan.problem, want, model, dataset, record))
        paths.append(path)
    return paths


def find(named: str | Path) -> Path:
    """``named`` in the working directory or the nearest folder above it that has it."""
    path = Path(named).expanduser()
    places = [working_directory(), *working_directory().parents]
    found = next((place / path for place in places if (place / path).is_file()), None)
    if found is None:
        raise InputError(f"checkpoints: no {named} in {places[0]} or the folders above it")
    return found


def _built(problem: Problem, wanted: Wanted, source: Path) -> tuple[nn.Module, Path]:
    identity = wanted.identity
    model = problem.build_model(
        identity["model_kwargs"], min(identity["model_seed"], 2**63 - 1), identity["model_class"]
    )
    state = load_weights(source)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        told = f"{identity['model_class']} with {identity['model_kwargs']}"
        raise InputError(f"{source}: its weights do not fit {told}: {reason}") from error
    return model.eval(), source


def _imported_settings(path: Path, problem: Problem) -> dict[str, Any] | None:
    """The settings of an imported model's file; None where there is none."""
    if not path.exists():
        return None
    settings = storage.load_model(path, problem).settings
    return settings if settings.get("imported") else None


def _evaluated(
    problem: Problem, wanted: Wanted, model: nn.Module, dataset: Dataset, record: dict[str, Any]
) -> TrainedModel:
    train_loss, train_acc = _evaluate(problem, model, *dataset.upto(wanted.level))
    test_loss, test_acc = _evaluate(problem, model, dataset.x_test, dataset.y_test)
    curves: dict[str, Any] = {"train_loss": [train_loss], "train_accs": [train_acc]}
    curves |= {"test_loss": [test_loss], "test_accs": [test_acc]}
    return TrainedModel(
        model=model, settings=record, key=wanted.key, value=wanted.value, **wanted.identity, **curves
    )


@torch.no_grad()
def _evaluate(problem: Problem, model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean loss and accuracy over all samples."""
    losses, corrects = [], []
    for start in range(0, len(x), _CHUNK):
        outputs = model(x[start : start + _CHUNK].clone())
        losses.append(problem.per_sample_loss(outputs, y[start : start + _CHUNK]).double())
        corrects.append(problem.correct(outputs, y[start : start + _CHUNK]).double())
    return torch.cat(losses).mean().item(), torch.cat(corrects).mean().item()
