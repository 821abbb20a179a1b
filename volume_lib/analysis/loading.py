"""From the folder of an experiment to its table: which runs are complete, and what their files say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from volume_lib import storage
from volume_lib.analysis.table import COLUMNS, ExperimentResults
from volume_lib.cutoffs import zero_volume_level
from volume_lib.errors import InputError
from volume_lib.experiment.file import FILE_NAME, read_experiment
from volume_lib.records import ADDITIONAL

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


def load_experiment(
    folder: str | Path, loss_threshold: float | None = None, dataset_type: str | None = None
) -> ExperimentResults:
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
    plan = _plan(folder)
    dataset_type = _choose_type(folder, found, dataset_type or plan.dataset_type)
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
    left_out |= _incomplete(contents, plan, loss_threshold)
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
    unit = first["loss_unit"]
    return ExperimentResults(folder, name, loss_threshold, dataset_type, key, table, left_out, notes, unit)


def minima_of(results: Mapping[str, Any]) -> list[int]:
    """What tells the minima of a ``results.json`` apart, in the order of its lists."""
    return [int(v) for v in results.get("key_values", results["model_data_levels"])]


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


class _Plan(NamedTuple):
    """What experiment.yaml asks for; all empty without one."""

    runs: Sequence[str] = ()
    minima: Sequence[int] = ()
    landscapes: Sequence[int] = ()
    dataset_type: str | None = None


def _plan(folder: Path) -> _Plan:
    if not (folder / FILE_NAME).exists():
        return _Plan()
    asked = read_experiment(folder)
    levels = asked.train.dataset_quantities
    landscapes = asked.perturb.landscape_levels or levels
    if asked.train.vary and not asked.perturb.all_pairs:  # all minima have seen the same data
        landscapes = [level for level in landscapes if level <= levels[0]]
    return _Plan(
        runs=[seeds.name for seeds in asked.run_seeds],
        minima=asked.train.values or levels,
        landscapes=landscapes,
        dataset_type=asked.train.dataset_type,
    )


def _incomplete(
    contents: Mapping[str, Mapping[int, Mapping[str, Any]]],
    plan: _Plan,
    threshold: float,
) -> dict[str, str]:
    """Of each run that lacks something: what."""
    left_out = {run: "the run folder is missing" for run in plan.runs if run not in contents}
    landscapes = {level for results in contents.values() for level in results} | set(plan.landscapes)
    for run, results in contents.items():
        if not results:
            left_out[run] = f"no results.json at loss threshold {threshold:g}"
            continue
        by_data = next(iter(results.values())).get("key", ADDITIONAL) == ADDITIONAL
        own = {minimum for result in results.values() for minimum in minima_of(result)} | set(plan.minima)
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
    model_seed, data_seed = storage.run_seeds(run_dir)
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
            cutoff = _cutoff(cutoffs.get(minimum), threshold)
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


def _cutoff(entry: dict[str, Any] | None, threshold: float) -> float:
    if entry is None:
        return math.nan
    level = zero_volume_level(entry, threshold)
    return math.inf if level is None else float(level)


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
