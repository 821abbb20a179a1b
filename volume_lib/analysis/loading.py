"""From the folder of an experiment to its table: which runs are complete, and what their files say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib import storage
from volume_lib.analysis import runs
from volume_lib.analysis.failed import apply_rule
from volume_lib.analysis.runs import UNKNOWN, Contents, minima_of
from volume_lib.analysis.table import COLUMNS, ExperimentResults, Stability
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


def load_experiment(
    folder: str | Path,
    loss_threshold: float | None = None,
    dataset_type: str | None = None,
    *,
    key: str | None = None,
    base_size: int | None = None,
    failed: str = "no volume",
) -> ExperimentResults:
    """Load every run of an experiment folder, whichever version of the notebooks wrote it.

    Without ``loss_threshold`` the one that most runs have is taken, the smallest of equals. A run is
    complete if every landscape of the experiment that its own minima belong to has its results, with
    all its minima that were trained on at least that landscape's data, and, where experiment.yaml says
    which levels were planned, if it has all of them. Others are left out and named, as are runs whose files
    say that they were made with other settings than experiment.yaml's.

    ``key``: what varies between the minima (``"additional"``, ``"batch_size"`` …), ``base_size``: how many
    samples all have seen. Both are needed for older files only, which do not say; without them their minima
    may be of an unknown kind, and sizes stay additional samples. ``failed`` is what becomes of networks
    whose training ended above the threshold (:mod:`volume_lib.analysis.failed`).

    Raises :class:`InputError` if there is no run, none is complete, the threshold or type is not there, or
    ``key`` or ``base_size`` contradict the files.
    """
    folder = Path(folder)
    found = runs.find_runs(folder)
    expected = runs.expected_of(folder)
    dataset_type = runs.choose_type(folder, found, dataset_type or expected.dataset_type)
    loss_threshold = runs.choose_threshold(folder, found, dataset_type, loss_threshold)
    contents, cutoffs, left_out = _read(found, dataset_type, loss_threshold)
    key = runs.choose_key(folder, contents, key, expected)
    left_out |= runs.incomplete(contents, expected, loss_threshold, key)
    left_out |= runs.differing(folder, found, dataset_type)
    complete = {run: results for run, results in contents.items() if run not in left_out}
    sizes = _base_sizes(folder, found, complete, base_size, expected.base_size, left_out)
    complete = {run: results for run, results in complete.items() if run not in left_out}
    if not complete:
        whys = "; ".join(f"{run}: {why}" for run, why in left_out.items())
        raise InputError(f"{folder}: no complete run at loss threshold {loss_threshold:g} ({whys})")
    notes = runs.oddities(complete)
    rows: list[tuple] = []
    masses: dict[int, list[dict[str, Any]]] = {}
    for run, results in complete.items():
        read = _Run(run, found[run].folder, results, cutoffs.get(run), loss_threshold, key, sizes[run])
        read.load_masses(dataset_type)
        for level, mass in read.masses.items():
            masses.setdefault(level, []).append(mass)
        rows += read.rows()
        if read.notes:
            notes[run] = "; ".join([*([notes[run]] if run in notes else []), *read.notes])
    table = np.array(rows, dtype=[(name, kind) for name, kind in COLUMNS.items()])
    table = table[np.lexsort((table["minimum"], table["landscape"], table["data_seed"], table["model_seed"]))]
    table, failures = apply_rule(table, loss_threshold, failed)
    first = next(iter(next(iter(complete.values())).values()))
    return ExperimentResults(
        folder=folder,
        name="/".join(folder.resolve().parts[-2:]),
        loss_threshold=loss_threshold,
        dataset_type=dataset_type,
        key=key,
        table=table,
        left_out=left_out,
        notes=notes,
        loss_unit=first["loss_unit"],
        remarks=_remarks(complete, key, sizes),
        failed=failed,
        failures=failures,
        stability=_stability(complete),
        masses=masses,
    )


def _read(
    found: Mapping[str, runs.Found], kind: str, threshold: float
) -> tuple[Contents, dict[str, Cutoffs], dict[str, str]]:
    """The results of each run at one threshold, its cutoffs if it has any, and of each run that cannot be
    read, or whose files do not belong together: why."""
    contents: dict[str, dict[int, dict[str, Any]]] = {}
    cutoffs: dict[str, Cutoffs] = {}
    left_out: dict[str, str] = {}
    for run, (folder, files) in found.items():
        chosen = {
            level: path
            for (its_kind, level, its_threshold), path in files.items()
            if its_kind == kind and math.isclose(its_threshold, threshold)
        }
        try:
            contents[run] = {level: storage.load_results(path) for level, path in chosen.items()}
            of_files = {path: contents[run][level] for level, path in chosen.items()}
            if storage.cutoffs_path(folder).exists():
                cutoffs[run] = storage.load_cutoffs(folder)
            accuracies = (
                storage.accuracies_weights(folder) if storage.accuracies_path(folder).exists() else None
            )
            if told := storage.stale(folder, of_files, cutoffs.get(run), accuracies):
                left_out[run] = told
        except InputError as error:
            left_out[run] = str(error)
    return contents, cutoffs, left_out


def _base_sizes(
    folder: Path,
    found: Mapping[str, runs.Found],
    contents: Contents,
    wanted: int | None,
    planned: int | None,
    left_out: dict[str, str],
) -> dict[str, float]:
    """Base samples of each run, NaN where nothing says; runs that say other than most join ``left_out``."""
    said = {run: _said_base_size(found[run].folder, results) for run, results in contents.items()}
    counts = Counter(size for size in said.values() if size is not None)
    if wanted is not None and counts and set(counts) != {wanted}:
        raise InputError(f"{folder}: base_size {wanted}, but the files say {runs.words(sorted(counts))}")
    usual = counts.most_common(1)[0][0] if counts else wanted or planned
    for run, size in said.items():
        if size is not None and size != usual:
            left_out[run] = f"its base data are {size:,} samples, those of the others {usual:,}"
    return {run: math.nan if usual is None else float(usual) for run in said}


def _said_base_size(folder: Path, contents: Mapping[int, Mapping[str, Any]]) -> int | None:
    for result in contents.values():
        if "base_dataset_size" in result:
            return int(result["base_dataset_size"])
    try:
        cutoffs = storage.load_cutoffs(folder)
    except InputError:
        return None
    return next((int(entry["base_train_size"]) for entry in cutoffs.values()), None)


class _Run:
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
    if values is None or (key == "log_exp_r_n_acc_values" and not _accuracies_tell(result)):
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


def _accuracies_tell(result: Mapping[str, Any]) -> bool:
    """False where an older file has −Infinity for every minimum: no direction crossed the accuracy."""
    values = result["log_exp_r_n_acc_values"]
    return "num_directions" in result or any(value not in (None, -math.inf) for value in values)


def _grid_spacing(result: Mapping[str, Any], i: int) -> float:
    tops, n = result.get("top_r_vals"), _size(result, i)
    return math.nan if not tops or math.isnan(n) or not tops[i] else grid_resolution(tops[i], int(n))


def _remarks(contents: Contents, key: str, sizes: Mapping[str, float]) -> list[str]:
    """What the files of the whole experiment do not say, and how to say it."""
    results = [result for run in contents.values() for result in run.values()]
    remarks = []
    if key == UNKNOWN:
        values = runs.words(sorted({m for result in results for m in minima_of(result)}))
        remarks.append(
            f"the files do not say what tells the minima {values} apart, and none belongs to its landscape: "
            "they are no amounts of data; give key, as 'batch_size' or 'epochs'"
        )
    if key == ADDITIONAL and any(math.isnan(size) for size in sizes.values()):
        remarks.append("the files do not say how many base samples there are; give base_size")
    silent = [r for r in results if "log_exp_r_n_acc_values" in r and not _accuracies_tell(r)]
    if silent:
        remarks.append(
            "volumes by accuracy are −Infinity for every minimum: no direction fell below the accuracy "
            "threshold, so the files tell nothing about them"
        )
    return remarks


def _stability(contents: Contents) -> dict[int, list[Stability]]:
    """Landscape → how reliable the order is, run by run, where the files say."""
    found: dict[int, list[Stability]] = {}
    for results in contents.values():
        for level, result in results.items():
            if "subset_sizes" in result and "radii_rank_probabilities" in result:
                found.setdefault(level, []).append(
                    Stability(
                        *(
                            [float(v) for v in result.get(name, [])]
                            for name in (
                                "subset_sizes",
                                "radii_rank_probabilities",
                                "radii_rank_probabilities_full",
                                "largest_radius_rank_probabilities",
                                "largest_radius_rank_probabilities_full",
                            )
                        )
                    )
                )
    return found
