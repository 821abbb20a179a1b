"""``<type>_<level>/<type>_<level>.npz``: losses along the rays of one model in one landscape."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL, Sweep
from volume_lib.storage import older, schema
from volume_lib.storage.files import save_npz
from volume_lib.storage.paths import PERTURB_NOTEBOOK
from volume_lib.storage.readers import load_npz, read
from volume_lib.storage.weights import array_of

_FORMAT = 1
_AXES = ("loss", "accs", "coefficients")
_RAY_KEYS = (*_AXES, "perturbation_seed", "perturbation_norm")
_SWEEP_KEYS = ("wiggle_results", "additional_data", "model_trained_data", "dataset_type", "base_dataset_size")
_SWEEP_KEYS += ("test_loss", "test_accs", "num_params")


def _last(value: Any) -> float:
    """The final value; older files hold the curve over the epochs."""
    return schema.curve(value)[-1]


_RAY_NUMBERS: dict[str, schema.Check] = {
    "perturbation_seed": schema.whole(),
    "perturbation_norm": schema.number(0, 1e300, nan=False),
}
_SWEEP: dict[str, schema.Check] = {
    "wiggle_results": lambda value: schema.entries(schema.one(value)),
    "additional_data": schema.whole(),
    "model_trained_data": schema.whole(),
    "dataset_type": schema.NAME,
    "base_dataset_size": schema.whole(),
    "test_loss": _last,
    "test_accs": _last,
    "train_loss": _last,
    "num_params": schema.whole(1),
    "state_dict": schema.weights(array_of),
    "scaling": schema.text(),
    "log_det_scaling": schema.number(),
    "search": schema.text(),
    "loss_thresholds": schema.many(schema.number(nan=False)),
    "acc_threshold": schema.optional(schema.number(0, 1, nan=False)),
    "key": schema.NAME,
    "value": schema.value,
    "loss_unit": schema.text(),
    "samples_digest": schema.text(),
    "problem_digest": schema.text(),
    "moved": schema.many(schema.text()),
    "init_widths": schema.many(schema.number(0, nan=False)),
    "format_version": schema.whole(),
}


_MOMENTS = {"slopes": "ray_slopes", "bends": "ray_bends"}
"""Numbers (P,) of a ray that the file holds for all rays together, (D, P)."""


def _object(value: Any) -> np.ndarray:
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def save_sweep(path: str | Path, sweep: Sweep) -> Path:
    """Write one model's rays in one landscape."""
    path = Path(path)
    arrays: dict[str, Any] = {field.name: getattr(sweep, field.name) for field in fields(sweep)}
    rays = np.empty(len(sweep.wiggle_results), dtype=object)
    rays[:] = [
        {key: value for key, value in ray.items() if key not in _MOMENTS} for ray in sweep.wiggle_results
    ]
    if all(_MOMENTS.keys() <= ray.keys() for ray in sweep.wiggle_results):
        arrays |= {of: np.array([r[key] for r in sweep.wiggle_results]) for key, of in _MOMENTS.items()}
    state = {name: array_of(value) for name, value in sweep.state_dict.items()}
    arrays |= {"wiggle_results": rays, "state_dict": _object(state)}
    arrays["acc_threshold"] = _object(sweep.acc_threshold)
    save_npz(path, arrays)
    return path


