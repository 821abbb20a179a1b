"""What the files of one run say of each minimum in each landscape: the rows of the table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.analysis.runs import minima_of
from volume_lib.analysis.table import COLUMNS
from volume_lib.cutoffs import zero_volume_level
from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL
from volume_lib.volume.diagnostics import grid_resolution

_LISTS = {
    "log_exp_r_n": "log_exp_r_n_values",
    "resolution": "log_exp_r_n_resolution",
    "effective_directions": "effective_directions",
    "num_censored": "num_censored",
    "log_volume": "log_volume_values",
    "log_exp_r_n_acc": "log_exp_r_n_acc_values",
    "log_mass_rays": "log_mass_rays_values",
    "log_mass_rays_directions": "log_mass_rays_effective_directions",
    "test_loss": "test_loss_values",
    "test_acc": "test_acc_values",
    "train_loss": "train_loss_values",
    "mean_radius": "mean_radius_values",
    "median_radius": "median_radius_values",
}
"""Columns that are a list of the results, one entry for each minimum; NaN where a file has no such list."""


Cutoffs = Mapping[str, dict[str, Any]]
"""The content of a ``cutoffs.json``."""


class Run:
    """One run on its way into the table."""

    def __init__(
        self,
        name: str,
        folder: Path,
        contents: Mapping[int, Mapping[str, Any]],
        cutoffs: Cutoffs | None,
        threshold: float,
        key: str,
        base: float,
    ):
        self.name, self.folder, self.contents = name, folder, contents
        self.threshold, self.key, self.base = threshold, key, base
        self.seeds = storage.run_seeds(folder.resolve()) or (-1, -1)
        self.notes: list[str] = []
        self.masses: dict[int, dict[str, Any]] = {}
        self.cutoffs = self._by_minimum(cutoffs)
        self.accuracies = self._accuracies()

    def rows(self) -> Iterator[tuple]:
        """One tuple in the order of :data:`COLUMNS` for each landscape and minimum."""
        untold: list[str] = []
        for landscape, result in self.contents.items():
            for i, minimum in enumerate(minima_of(result)):
                values: dict[str, Any] = {name: _entry(result, key, i) for name, key in _LISTS.items()}
                values |= _ends(result, "log_exp_r_n_ci", i, "ci")
                values |= _ends(result, "log_mass_rays_ci", i, "log_mass_rays")
                values |= self._mass(landscape, minimum)
                if self._never_crossed(result, values):
                    values["log_exp_r_n"] = math.nan
                    untold.append(f"{minimum:,} in landscape {landscape:,}")
                if math.isnan(values["resolution"]):
                    values["resolution"] = _grid_spacing(result, i)
                if math.isnan(values["test_acc"]):
                    values["test_acc"] = self.accuracies.get(minimum, math.nan)
                by_value = "key_values" not in result and self.key != ADDITIONAL
                trained = landscape if by_value else int(result["model_data_levels"][i])
                values |= {"run": self.name, "model_seed": self.seeds[0], "data_seed": self.seeds[1]}
                values |= {"landscape": landscape, "minimum": minimum, "trained_data": trained}
                values |= {"train_size": self.base + trained, "landscape_size": self.base + landscape}
                values["num_params"] = _size(result, i)
                values["cutoff"] = self._cutoff(minimum)
                yield tuple(values[name] for name in COLUMNS)
        if untold:
            self.notes.append(
                f"no direction crossed the threshold, so nothing is told of the volume of {'; '.join(untold)}"
            )

    def load_masses(self, dataset_type: str) -> None:
        """The ``mass.json`` beside each landscape's results, where they are of the same weights."""
        for landscape, result in self.contents.items():
            path = storage.mass_path(self.folder, dataset_type, landscape, self.threshold)
            if not path.exists():
                continue
            try:
                found = storage.load_masses(path)
            except InputError as error:
                self.notes.append(str(error))
                continue
            own = dict(zip(minima_of(result), result.get("weights_digests", ()), strict=False))
            told = zip(found["key_values"], found["weights_digests"], strict=True)
            if any(own.get(minimum, digest) != digest for minimum, digest in told):
                self.notes.append(f"{path}: is of other weights than the volumes beside it, and left out")
            else:
                self.masses[landscape] = found

    def _mass(self, landscape: int, minimum: float) -> dict[str, float]:
        found = self.masses.get(landscape, {"key_values": []})
        if minimum not in found["key_values"]:
            return {"log_mass": math.nan, "log_mass_low": math.nan, "log_mass_high": math.nan}
        i = found["key_values"].index(minimum)
        return {"log_mass": found["log_mass_values"][i]} | _ends(found, "log_mass_intervals", i, "log_mass")

    def _never_crossed(self, result: Mapping[str, Any], values: dict[str, Any]) -> bool:
        """Whether an older file's −Infinity stands for no crossing at all, and not for no volume.

        Older notebooks left out directions that never crossed. Where all did, the mean over none was
        −Infinity, as it is for a minimum above the threshold; only the loss at its centre tells them apart.
        """
        return (
            "num_directions" not in result
            and values["log_exp_r_n"] == -math.inf
            and values["train_loss"] <= self.threshold
        )

    def _by_minimum(self, cutoffs: Cutoffs | None) -> dict[float, dict[str, Any]]:
        try:  # there is none: the reader says who writes it
            found = storage.load_cutoffs(self.folder) if cutoffs is None else cutoffs
            return {storage.value_of(name): entry for name, entry in found.items()}
        except InputError as error:
            self.notes.append(str(error))
            return {}

    def _cutoff(self, minimum: float) -> float:
        entry = self.cutoffs.get(minimum)
        if entry is None:
            return math.nan
        level = zero_volume_level(entry, self.threshold)
        return math.inf if level is None else float(level)

    def _accuracies(self) -> dict[float, float]:
        """Test accuracy of each minimum from test_accuracies.npz, where the results do not hold it."""
        if all("test_acc_values" in result for result in self.contents.values()):
            return {}
        try:
            sizes, accuracies = storage.load_test_accuracies(self.folder)
        except InputError as error:
            self.notes.append(str(error))
            return {}
        minima = sorted({m for result in self.contents.values() for m in minima_of(result)})
        by_size: dict[float, float] = dict(
            zip((int(s) for s in sizes), (float(a) for a in accuracies), strict=True)
        )
        # Some older files count the base samples among the sizes, some do not.
        for shift in (0 if math.isnan(self.base) else int(self.base), 0):
            if all(m + shift in by_size for m in minima):
                return {m: by_size[m + shift] for m in minima}
        path = storage.accuracies_path(self.folder)
        self.notes.append(f"{path}: its sizes {sorted(by_size)} are not those of the minima")
        return {}


