"""An experiment's runs as one tidy table: a row for each run, landscape and minimum."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL

COLUMNS: dict[str, type] = {
    "run": object,
    "model_seed": int,
    "data_seed": int,
    "landscape": int,
    "minimum": int,
    "trained_data": int,
    "train_size": float,
    "landscape_size": float,
    "log_exp_r_n": float,
    "ci_low": float,
    "ci_high": float,
    "resolution": float,
    "effective_directions": float,
    "num_censored": float,
    "log_volume": float,
    "log_exp_r_n_acc": float,
    "test_loss": float,
    "test_acc": float,
    "train_loss": float,
    "num_params": float,
    "cutoff": float,
}
"""Columns of the table. ``landscape``, ``trained_data``: additional samples. ``minimum``: what tells
the minima apart (their additional samples, or the batch size …). ``train_size``, ``landscape_size``: the
same with the base samples, NaN where the files do not say how many there are. Volumes, their interval
and ``resolution`` are in nats, −inf for no volume, NaN where a file does not say; so are the losses.
``cutoff``: additional samples from which on the minimum has no volume, inf if it always has one."""

QUANTITIES = ("log_exp_r_n", "log_volume", "log_exp_r_n_acc")
"""Columns that are a log volume."""

_LISTS = {
    "log_exp_r_n": "log_exp_r_n_values",
    "resolution": "log_exp_r_n_resolution",
    "effective_directions": "effective_directions",
    "num_censored": "num_censored",
    "log_volume": "log_volume_values",
    "log_exp_r_n_acc": "log_exp_r_n_acc_values",
    "test_loss": "test_loss_values",
    "test_acc": "test_acc_values",
    "train_loss": "train_loss_values",
}


@dataclass(frozen=True)
class Experiment:
    """The complete runs of one experiment at one loss threshold.

    ``table`` (R,) has the fields of :data:`COLUMNS`. ``left_out`` says of each run that is not in it
    why; ``notes`` what the runs in it lack that only some figures need. ``key`` is what varies between
    the minima.
    """

    folder: Path
    name: str
    loss_threshold: float
    dataset_type: str
    key: str
    table: np.ndarray
    left_out: dict[str, str]
    notes: dict[str, str]

    @property
    def runs(self) -> list[str]:
        return list(dict.fromkeys(self.table["run"]))

    @property
    def landscapes(self) -> list[int]:
        """Levels of the landscapes, increasing."""
        return [int(v) for v in np.unique(self.table["landscape"])]

    @property
    def minima(self) -> list[int]:
        """What tells the minima apart, increasing: data levels, batch sizes …"""
        return [int(v) for v in np.unique(self.table["minimum"])]

    @property
    def counts_training_data(self) -> bool:
        """Whether the minima differ in training data whose amounts, base samples included, are known.

        Poison and noise are not training data in this sense: they keep amounts of their own.
        """
        known = bool(np.isfinite(self.table["train_size"]).all())
        return self.key == ADDITIONAL and self.dataset_type == "data" and known

    @property
    def minima_sizes(self) -> np.ndarray:
        """(M,) training-set sizes of the minima if they count training data, else :attr:`minima`."""
        return self._base() + np.asarray(self.minima, dtype=float)

    @property
    def landscape_sizes(self) -> np.ndarray:
        """(L,) samples in each landscape if the minima count training data, else the additional ones."""
        return self._base() + np.asarray(self.landscapes, dtype=float)

    def _base(self) -> float:
        first = self.table[0]
        return float(first["train_size"] - first["trained_data"]) if self.counts_training_data else 0.0

    def rows(self, **where: Any) -> np.ndarray:
        """The rows whose columns equal ``where``: ``experiment.rows(landscape=0, minimum=540)``."""
        keep = np.ones(len(self.table), dtype=bool)
        for column, value in where.items():
            keep &= self.table[column] == value
        return self.table[keep]

    def matrix(self, column: str, landscape: int) -> np.ndarray:
        """(runs, minima) values of ``column`` in one landscape; NaN where a run lacks the minimum."""
        runs = {run: i for i, run in enumerate(self.runs)}
        minima = {level: j for j, level in enumerate(self.minima)}
        values = np.full((len(runs), len(minima)), np.nan)
        for row in self.rows(landscape=landscape):
            values[runs[row["run"]], minima[int(row["minimum"])]] = row[column]
        return values

    def describe(self) -> str:
        """What was loaded and what was not, in a few lines."""
        lines = [
            f"{self.folder}: {len(self.runs)} complete runs, loss threshold {self.loss_threshold:g}, "
            f"landscapes {self.landscapes}, minima by {self.key}: {self.minima}"
        ]
        lines += [f"  left out: {run}: {why}" for run, why in self.left_out.items()]
        lines += [f"  {run}: {what}" for run, what in self.notes.items()]
        return "\n".join(lines)


def load_experiment(
    folder: str | Path, loss_threshold: float | None = None, dataset_type: str | None = None
) -> Experiment:
    """Load every run of an experiment folder, whichever version of the notebooks wrote it.

    Without ``loss_threshold`` the one that most runs have is taken, the smallest of equals. A run is
    complete if every landscape of the experiment that its own minima belong to has its results, with
    all its minima that were trained on at least that landscape's data, and, where experiment.yaml says
    which levels were planned, if it has all of them. Others are left out and named.

    Raises :class:`InputError` if there is no run, none is complete, or the threshold or type is not there.
    """
    folder = Path(folder)
    found = {run.name: storage.list_results(run) for run in storage.list_runs(folder)}
    if not found:
        raise InputError(
            f"{folder}: no run folders model_<seed>_data_<seed> here; give the experiment's folder"
        )
    dataset_type = _choose_type(folder, found, dataset_type)
    loss_threshold = _choose_threshold(folder, found, dataset_type, loss_threshold)
    contents: dict[str, dict[int, dict[str, Any]]] = {}
    left_out: dict[str, str] = {}
    for run, files in found.items():
        try:
            contents[run] = {
                level: storage.load_results(path)
                for (kind, level, threshold), path in files.items()
                if kind == dataset_type and math.isclose(threshold, loss_threshold)
            }
        except InputError as error:
            left_out[run] = str(error)
    left_out |= _incomplete(contents, _planned(folder), loss_threshold)
    complete = {run: results for run, results in contents.items() if run not in left_out}
    if not complete:
        whys = "; ".join(f"{run}: {why}" for run, why in left_out.items())
        raise InputError(f"{folder}: no complete run at loss threshold {loss_threshold:g} ({whys})")
    notes: dict[str, str] = {}
    rows: list[tuple] = []
    for run, results in complete.items():
        rows += _run_rows(folder / run, results, loss_threshold, notes)
    table = np.array(rows, dtype=[(name, kind) for name, kind in COLUMNS.items()])
    table = table[np.lexsort((table["minimum"], table["landscape"], table["data_seed"], table["model_seed"]))]
    first = next(iter(next(iter(complete.values())).values()))
    name = "/".join(folder.resolve().parts[-2:])
    key = first.get("key", ADDITIONAL)
    return Experiment(folder, name, loss_threshold, dataset_type, key, table, left_out, notes)


def write_summary(experiment: Experiment, path: str | Path | None = None) -> Path:
    """Write the table as CSV, by default ``<experiment>/analysis/summary.csv``; what is unknown is empty."""
    path = Path(path) if path is not None else experiment.folder / "analysis" / "summary.csv"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in experiment.table:
        writer.writerow(["" if v != v else v for v in row.item()])
    storage.write_bytes(path, text.getvalue().encode())
    return path


def minima_of(results: Mapping[str, Any]) -> list[int]:
    """What tells the minima of a ``results.json`` apart, in the order of its lists."""
    return [int(v) for v in results.get("key_values", results["model_data_levels"])]


def curve_samples(cutoff: Mapping[str, Any]) -> np.ndarray:
    """(C,) numbers of samples at which a ``loss_curve`` is given: all, or ``samples`` if it is thinned."""
    return np.asarray(cutoff.get("samples") or np.arange(1, len(cutoff["loss_curve"]) + 1))


def cutoff_level(cutoff: Mapping[str, Any], loss_threshold: float) -> float:
    """Additional samples from which on a minimum (a ``cutoffs.json`` entry) has no volume; inf if never."""
    additional = curve_samples(cutoff) - int(cutoff["base_train_size"])
    curve = np.array([math.nan if v is None else v for v in cutoff["loss_curve"]], dtype=float)
    above = (additional >= 0) & ~(curve <= loss_threshold)
    return float(additional[np.argmax(above)]) if above.any() else math.inf


def _choose_type(folder: Path, found: Mapping[str, Mapping], wanted: str | None) -> str:
    kinds = sorted({kind for files in found.values() for kind, _, _ in files})
    if not kinds:
        raise InputError(f"{folder}: no run has a results.json yet; {storage.VOLUME_NOTEBOOK!r} writes them")
    if wanted is None and len(kinds) > 1:
        raise InputError(
            f"{folder}: landscapes of several kinds; say dataset_type = one of {', '.join(kinds)}"
        )
    if wanted is not None and wanted not in kinds:
        raise InputError(f"{folder}: no landscapes of dataset_type {wanted!r}, only {', '.join(kinds)}")
    return wanted or kinds[0]


def _choose_threshold(folder: Path, found: Mapping[str, Mapping], kind: str, wanted: float | None) -> float:
    thresholds = [{t for k, _, t in files if k == kind} for files in found.values()]
    counts = Counter(t for have in thresholds for t in have)
    if wanted is None:
        return min(counts, key=lambda t: (-counts[t], t))
    for threshold in counts:
        if math.isclose(threshold, wanted):
            return threshold
    known = ", ".join(f"{t:g}" for t in sorted(counts))
    raise InputError(f"{folder}: no results at loss_threshold {wanted:g}, only at {known}")


def _planned(folder: Path) -> tuple[list[str], list[int]]:
    """Runs and levels that experiment.yaml asks for; both empty without one."""
    return [], []


def _incomplete(
    contents: Mapping[str, Mapping[int, Mapping[str, Any]]],
    planned: tuple[list[str], list[int]],
    threshold: float,
) -> dict[str, str]:
    """Of each run that lacks something: what."""
    left_out = {run: "the run folder is missing" for run in planned[0] if run not in contents}
    landscapes = {level for results in contents.values() for level in results}
    for run, results in contents.items():
        if not results:
            left_out[run] = f"no results.json at loss threshold {threshold:g}"
            continue
        by_data = next(iter(results.values())).get("key", ADDITIONAL) == ADDITIONAL
        own = {minimum for result in results.values() for minimum in minima_of(result)} | set(planned[1])
        expected = {level for level in landscapes if not by_data or level in own} | set(results)
        missing = [f"landscape {level}" for level in sorted(expected - set(results))]
        for level, result in sorted(results.items()):
            needed = {m for m in own if not by_data or m >= level}
            lacking = sorted(needed - set(minima_of(result)))
            missing += [f"minimum {m} in landscape {level}" for m in lacking]
        if missing:
            left_out[run] = "partial, lacks " + ", ".join(missing)
    return left_out


def _run_rows(
    run_dir: Path, contents: Mapping[int, Mapping[str, Any]], threshold: float, notes: dict[str, str]
) -> list[tuple]:
    """One tuple in the order of :data:`COLUMNS` for each landscape and minimum of a run."""
    model_seed, data_seed = (int(v) for v in re.findall(r"\d+", run_dir.name))
    lacking = []
    try:
        cutoffs = {int(key.rpartition("_")[2]): entry for key, entry in storage.load_cutoffs(run_dir).items()}
    except InputError as error:
        cutoffs = {}
        lacking.append(str(error))
    base = _base_size(contents, cutoffs)
    accuracies = _accuracies(run_dir, contents, base, lacking)
    rows = []
    for landscape, result in contents.items():
        for i, minimum in enumerate(minima_of(result)):
            values: dict[str, Any] = {name: _entry(result, key, i) for name, key in _LISTS.items()}
            values["ci_low"], values["ci_high"] = _entry(result, "log_exp_r_n_ci", i, (math.nan, math.nan))
            if math.isnan(values["test_acc"]):
                values["test_acc"] = accuracies.get(minimum, math.nan)
            trained = int(result["model_data_levels"][i])
            cutoff = cutoff_level(cutoffs[minimum], threshold) if minimum in cutoffs else math.nan
            values |= {
                "run": run_dir.name,
                "model_seed": model_seed,
                "data_seed": data_seed,
                "cutoff": cutoff,
            }
            values |= {"landscape": landscape, "minimum": minimum, "trained_data": trained}
            values |= {"train_size": base + trained, "landscape_size": base + landscape}
            values["num_params"] = result.get("num_params", math.nan)
            rows.append(tuple(values[name] for name in COLUMNS))
    if lacking:
        notes[run_dir.name] = "; ".join(lacking)
    return rows


def _entry(result: Mapping[str, Any], key: str, i: int, default: Any = math.nan) -> Any:
    values = result.get(key)
    if values is None:
        return default
    return values[i] if values[i] is not None else default


def _base_size(contents: Mapping[int, Mapping[str, Any]], cutoffs: Mapping[int, Mapping[str, Any]]) -> float:
    for source in (*contents.values(), *cutoffs.values()):
        for key in ("base_dataset_size", "base_train_size"):
            if key in source:
                return float(source[key])
    return math.nan


def _accuracies(
    run_dir: Path, contents: Mapping[int, Mapping[str, Any]], base: float, lacking: list[str]
) -> dict[int, float]:
    """Test accuracy of each minimum from test_accuracies.npz, for results that do not hold it themselves."""
    if all("test_acc_values" in result for result in contents.values()):
        return {}
    try:
        sizes, accuracies = storage.load_test_accuracies(run_dir)
    except InputError as error:
        lacking.append(str(error))
        return {}
    minima = sorted({m for result in contents.values() for m in minima_of(result)})
    by_size = dict(zip((int(s) for s in sizes), (float(a) for a in accuracies), strict=True))
    # Some older files count the base samples among the sizes, some do not.
    for shift in (0 if math.isnan(base) else int(base), 0):
        if all(m + shift in by_size for m in minima):
            return {m: by_size[m + shift] for m in minima}
    lacking.append(
        f"{storage.accuracies_path(run_dir)}: its sizes {sorted(by_size)} are not those of the minima"
    )
    return {}
