"""Which runs an experiment's folder holds, what they are to hold, and what tells their minima apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.experiment.differences import run_difference
from volume_lib.experiment.file import FILE_NAME, read_experiment
from volume_lib.records import ADDITIONAL, plain_value

UNKNOWN = "unknown"
"""The ``key`` of minima whose files do not say what tells them apart, and which it is not amounts of data."""

Contents = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Run → landscape level → its results."""


class Found(NamedTuple):
    """A run: its folder, its name in tables, and (dataset type, level, threshold) → its results files."""

    folder: Path
    files: dict[tuple[str, int, float], Path]


def find_runs(folder: Path) -> dict[str, Found]:
    """The runs of an experiment by name: its folders ``model_<m>_data_<d>``, and landscapes in it itself.

    Older experiments keep their first run at the top; it is called as the experiment's folder is.
    """
    found = {run.name: Found(run, storage.list_results(run)) for run in storage.list_runs(folder)}
    own = storage.list_results(folder)
    if own:
        name = folder.resolve().name
        found = {name if name not in found else f"{name} itself": Found(folder, own), **found}
    if not found:
        raise InputError(
            f"{folder}: no run folders model_<seed>_data_<seed> here, and no landscapes; "
            "give the experiment's folder"
        )
    return found


def minima_of(results: Mapping[str, Any]) -> list[int | float]:
    """What tells the minima of a ``results.json`` apart, in the order of its lists."""
    return [plain_value(v) for v in results.get("key_values", results["model_data_levels"])]


def choose_type(folder: Path, found: Mapping[str, Found], wanted: str | None) -> str:
    """The one kind of landscapes there is, or the ``wanted`` one."""
    kinds = sorted({kind for run in found.values() for kind, _, _ in run.files})
    if not kinds:
        raise InputError(f"{folder}: no run has a results.json yet; {storage.VOLUME_NOTEBOOK!r} writes them")
    if wanted is None and len(kinds) > 1:
        raise InputError(
            f"{folder}: landscapes of several kinds; say dataset_type = one of {', '.join(kinds)}"
        )
    if wanted is not None and wanted not in kinds:
        raise InputError(f"{folder}: no landscapes of dataset_type {wanted!r}, only {', '.join(kinds)}")
    return wanted or kinds[0]


def choose_threshold(folder: Path, found: Mapping[str, Found], kind: str, wanted: float | None) -> float:
    """The ``wanted`` threshold, or the one that most runs have, the smallest of equals."""
    thresholds = [{t for k, _, t in run.files if k == kind} for run in found.values()]
    counts = Counter(t for have in thresholds for t in have)
    if wanted is None:
        return min(counts, key=lambda t: (-counts[t], t))
    for threshold in counts:
        if math.isclose(threshold, wanted):
            return threshold
    known = ", ".join(f"{t:g}" for t in sorted(counts))
    raise InputError(f"{folder}: no results at loss_threshold {wanted:g}, only at {known}")


class Expected(NamedTuple):
    """What experiment.yaml asks for; all empty without one."""

    runs: Sequence[str] = ()
    minima: Sequence[int | float] = ()
    landscapes: Sequence[int] = ()
    dataset_type: str | None = None
    key: str | None = None
    base_size: int | None = None


def expected_of(folder: Path) -> Expected:
    """What is expected of an experiment's folder."""
    if not (folder / FILE_NAME).exists():
        return Expected()
    asked = read_experiment(folder)
    levels = asked.train.dataset_quantities
    landscapes = asked.perturb.landscape_levels or levels
    if asked.train.vary and not asked.perturb.all_pairs:  # all minima have seen the same data
        landscapes = [level for level in landscapes if level <= levels[0]]
    return Expected(
        runs=[seeds.name for seeds in asked.run_seeds],
        minima=asked.train.values or levels,
        landscapes=landscapes,
        dataset_type=asked.train.dataset_type,
        key=asked.train.key,
        base_size=asked.train.base_data_size,
    )


