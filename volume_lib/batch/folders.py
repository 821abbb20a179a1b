"""Run folders: clone and parameterise the notebooks, copy a file to all of them."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.batch.cells import inject
from volume_lib.batch.check import check_against_data
from volume_lib.batch.locks import Held, lock
from volume_lib.batch.notebooks import (
    KEY,
    cells_digest,
    existing_notebook,
    is_as_placed,
    is_template_unedited,
    read_notebook,
    write_notebook,
)
from volume_lib.batch.steps import NOTEBOOKS, Job, jobs_of, template_path
from volume_lib.errors import InputError
from volume_lib.experiment.file import FILE_NAME, Experiment, RunSeeds, experiment_file, read_experiment

_PROPAGATED = ".propagated.json"
"""In a run folder: name of a file that was copied there → digest of what was copied."""


# --- clone


def make(folder: str | Path) -> list[Path]:
    """Clone the notebooks of a run into every run's folder and give them their parameters; run nothing.

    A notebook that is there keeps its cells, edited or not, unless its template has changed and it has
    not been edited. Its outputs stay as long as its parameters do. Returns the run folders. Raises
    InputError, before anything is written, for what is wrong with the experiment.
    """
    experiment = read_experiment(folder)
    check_against_data(experiment)
    with alone(experiment, "make"):
        for run in experiment.run_seeds:
            for job in jobs_of(experiment, run):
                prepare_notebook(job)
    return [experiment.folder / run.name for run in experiment.run_seeds]


@contextlib.contextmanager
def alone(experiment: Experiment, what: str) -> Iterator[None]:
    """Not while a launcher is at work."""
    try:
        with lock(experiment.folder, f"python -m volume_lib {what} {experiment.folder}"):
            yield
    except Held as error:
        raise InputError(f"{experiment.folder}: in use ({error}); nothing was done") from error


def prepare_notebook(job: Job, template: dict[str, Any] | None = None) -> dict[str, Any]:
    """The job's notebook, cloned where it is missing and given its parameters; written if that changed it."""
    before = read_notebook(job.notebook)
    source: dict[str, Any] = template or json.loads(template_path(job.step).read_text(encoding="utf-8"))
    notebook = copy.deepcopy(before)
    if notebook is None or (
        cells_digest(notebook) != cells_digest(source) and is_template_unedited(notebook)
    ):
        record = notebook["metadata"].get(KEY, {}) if notebook else {}
        notebook = copy.deepcopy(source)
        notebook["metadata"][KEY] = {**record, "template": cells_digest(source)}
    inject(job.notebook, notebook, job.parameters)
    if notebook != before:
        write_notebook(job.notebook, notebook)
    return notebook


# --- propagate


def propagate(file: str | Path, folder: str | Path, *, force: bool = False) -> list[Path]:
    """Copy ``file`` into every run folder under ``folder``; notebooks keep each run's parameters.

    Raises InputError, before anything is copied, if a run folder has the file in a version that was edited
    there (one that neither the workflow nor an earlier propagation put there), unless ``force``.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"{file}: does not exist")
    targets = [
        (job, job.folder / file.name)
        for experiment in experiments_under(folder)
        for job in (_job_of(experiment, run, file.name) for run in experiment.run_seeds)
        if job.folder.is_dir()
    ]
    if not targets:
        raise InputError(f"{folder}: no run folders; python -m volume_lib make {folder} makes them")
    data = file.read_bytes()
    edited = [path for job, path in targets if not force and _is_edited(path, data)]
    if edited:
        more = f" and {len(edited) - 1} more" if len(edited) > 1 else ""
        raise InputError(f"{edited[0]}{more}: edited in the run folder; --force overwrites it")
    with contextlib.ExitStack() as stack:
        for experiment in experiments_under(folder):
            stack.enter_context(alone(experiment, "propagate"))
        for job, path in targets:
            _place(file, data, path, job)
    return [path for _, path in targets]


def _place(file: Path, data: bytes, path: Path, job: Job) -> None:
    if file.name in NOTEBOOKS.values():
        notebook = _clean_clone(file)
        before = read_notebook(path)  # what it wrote stays the workflow's
        record = before["metadata"].get(KEY, {}) if before else {}
        # not its template: what was propagated is an edit, and stays when the package's template changes
        notebook["metadata"][KEY] = {**record, "propagated": cells_digest(notebook)}
        inject(path, notebook, job.parameters)
        write_notebook(path, notebook)
    else:
        storage.write_bytes(path, data)
        _remember(path, data)


def _job_of(experiment: Experiment, run: RunSeeds, name: str) -> Job:
    step = next((step for step, notebook in NOTEBOOKS.items() if notebook == name), "train")
    return Job(experiment, step, run)


def _clean_clone(path: Path) -> dict[str, Any]:
    """A notebook without outputs and without what its last execution left, ready to be a run's."""
    notebook = existing_notebook(path)
    kept = [cell for cell in notebook["cells"] if not _is_left_by_papermill(cell)]
    for cell in kept:
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key == "tags"}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    metadata = {key: notebook["metadata"][key] for key in ("kernelspec",) if key in notebook["metadata"]}
    notebook |= {"cells": kept, "metadata": metadata}
    return notebook


def _is_left_by_papermill(cell: dict[str, Any]) -> bool:
    return bool({"injected-parameters", "papermill-error-cell-tag"} & set(cell["metadata"].get("tags", [])))


def _is_edited(path: Path, data: bytes) -> bool:
    if not path.exists() or path.read_bytes() == data:
        return False
    if path.name in NOTEBOOKS.values():
        return not is_as_placed(existing_notebook(path))
    return _remembered(path.parent).get(path.name) != _digest(path.read_bytes())


def _remembered(folder: Path) -> dict[str, str]:
    try:
        return json.loads((folder / _PROPAGATED).read_text())
    except (OSError, ValueError):
        return {}


def _remember(path: Path, data: bytes) -> None:
    known = {**_remembered(path.parent), path.name: _digest(data)}
    storage.write_bytes(path.parent / _PROPAGATED, json.dumps(known).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def experiments_under(folder: str | Path) -> list[Experiment]:
    """The experiment of ``folder``, or all those below it."""
    folder = Path(folder)
    if experiment_file(folder).is_file():
        return [read_experiment(folder)]
    found = sorted(folder.rglob(FILE_NAME)) if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder}: no {FILE_NAME} here or below")
    return [read_experiment(path.parent) for path in found]
