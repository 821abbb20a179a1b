"""``<type>_<level>/loss_<threshold>/mass.json``: the log masses of the minima in one landscape."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from volume_lib.errors import InputError
from volume_lib.storage import schema
from volume_lib.storage.paths import INTEGRATION_NOTEBOOK, results_dir
from volume_lib.storage.results import load_strict_json, save_strict_json

_NAME = "mass.json"
_COUNTS, _NUMBERS = schema.many(schema.whole()), schema.many(schema.number())
_INTERVALS, _WORDS = schema.many(_NUMBERS), schema.many(schema.text())
_BY_MINIMUM: dict[str, schema.Check] = {
    "key_values": schema.many(schema.value),
    "model_data_levels": _COUNTS,
    "weights_digests": _WORDS,
    "log_mass_values": _NUMBERS,
    "log_mass_intervals": _INTERVALS,
    "forward_values": _NUMBERS,
    "backward_values": _NUMBERS,
    "converged": schema.many(schema.either(True, False)),
    "reasons": _WORDS,
    "log_mass_rays_values": _NUMBERS,
    "log_mass_rays_ci": _INTERVALS,
    "log_mass_rays_effective_directions": _NUMBERS,
}
_MASSES = _BY_MINIMUM | {
    "key": schema.NAME,
    "dataset_type": schema.NAME,
    "loss_landscape_data_param": schema.whole(),
    "base_dataset_size": schema.whole(),
    "num_params": schema.whole(1),
    "loss_threshold": schema.number(0, nan=False),
    "reference": schema.text(),
    "region": schema.either("visible", "connected"),
    "samples_digest": schema.text(),
}

_TERM = schema.optional(schema.number())  # a null is what was not finite
_NAMES = ("log_mass", "forward", "backward", "gap", "threshold", "forward_error", "backward_error", "spacing")
_NAMES += ("rhat", "ess", "acceptance", "visible_share", "seconds", "rays", "effort_minutes")
_RECORD: dict[str, schema.Check] = {name: _TERM for name in _NAMES} | {
    "interval": schema.many(_TERM, at_least=2),
    "converged": schema.either(True, False),
    "reason": schema.text(),
    "reference": schema.text(),
    "region": schema.either("visible", "connected"),
    "num_params": schema.whole(1),
    "gradients": schema.whole(),
    "path": schema.many(schema.named),
    "history": schema.many(schema.named),
    "notes": _WORDS,
}
"""How one minimum's mass was found; there is none (``{}``) for a minimum above the threshold."""

_CURVE: dict[str, schema.Check] = {
    "with": schema.value,
    "joined": schema.either(True, False),
    "highest": _TERM,
    "largest_step": _TERM,
    "points": schema.whole(),
    "bends": schema.whole(),
}
"""A curve from another minimum of the file; ``{}`` for the first, and in files without."""

_OF_RAYS = ("log_mass_rays_values", "log_mass_rays_ci", "log_mass_rays_effective_directions")


def mass_path(run_dir: str | Path, dataset_type: str, level: int, threshold: float) -> Path:
    """The log masses of the minima in one landscape at one loss threshold."""
    return results_dir(run_dir, dataset_type, level, threshold) / _NAME


def mass_beside(results_path: str | Path) -> Path:
    """The log masses of the landscape and threshold of a ``results.json``."""
    return Path(results_path).with_name(_NAME)


def mass_state_path(path: str | Path, key: str, value: int | float) -> Path:
    """Where the chains of one minimum of ``path``, a ``mass.json``, stand: more effort goes on from there."""
    return Path(path).parent / "mass_states" / f"{key}_{value}.pt"


def save_masses(path: str | Path, masses: dict[str, Any]) -> Path:
    """Write a ``mass.json`` (strict JSON; the log of no mass, and what is unknown, are null)."""
    rays = {key: [_or_null(value) for value in masses[key]] for key in _OF_RAYS}
    return save_strict_json(Path(path), {**masses, **rays})


def load_masses(path: str | Path) -> dict[str, Any]:
    """Read a ``mass.json``: lists of one entry for each minimum, and ``records`` of how each was found.

    ``log_mass_values`` are ``-inf`` for a minimum above the threshold. Raises InputError naming file and key.
    """
    path = Path(path)
    needed = (*_MASSES, "records")
    content = load_strict_json(path, needed, INTEGRATION_NOTEBOOK)
    schema.check(path, content, _MASSES, INTEGRATION_NOTEBOOK)
    count = len(content["key_values"])
    content.setdefault("same_region", [{}] * count)
    for key in (*_BY_MINIMUM, "records", "same_region"):
        if not isinstance(content[key], list) or len(content[key]) != count:
            raise InputError(f"{path}: {key}: must have {count} entries, as key_values has")
    needed = tuple(key for key in _RECORD if key != "effort_minutes")  # which batches alone write
    for i, record in enumerate(content["records"]):
        if record != {}:
            schema.require(path, record, needed, INTEGRATION_NOTEBOOK)
            schema.check(path, record, _RECORD, INTEGRATION_NOTEBOOK, f"records[{i}] ")
    for i, curve in enumerate(content["same_region"]):
        if curve != {}:
            where = f"same_region[{i}] "
            schema.require(path, curve, tuple(_CURVE), INTEGRATION_NOTEBOOK)
            schema.check(path, curve, _CURVE, INTEGRATION_NOTEBOOK, where)
    for key in ("log_mass_intervals", "log_mass_rays_ci"):
        if any(len(pair) != 2 for pair in content[key]):
            raise InputError(f"{path}: {key}: must have a low and a high end for each minimum")
    for i, carried in enumerate(content[_OF_RAYS[-1]]):
        if math.isnan(
            carried
        ):  # a null is minus infinity where there are rays, and unknown where there are none
            content["log_mass_rays_values"][i], content["log_mass_rays_ci"][i] = (
                math.nan,
                [math.nan, math.nan],
            )
    return content


def _or_null(value: Any) -> Any:
    """Unknown numbers as null, in lists too."""
    if isinstance(value, list | tuple):
        return [_or_null(part) for part in value]
    return None if math.isnan(value) else value