def _entry(result: Mapping[str, Any], key: str, i: int, default: Any = math.nan) -> Any:
    values = result.get(key)
    if values is None or (key == "log_exp_r_n_acc_values" and not accuracies_tell(result)):
        return default
    return values[i] if values[i] is not None else default


def _size(result: Mapping[str, Any], i: int) -> float:
    """Parameters of a minimum's network; NaN where a file does not say."""
    own = result.get("num_params_values")
    return own[i] if own else result.get("num_params", math.nan)


def _ends(result: Mapping[str, Any], key: str, i: int, name: str) -> dict[str, float]:
    """An interval as two columns; NaN where a file does not say."""
    low, high = _entry(result, key, i, (math.nan, math.nan))
    return {f"{name}_low": low, f"{name}_high": high}


def accuracies_tell(result: Mapping[str, Any]) -> bool:
    """False where an older file has −Infinity for every minimum: no direction crossed the accuracy."""
    values = result["log_exp_r_n_acc_values"]
    return "num_directions" in result or any(value not in (None, -math.inf) for value in values)


def _grid_spacing(result: Mapping[str, Any], i: int) -> float:
    tops, n = result.get("top_r_vals"), _size(result, i)
    return math.nan if not tops or math.isnan(n) or not tops[i] else grid_resolution(tops[i], int(n))
