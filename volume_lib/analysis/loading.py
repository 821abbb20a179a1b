"""From the folder of an experiment to its table: which runs are complete, and what their files say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib import storage
from volume_lib.analysis import runs
from volume_lib.analysis.failed import apply_rule
from volume_lib.analysis.rows import Cutoffs, Run, accuracies_tell
from volume_lib.analysis.runs import UNKNOWN, Contents, minima_of
from volume_lib.analysis.table import COLUMNS, ExperimentResults, Stability
from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL


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
    left_out = runs.incomplete(contents, expected, loss_threshold, key) | left_out  # unread is not missing
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
        read = Run(run, found[run].folder, results, cutoffs.get(run), loss_threshold, key, sizes[run])
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
    silent = [r for r in results if "log_exp_r_n_acc_values" in r and not accuracies_tell(r)]
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
