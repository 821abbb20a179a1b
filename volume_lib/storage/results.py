"""``results.json``, ``cutoffs.json`` and ``test_accuracies.npz``: what the figures are made of."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.storage import older, schema
from volume_lib.storage.files import save_npz, write_bytes
from volume_lib.storage.paths import (
    ACCURACY_NOTEBOOK,
    CUTOFF_NOTEBOOK,
    VOLUME_NOTEBOOK,
    accuracies_path,
    cutoffs_path,
)
from volume_lib.storage.readers import json_digest, load_json, load_npz, read
from volume_lib.storage.weights import weights_digest

if TYPE_CHECKING:
    from volume_lib.records import TrainedModel

# Logarithms of volumes: there, and only there, a JSON null is the log of zero.
_LOG_KEYS = {"log_exp_r_n_values", "log_exp_r_n_acc_values", "log_volume_values", "log_volume_acc_values"}
_LOG_KEYS |= {"log_exp_r_n_ci", "log_exp_r_n_acc_ci", "log_mass_values"}
_LOG_KEYS |= {"log_mass_rays_values", "log_mass_rays_ci"}

_COUNTS, _NUMBERS = schema.many(schema.whole()), schema.many(schema.number())
_INTERVALS = schema.many(schema.many(schema.number()))
_SHARE, _COUNT, _WORD = schema.number(0, 1, nan=False), schema.whole(), schema.text()
_BY_MINIMUM: dict[str, schema.Check] = {
    "test_loss_values": _NUMBERS,
    "log_exp_r_n_values": _NUMBERS,
    "model_data_levels": _COUNTS,
    "test_acc_values": _NUMBERS,
    "train_loss_values": _NUMBERS,
    "key_values": schema.many(schema.value),
    "num_params_values": _COUNTS,
    "log_det_scaling_values": _NUMBERS,
    "top_r_vals": schema.many(_NUMBERS),
    "top_r_val_seeds": schema.many(_COUNTS),
    "test_loss_ranks": _NUMBERS,
    "log_exp_r_n_ranks": _NUMBERS,
    "data_level_ranks": _NUMBERS,
    "log_exp_r_n_acc_ranks": _NUMBERS,
    "weights_digests": schema.many(_WORD),
    "log_mass_rays_values": _NUMBERS,
    "log_mass_rays_ci": _INTERVALS,
    "log_mass_rays_effective_directions": _NUMBERS,
}
for _suffix in ("", "_acc"):
    _BY_MINIMUM |= {
        f"log_exp_r_n{_suffix}_values": _NUMBERS,
        f"log_exp_r_n{_suffix}_ci": _INTERVALS,
        f"log_exp_r_n{_suffix}_resolution": _NUMBERS,
        f"effective_directions{_suffix}": _NUMBERS,
        f"num_censored{_suffix}": _COUNTS,
        f"log_volume{_suffix}_values": _NUMBERS,
    }
_RESULTS = _BY_MINIMUM | {
    "loss_landscape_data_param": _COUNT,
    "base_dataset_size": _COUNT,
    "num_params": _COUNT,
    "num_directions": _COUNT,
    "dataset_type": schema.NAME,
    "key": schema.NAME,
    "loss_threshold": schema.number(0, nan=False),
    "acc_threshold": schema.optional(_SHARE),
    "loss_unit": _WORD,
    "scaling": _WORD,
    "log_mass_reference": _WORD,
    "subset_sizes": _COUNTS,
    "radii_rank_probabilities": _NUMBERS,
    "radii_rank_probabilities_full": _NUMBERS,
    "loss_predicts_minimas": schema.either(True, False),
    "accuracy_predicts_minimas": schema.either(True, False),
    "loss_ordering_violations": _COUNT,
    "accuracy_ordering_violations": _COUNT,
}
_CUTOFF: dict[str, schema.Check] = {
    "additional_data": _COUNT,
    "base_train_size": _COUNT,
    "loss_curve": _NUMBERS,
    "samples": _COUNTS,
    "weights_digest": _WORD,
}
_CUTOFF_KEYS = ("additional_data", "base_train_size", "loss_curve")
_ACCURACIES: dict[str, schema.Check] = {
    "dataset_sizes": _COUNTS,
    "test_accuracies": schema.many(schema.number(0, 100)),
}
_WEIGHTS: dict[str, schema.Check] = {
    "minima": schema.many(schema.value),
    "weights_digests": schema.many(_WORD),
}


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


def save_strict_json(path: Path, content: dict[str, Any]) -> Path:
    """Strict JSON, with a ``digest`` of all the rest as its last entry."""
    plain = _to_json(content, "")
    plain.pop("digest", None)
    plain["digest"] = json_digest(plain)
    write_bytes(path, (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode())
    return path


def load_strict_json(path: Path, keys: tuple[str, ...], notebook: str) -> dict[str, Any]:
    content = read(path, load_json, notebook)
    schema.require(path, content, keys, notebook)
    return _from_json(content, "")


def save_results(path: str | Path, results: dict[str, Any]) -> Path:
    """Write a ``results.json`` (strict JSON; the log of a zero volume is null)."""
    return save_strict_json(Path(path), results)


def load_results(path: str | Path) -> dict[str, Any]:
    """Read a ``results.json``; nulls and ``-Infinity`` among log volumes are ``-inf``.

    Older files lack the newer keys, which are then absent here too; their losses are in nats. Lists of
    one entry per minimum have as many as ``model_data_levels``.
    """
    path = Path(path)
    keys = ("test_loss_values", "log_exp_r_n_values", "model_data_levels", "loss_landscape_data_param")
    content = {"loss_unit": "nats"} | load_strict_json(path, keys, VOLUME_NOTEBOOK)
    schema.check(path, content, _RESULTS, VOLUME_NOTEBOOK)
    count = len(content["model_data_levels"])
    for key in _BY_MINIMUM.keys() & content.keys():
        if len(content[key]) != count:
            raise InputError(
                f"{path}: {key}: has {len(content[key])} entries for the {count} of model_data_levels"
            )
    for key in ("log_exp_r_n_ci", "log_exp_r_n_acc_ci", "log_mass_rays_ci"):
        if any(len(pair) != 2 for pair in content.get(key, ())):
            raise InputError(f"{path}: {key}: must have a low and a high end for each minimum")
    return content


_CUTOFF_NAME = r"\w+_[0-9]{1,18}(\.[0-9]{1,20})?(e[+-][0-9]{1,2})?"
"""``Model_540``, and where no amounts of data vary ``Model_0.001`` or ``Model_1e-05``."""


def save_cutoffs(run_dir: str | Path, cutoffs: dict[str, dict[str, Any]]) -> Path:
    """Write ``cutoffs/cutoffs.json``: ``Model_<value>`` → its loss against the amount of data."""
    return save_strict_json(cutoffs_path(run_dir), cutoffs)


def load_cutoffs(run_dir: str | Path) -> dict[str, dict[str, Any]]:
    """Read ``cutoffs/cutoffs.json``; ``indices``, as older files call them, are ``samples`` here."""
    path = cutoffs_path(run_dir)
    cutoffs = load_strict_json(path, (), CUTOFF_NOTEBOOK)
    for name, entry in cutoffs.items():
        if not re.fullmatch(_CUTOFF_NAME, name):
            raise InputError(f"{path}: {schema.shown(name)}: an entry is called Model_<value>")
        if not isinstance(entry, dict):
            raise InputError(f"{path}: {name}: {schema.shown(entry)} must be a dictionary of named values")
        if "indices" in entry:
            entry.setdefault("samples", entry.pop("indices"))
        schema.require(path, entry, _CUTOFF_KEYS, CUTOFF_NOTEBOOK)
        schema.check(path, entry, _CUTOFF, CUTOFF_NOTEBOOK, f"{name} ")
        points, samples = len(entry["loss_curve"]), entry.get("samples")
        if samples is not None and (len(samples) != points or samples != sorted(set(samples))):
            raise InputError(
                f"{path}: {name} samples: must be {points} increasing numbers, as loss_curve has"
            )
    return cutoffs


def save_test_accuracies(
    run_dir: str | Path, dataset_sizes: Any, test_accuracies: Any, models: Sequence[TrainedModel] = ()
) -> Path:
    """Write ``test_accuracies.npz``: training set sizes and the test accuracies (fractions), same order.

    With ``models``, in that order as well, the file says whose accuracies they are.
    """
    arrays = {"dataset_sizes": np.asarray(dataset_sizes), "test_accuracies": np.asarray(test_accuracies)}
    if models:
        arrays["minima"] = np.array([trained.value for trained in models])
        arrays["weights_digests"] = np.array([weights_digest(t.model.state_dict()) for t in models])
    save_npz(accuracies_path(run_dir), arrays)
    return accuracies_path(run_dir)


def accuracies_weights(run_dir: str | Path) -> dict[float, str]:
    """Value of what varies → digest of the weights whose accuracy ``test_accuracies.npz`` has.

    Empty where the file does not say, as older ones do not.
    """
    arrays = _accuracies(accuracies_path(run_dir))
    return dict(zip(arrays.get("minima", ()), arrays.get("weights_digests", ()), strict=False))


def _accuracies(path: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = older.renamed(read(path, load_npz, ACCURACY_NOTEBOOK), older.ACCURACY_KEYS)
    schema.require(path, arrays, tuple(_ACCURACIES), ACCURACY_NOTEBOOK)
    schema.check(path, arrays, _ACCURACIES | _WEIGHTS, ACCURACY_NOTEBOOK)
    return arrays


def load_test_accuracies(run_dir: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read ``test_accuracies.npz``: training set sizes, test accuracies."""
    path = accuracies_path(run_dir)
    arrays = _accuracies(path)
    sizes, accuracies = arrays["dataset_sizes"], arrays["test_accuracies"]
    if len(sizes) != len(accuracies):
        raise InputError(f"{path}: {len(sizes)} dataset_sizes but {len(accuracies)} test_accuracies")
    return np.array(sizes, dtype=np.int64), np.array(accuracies, dtype=np.float64)