def choose_key(folder: Path, contents: Contents, wanted: str | None, expected: Expected) -> str:
    """What varies between the minima: what the files say, what is ``wanted``, what experiment.yaml plans.

    Older files do not say. Their minima are amounts of data where one of them belongs to the landscape that
    it is measured in; else their values may be anything (batch sizes, epochs), and are :data:`UNKNOWN`.
    Raises :class:`InputError` where files contradict each other or ``wanted``.
    """
    results = [result for run in contents.values() for result in run.values()]
    said = sorted({result["key"] for result in results if "key" in result})
    if len(said) > 1:
        raise InputError(
            f"{folder}: its runs vary {' and '.join(said)}; analyse them in folders of their own"
        )
    if said and wanted not in (None, said[0]):
        raise InputError(f"{folder}: key {wanted!r}, but the files say that {said[0]} varies")
    if chosen := said[0] if said else wanted or expected.key:
        return chosen
    natural = any(level in minima_of(result) for run in contents.values() for level, result in run.items())
    return ADDITIONAL if natural else UNKNOWN


def incomplete(contents: Contents, expected: Expected, threshold: float, key: str) -> dict[str, str]:
    """Of each run that lacks something: what."""
    left_out = {run: "the run folder is missing" for run in expected.runs if run not in contents}
    asked = [results for run, results in contents.items() if not expected.runs or run in expected.runs]
    landscapes = {level for results in asked for level in results} | set(expected.landscapes)
    by_data = key == ADDITIONAL
    for run, results in contents.items():
        if expected.runs and run not in expected.runs:
            left_out[run] = f"not among the runs of {FILE_NAME}"
            continue
        if not results:
            left_out[run] = f"no results.json at loss threshold {threshold:g}"
            continue
        own = {minimum for result in results.values() for minimum in minima_of(result)} | set(expected.minima)
        due = {level for level in landscapes if not by_data or level in own} | set(results)
        missing = [f"landscape {level}" for level in sorted(due - set(results))]
        for level, result in sorted(results.items()):
            needed = {m for m in own if not by_data or m >= level}
            lacking = sorted(needed - set(minima_of(result)))
            missing += [f"minimum {m} in landscape {level}" for m in lacking]
        if missing:
            left_out[run] = "partial, lacks " + ", ".join(missing)
    return left_out


def differing(folder: Path, found: Mapping[str, Found], kind: str) -> dict[str, str]:
    """Of each run whose files were made with other settings than those of experiment.yaml: which."""
    if not (folder / FILE_NAME).exists():
        return {}
    asked = read_experiment(folder)
    told: dict[str, str] = {}
    for seeds in asked.run_seeds:
        if seeds.name in found:
            run = found[seeds.name]
            results = [path for (its_kind, *_), path in run.files.items() if its_kind == kind]
            if difference := run_difference(run.folder, asked, seeds, results):
                told[seeds.name] = f"{difference} in {FILE_NAME}"
    return told


def oddities(contents: Contents) -> dict[str, str]:
    """Of each run what is odd beside the others: the same numbers as another, or minima that it lacks."""
    told: dict[str, list[str]] = {}
    seen: dict[Any, str] = {}
    union = sorted(
        {m for results in contents.values() for result in results.values() for m in minima_of(result)}
    )
    for run, results in contents.items():
        numbers = tuple(
            (level, tuple(result["log_exp_r_n_values"]), tuple(result["test_loss_values"]))
            for level, result in sorted(results.items())
        )
        if numbers in seen:
            told.setdefault(run, []).append(f"the same numbers as {seen[numbers]}: one run under two names?")
        seen.setdefault(numbers, run)
        own = {m for result in results.values() for m in minima_of(result)}
        lacking = [m for m in union if m not in own]
        if lacking:
            told.setdefault(run, []).append(f"never had the minima {words(lacking)}, which others have")
    return {run: "; ".join(found) for run, found in told.items()}


def words(values: Iterable[float]) -> str:
    """``0, 540, 1,940``."""
    return ", ".join(f"{value:,}" for value in values)