def load_sweep(path: str | Path) -> Sweep:
    """Read one model's rays in one landscape.

    Older files do not say how they were made: they are plain grids along filter-scaled directions, whose
    ``log_det_scaling`` is unknown (NaN), as is a missing ``train_loss``.
    """
    path = Path(path)
    arrays: dict[str, Any] = read(path, load_npz, PERTURB_NOTEBOOK)
    if "state_dict" not in arrays and "model_state" in arrays:
        arrays["state_dict"] = arrays.pop("model_state")
    schema.require(path, arrays, (*_SWEEP_KEYS, "state_dict"), PERTURB_NOTEBOOK)
    defaults = {"scaling": "filter", "search": "grid", "log_det_scaling": math.nan, "train_loss": math.nan}
    defaults |= {"loss_thresholds": [], "acc_threshold": None, "key": ADDITIONAL, "format_version": 0}
    defaults |= {"loss_unit": "nats", "samples_digest": "", "problem_digest": ""}
    defaults["value"] = arrays["model_trained_data"]
    content: dict[str, Any] = {}
    for field in fields(Sweep):
        if field.name in arrays or field.name in defaults:
            value = arrays.get(field.name, defaults.get(field.name))
            content[field.name] = value.tolist() if isinstance(value, np.ndarray) else value
        elif field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{path}: lacks {field.name}; '{PERTURB_NOTEBOOK}' writes it")
    others = dict.fromkeys(content.keys() - _SWEEP.keys(), schema.plain)
    schema.check(path, content, _SWEEP | others, PERTURB_NOTEBOOK)
    if content["format_version"] > _FORMAT:
        raise InputError(f"{path}: format_version: {content['format_version']} is of a newer volume_lib")
    rays = content["wiggle_results"]
    content["wiggle_results"] = [_ray(path, f"wiggle_results[{i}]", ray) for i, ray in enumerate(rays)]
    content["state_dict"] = older.weights(content["state_dict"])
    _add_moments(path, content, arrays)
    return Sweep(**content)


def _add_moments(path: Path, content: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Each ray's moments, from what the file holds of all; without the names of their tensors they say
    nothing."""
    shape = (len(content["wiggle_results"]), len(content.get("moved", ())))
    if not shape[1] or not all(name in arrays for name in _MOMENTS.values()):
        content |= {"moved": [], "init_widths": []}
        return
    for key, name in _MOMENTS.items():
        found = arrays[name]
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.shape != shape:
            raise InputError(
                f"{path}: {name}: {schema.shown(found)} must have a number for each of {shape[0]} directions "
                f"and {shape[1]} tensors; '{PERTURB_NOTEBOOK}' writes it"
            )
        for ray, numbers in zip(content["wiggle_results"], found.astype(np.float64), strict=True):
            ray[key] = numbers
    missing = [name for name in content["moved"] if name not in content["state_dict"]]
    if missing or len(content["init_widths"]) not in (0, shape[1]):
        told = f"moved: {missing[0]} is not in state_dict" if missing else "init_widths: must be one for each"
        raise InputError(f"{path}: {told}; '{PERTURB_NOTEBOOK}' writes it")


def _ray(path: Path, name: str, ray: Any) -> dict[str, Any]:
    schema.require(path, ray, _RAY_KEYS, PERTURB_NOTEBOOK)
    ray = dict(ray)
    schema.check(path, ray, _RAY_NUMBERS, PERTURB_NOTEBOOK, f"{name} ")
    for axis in _AXES:
        ray[axis] = _numbers(path, f"{name} {axis}", ray[axis])
    if "resolution" in ray:
        ray["resolution"] = _numbers(path, f"{name} resolution", ray["resolution"])
    lengths = {len(ray[axis]) for axis in _AXES}
    if len(lengths) != 1 or not min(lengths):
        raise InputError(
            f"{path}: {name}: a direction's loss, accs and coefficients differ in length {sorted(lengths)}"
        )
    coefficients = ray["coefficients"]
    if not (
        coefficients[0] >= 0 and coefficients[-1] < math.inf and (coefficients[1:] >= coefficients[:-1]).all()
    ):
        raise InputError(
            f"{path}: {name}: coefficients must increase from 0; '{PERTURB_NOTEBOOK}' writes them"
        )
    return ray


def _numbers(path: Path, name: str, value: Any) -> np.ndarray:
    """One real number for each coefficient, as float64."""
    if isinstance(value, np.ndarray) and value.dtype == np.float64 and value.ndim == 1:
        return value
    try:
        return np.array([schema.number()(entry) for entry in schema.entries(value)])
    except ValueError as error:
        raise InputError(f"{path}: {name}: {schema.shown(value)}: {error}") from error
