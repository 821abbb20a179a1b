"""``<type>_<level>/<type>_<level>.npz``: losses along the rays of one model in one landscape."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL, Sweep
from volume_lib.storage.files import read, require, save_npz
from volume_lib.storage.older import weights
from volume_lib.storage.paths import PERTURB_NOTEBOOK
from volume_lib.storage.safe_pickle import load_npz

_RAY_KEYS = ("loss", "accs", "coefficients", "perturbation_seed", "perturbation_norm")
_SWEEP_KEYS = ("wiggle_results", "additional_data", "model_trained_data", "dataset_type", "base_dataset_size")
_SWEEP_KEYS += ("test_loss", "test_accs", "num_params")


def _object(value: Any) -> np.ndarray:
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def save_sweep(path: str | Path, sweep: Sweep) -> Path:
    """Write one model's rays in one landscape."""
    path = Path(path)
    arrays: dict[str, Any] = {field.name: getattr(sweep, field.name) for field in fields(sweep)}
    rays = np.empty(len(sweep.wiggle_results), dtype=object)
    rays[:] = list(sweep.wiggle_results)
    arrays |= {"wiggle_results": rays, "state_dict": _object(sweep.state_dict)}
    arrays["acc_threshold"] = _object(sweep.acc_threshold)
    save_npz(path, arrays)
    return path


def load_sweep(path: str | Path) -> Sweep:
    """Read one model's rays in one landscape.

    Older files do not say how they were made: they are plain grids along filter-scaled directions, whose
    ``log_det_scaling`` is unknown (NaN), as is a missing ``train_loss``.
    """
    path = Path(path)
    arrays = read(path, load_npz, PERTURB_NOTEBOOK)
    if "state_dict" not in arrays and "model_state" in arrays:
        arrays["state_dict"] = arrays.pop("model_state")
    require(path, arrays, (*_SWEEP_KEYS, "state_dict"), PERTURB_NOTEBOOK)
    older = {"scaling": "filter", "search": "grid", "log_det_scaling": math.nan, "train_loss": math.nan}
    older |= {"loss_thresholds": [], "acc_threshold": None, "key": ADDITIONAL, "format_version": 0}
    older |= {"loss_unit": "nats", "samples_digest": "", "problem_digest": ""}
    older["value"] = arrays["model_trained_data"]
    content: dict[str, Any] = {}
    for field in fields(Sweep):
        value = arrays.get(field.name, older.get(field.name))
        content[field.name] = value.tolist() if isinstance(value, np.ndarray) else value
    content["wiggle_results"] = [_ray(path, ray) for ray in content["wiggle_results"]]
    state = content["state_dict"]
    content["state_dict"] = {name: _numpy(value) for name, value in weights(state).items()}
    for name in ("test_loss", "test_accs", "train_loss"):  # older files hold the curve over the epochs
        content[name] = float(np.atleast_1d(content[name])[-1])
    return Sweep(**content)


def _numpy(weights: Any) -> np.ndarray:
    """Weights as an array; older files hold tensors."""
    return weights.numpy() if hasattr(weights, "numpy") else np.asarray(weights)


def _ray(path: Path, ray: dict[str, Any]) -> dict[str, Any]:
    require(path, ray, _RAY_KEYS, PERTURB_NOTEBOOK)
    arrays = {name: np.asarray(ray[name], dtype=np.float64) for name in ("loss", "accs", "coefficients")}
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise InputError(
            f"{path}: a direction's loss, accs and coefficients differ in length {sorted(lengths)}"
        )
    seed, norm = int(ray["perturbation_seed"]), float(ray["perturbation_norm"])
    return {**ray, **arrays, "perturbation_seed": seed, "perturbation_norm": norm}
