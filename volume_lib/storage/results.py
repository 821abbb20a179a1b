"""``results.json``, ``cutoffs.json`` and ``test_accuracies.npz``: what the figures are made of."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib.storage import older
from volume_lib.storage.files import read, require, save_npz, write_bytes
from volume_lib.storage.paths import (
    ACCURACY_NOTEBOOK,
    CUTOFF_NOTEBOOK,
    VOLUME_NOTEBOOK,
    accuracies_path,
    cutoffs_path,
)
from volume_lib.storage.safe_pickle import load_npz

# Logarithms of volumes: there, and only there, a JSON null is the log of zero.
_LOG_KEYS = {"log_exp_r_n_values", "log_exp_r_n_acc_values", "log_volume_values", "log_volume_acc_values"}
_LOG_KEYS |= {"log_exp_r_n_ci", "log_exp_r_n_acc_ci"}


def _to_json(value: Any, key: str) -> Any:
    """Plain JSON values; minus infinity (log of zero) and unknown numbers (NaN, infinite losses) as null."""
    if isinstance(value, dict):
        return {str(name): _to_json(entry, str(name)) for name, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_to_json(entry, key) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        if key in _LOG_KEYS and value != -math.inf:
            raise ValueError(f"{key}: {value} is not the logarithm of a volume")
        return None
    return value


def _from_json(value: Any, key: str) -> Any:
    """Back to numbers: a null inside a list was minus infinity in a logarithm, and NaN elsewhere."""
    if isinstance(value, dict):
        return {name: _from_json(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        if set(map(type, value)) <= {float, int}:  # long curves: nothing to replace
            return value
        empty = -math.inf if key in _LOG_KEYS else math.nan
        return [empty if entry is None else _from_json(entry, key) for entry in value]
    return value


def _save_json(path: Path, content: dict[str, Any]) -> Path:
    text = json.dumps(_to_json(content, ""), indent=1, allow_nan=False)
    write_bytes(path, (text + "\n").encode())
    return path


def _load_json(path: Path, keys: tuple[str, ...], notebook: str) -> dict[str, Any]:
    content = read(path, lambda file: json.loads(file.read_text(encoding="utf-8")), notebook)
    require(path, content, keys, notebook)
    return _from_json(content, "")


def save_results(path: str | Path, results: dict[str, Any]) -> Path:
    """Write a ``results.json`` (strict JSON; the log of a zero volume is null)."""
    return _save_json(Path(path), results)


def load_results(path: str | Path) -> dict[str, Any]:
    """Read a ``results.json``; nulls and ``-Infinity`` among log volumes are ``-inf``.

    Older files lack the newer keys, which are then absent here too; their losses are in nats.
    """
    keys = ("test_loss_values", "log_exp_r_n_values", "model_data_levels", "loss_landscape_data_param")
    return {"loss_unit": "nats"} | _load_json(Path(path), keys, VOLUME_NOTEBOOK)


def save_cutoffs(run_dir: str | Path, cutoffs: dict[str, dict[str, Any]]) -> Path:
    """Write ``cutoffs/cutoffs.json``: ``Model_<level>`` → its loss against the amount of data."""
    return _save_json(cutoffs_path(run_dir), cutoffs)


def load_cutoffs(run_dir: str | Path) -> dict[str, dict[str, Any]]:
    """Read ``cutoffs/cutoffs.json``."""
    path = cutoffs_path(run_dir)
    cutoffs = _load_json(path, (), CUTOFF_NOTEBOOK)
    for entry in cutoffs.values():
        require(path, entry, ("additional_data", "base_train_size", "loss_curve"), CUTOFF_NOTEBOOK)
    return cutoffs


def save_test_accuracies(run_dir: str | Path, dataset_sizes: Any, test_accuracies: Any) -> Path:
    """Write ``test_accuracies.npz``: training set sizes and the test accuracies (fractions), same order."""
    arrays = {"dataset_sizes": np.asarray(dataset_sizes), "test_accuracies": np.asarray(test_accuracies)}
    save_npz(accuracies_path(run_dir), arrays)
    return accuracies_path(run_dir)


def load_test_accuracies(run_dir: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read ``test_accuracies.npz``: training set sizes, test accuracies."""
    path = accuracies_path(run_dir)
    arrays = read(path, load_npz, ACCURACY_NOTEBOOK)
    if isinstance(arrays, dict):
        arrays = older.renamed(arrays, older.ACCURACY_KEYS)
    require(path, arrays, ("dataset_sizes", "test_accuracies"), ACCURACY_NOTEBOOK)
    return arrays["dataset_sizes"], arrays["test_accuracies"]
