"""Whether the files of a run belong together: what each was made from, beside what lies there now.

People train again, and forget the rays; a training is interrupted, and old models stay beside new ones.
Every file therefore says what it was made from: a model its samples and its training, a sweep its weights
and its samples, ``results.json``, ``cutoffs.json`` and ``test_accuracies.npz`` the weights. Whoever reads a
run compares them here, and stops where they differ. Files of older versions do not say everything: what they
do say is compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from volume_lib.errors import InputError
from volume_lib.records import Sweep, plain_value
from volume_lib.storage.models import model_content
from volume_lib.storage.paths import (
    MODELS_AND_DATA,
    PERTURB_NOTEBOOK,
    accuracies_path,
    cutoffs_path,
    list_sweeps,
    sweep_path,
    value_of,
)
from volume_lib.storage.peek import peek_torch
from volume_lib.storage.strays import is_stray, own_models
from volume_lib.storage.sweeps import load_sweep
from volume_lib.storage.weights import weights_digest

Minimum = tuple[str, float]
"""What varies between the models, and its value."""


def load_sweeps(run_dir: str | Path = ".", dataset_type: str | None = None) -> dict[int, list[Sweep]]:
    """Landscape level → the sweeps of its models, all of one training; of one dataset type or of all.

    Raises InputError where a sweep starts at other weights than the model's file beside it holds (if that is
    there), or than its sweep in another landscape, or was measured on other samples than the models.
    """
    run_dir = Path(run_dir)
    models = _models_of(run_dir)
    weights: dict[Minimum, tuple[str, Path]] = {
        of: (model.weights, model.path) for of, model in models.items()
    }
    samples = {model.level: (model.samples, model.path) for model in models.values() if model.samples}
    sweeps: dict[int, list[Sweep]] = {}
    for level, paths in list_sweeps(run_dir, dataset_type).items():
        strays = [path.name for path in paths if is_stray(path)]
        if strays:
            told = f"{paths[0].parent}: {', '.join(strays)} left out: no rays of this run, or a copy of some"
            warnings.warn(told, stacklevel=2)
        for path in paths:
            if path.name in strays:
                continue
            sweep = load_sweep(path)
            _check_name(path, sweep)
            own = (weights_digest(sweep.state_dict), path)
            known = weights.setdefault((sweep.key, sweep.value), own)
            if known[0] != own[0]:
                raise InputError(
                    f"{path}: its rays start at other weights than those of {known[1]}; run "
                    f"'{PERTURB_NOTEBOOK}' again, which replaces the rays of the models and "
                    "landscapes that there are; move others away"
                )
            if sweep.samples_digest:
                at = samples.setdefault(level, (sweep.samples_digest, path))
                if at[0] != sweep.samples_digest:
                    raise InputError(
                        f"{path}: its losses are of other samples than those of {at[1]}; run "
                        f"'{PERTURB_NOTEBOOK}' again"
                    )
            sweeps.setdefault(level, []).append(sweep)
    return sweeps


def _check_name(path: Path, sweep: Sweep) -> None:
    """InputError where rays lie under the name of others; older files do not say whose they are."""
    named = (sweep.dataset_type, sweep.additional_data, sweep.key, plain_value(sweep.value))
    right = sweep_path(path.parent.parent, *named)
    if sweep.format_version and right != path:
        raise InputError(f"{path}: holds the rays of {right.parent.name}/{right.name}: copied over others?")


class _Model(NamedTuple):
    """What a model's file says: the digests of its weights and samples (``""``: an older file), its level."""

    path: Path
    weights: str
    samples: str
    level: int


def _models_of(run_dir: Path) -> dict[Minimum, _Model]:
    found = {}
    for path in own_models(run_dir / MODELS_AND_DATA):
        said = peek_torch(path) or {}  # without torch, which estimating volumes does without
        key, value = said.get("key"), said.get(str(said.get("key")), said.get("additional_data"))
        digest, level = said.get("weights_digest"), said.get("additional_data")
        if not (
            isinstance(key, str)
            and isinstance(digest, str)
            and type(value) in (int, float)
            and type(level) is int
        ):
            key, value, said = model_content(path)  # an older file
            digest, level = weights_digest(said["state_dict"]), int(said["additional_data"])
        found[key, value] = _Model(path, digest, str(said.get("data_digest", "")), level)
    return found


def stale(
    run_dir: str | Path,
    results: Mapping[Path, Mapping[str, Any]],
    cutoffs: Mapping[str, Mapping[str, Any]] | None = None,
    accuracies: Mapping[float, str] | None = None,
) -> str | None:
    """The first thing in a run that was made from other weights than the rest; None where all agree.

    ``results``: path → its content. ``cutoffs``: that of ``cutoffs.json``; ``accuracies``: value → digest, as
    ``test_accuracies.npz`` names them. What is there is compared with the models and with each other.
    """
    run_dir = Path(run_dir)
    known = {value: (model.weights, model.path.name) for (_, value), model in _models_of(run_dir).items()}
    made_from = [
        (where.relative_to(run_dir).as_posix(), value, digest)
        for where, found in results.items()
        for value, digest in zip(
            found.get("key_values", found["model_data_levels"]),
            found.get("weights_digests", ()),
            strict=False,
        )
    ]
    made_from += [
        (cutoffs_path(".").as_posix(), value_of(name), entry["weights_digest"])
        for name, entry in (cutoffs or {}).items()
        if "weights_digest" in entry
    ]
    made_from += [(accuracies_path(".").as_posix(), *pair) for pair in (accuracies or {}).items()]
    for where, value, digest in made_from:
        first = known.setdefault(value, (digest, where))
        if first[0] != digest:
            return f"{where} was made from other weights of minimum {value} than {first[1]}; make it anew"
    return None
