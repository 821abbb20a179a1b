"""The notebooks of an experiment: where each lies, what it needs, whether it is done.

A notebook is the unit of work and its own record. Beside papermill's metadata (parameters, times,
exception), each carries a ``volume_lib`` entry: the parameters, code, problem, data and input files of its
last execution, and the files that came out. A step is *done* when all of them still agree with the
experiment and the disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.batch.locks import is_held
from volume_lib.batch.notebooks import KEY, is_code_of, normalised, read_notebook
from volume_lib.errors import InputError, near_match
from volume_lib.experiment.file import STEPS, Experiment, RunSeeds
from volume_lib.sources import source_digest

ANALYSIS_NOTEBOOK = "analyze_experiments_data.ipynb"

NOTEBOOKS = {
    "train": storage.TRAIN_NOTEBOOK,
    "perturb": storage.PERTURB_NOTEBOOK,
    "volume": storage.VOLUME_NOTEBOOK,
    "cutoff": storage.CUTOFF_NOTEBOOK,
    "accuracy": storage.ACCURACY_NOTEBOOK,
    "integrate": storage.INTEGRATION_NOTEBOOK,
    "analysis": ANALYSIS_NOTEBOOK,
}
NEEDS = {
    "train": (),
    "perturb": ("train",),
    "volume": ("perturb",),
    "cutoff": ("train",),
    "accuracy": ("train",),
    "integrate": ("train", "perturb"),
    "analysis": ("volume", "cutoff", "accuracy", "integrate"),
}
"""Whose files a step reads, of those that the experiment has."""

FileStates = dict[str, list[Any]]
"""Relative path → [size, time of the last change in ns, digest of the content]. The time is the one that
nobody can set (``ctime``): a file of the same size and time is the same."""


@dataclass(frozen=True)
class Job:
    """One step of one run; ``run`` is None for the analysis of all runs."""

    experiment: Experiment
    step: str
    run: RunSeeds | None = None

    @property
    def folder(self) -> Path:
        """Where the notebook lies and runs."""
        top = self.experiment.folder
        return top / self.run.name if self.run else storage.analysis_dir(top)

    @property
    def notebook(self) -> Path:
        return self.folder / NOTEBOOKS[self.step]

    @property
    def name(self) -> str:
        return f"{self.run.name if self.run else self.experiment.folder.name} {self.step}"

    @property
    def needs(self) -> list[Job]:
        """The jobs whose files this one reads."""
        runs = [self.run] if self.run else self.experiment.run_seeds
        needed = [step for step in NEEDS[self.step] if step in self.experiment.steps]
        return [Job(self.experiment, step, run) for run in runs for step in needed]

    @property
    def parameters(self) -> dict[str, Any]:
        values = self.experiment.parameters(self.step, self.run)
        if self.run is None:  # the notebook lies one folder down
            other = values["compare_with"]
            values["compare_with"] = other and os.path.join("..", other)
            values = {"experiment_dir": "..", **values}
        return values

    def outputs(self, *, figures: bool = False) -> list[Path]:
        """The files of this job that are there."""
        return storage.list_outputs(self.folder, self.step, figures=figures)

    def inputs(self) -> list[Path]:
        """The files that this job reads and that are there."""
        files = [path for job in self.needs for path in job.outputs()]
        if self.run is None and self.experiment.analysis.compare_with:
            other = self.experiment.folder / self.experiment.analysis.compare_with
            for run in storage.list_runs(other):
                files += storage.list_outputs(run, "volume")
        return [*files, *self._checkpoints()]

    def _checkpoints(self) -> list[Path]:
        """The files of models trained elsewhere, found as the training does."""
        named = (self.experiment.train.checkpoints or {}) if self.step == "train" else {}
        places = (self.folder.absolute(), *self.folder.absolute().parents)
        found = (
            next((p for place in places if (p := place / name).is_file()), None) for name in named.values()
        )
        return [path for path in found if path is not None]

    def problem_file(self) -> Path | None:
        """The file of a problem of the user's own, looked for as ``get_problem`` does."""
        name, separator, _ = self.experiment.problem.partition(":")
        folders = (self.folder.absolute(), *self.folder.absolute().parents) if separator else ()
        return next((folder / name for folder in folders if (folder / name).is_file()), None)

    def problem_source(self) -> str:
        """Digest of that file and of what it imports from beside it; empty where a step needs no problem, or
        the problem is one of the package's, whose version tells what it does."""
        path = None if self.step in ("volume", "analysis") else self.problem_file()
        return source_digest(path, self.folder) if path else ""


def jobs_of(experiment: Experiment, run: RunSeeds) -> list[Job]:
    """The steps of one run, in order."""
    return [Job(experiment, step, run) for step in experiment.steps if step != "analysis"]


def check_steps(names: Iterable[str]) -> list[str]:
    """``names`` in the order of :data:`STEPS`; InputError for one that is none."""
    names = list(names)
    for name in names:
        if name not in STEPS:
            raise InputError(
                f"--steps {name}: unknown step{near_match(name, STEPS)}; known: {', '.join(STEPS)}"
            )
    return [step for step in STEPS if step in names]


# --- templates


def template_path(step: str) -> Path:
    """The notebook that runs are cloned from: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    name = NOTEBOOKS[step]
    places = [package / "notebooks", package.parent if step == "analysis" else package.parent / "template"]
    found = next((place / name for place in places if (place / name).is_file()), None)
    if found is None:
        raise InputError(f"{places[0] / name}: the notebook template is missing; install volume_lib again")
    return found


# --- files


def file_states(paths: Iterable[Path], folder: Path, known: FileStates | None = None) -> FileStates:
    """The states of ``paths`` by their path relative to ``folder``.

    A file whose size and time are those in ``known`` is not read again.
    """
    states: FileStates = {}
    for path in paths:
        name = os.path.relpath(path, folder)
        stat = path.stat()
        before = (known or {}).get(name)
        if before and before[:2] == [stat.st_size, stat.st_ctime_ns]:
            states[name] = before
        else:
            states[name] = [stat.st_size, stat.st_ctime_ns, _digest(path)]
    return states


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def same_files(recorded: FileStates, paths: list[Path], folder: Path) -> bool:
    """Whether ``paths`` are the recorded files with the recorded content, whenever they were written."""
    if set(recorded) != {os.path.relpath(path, folder) for path in paths}:
        return False
    if any(path.stat().st_size != recorded[os.path.relpath(path, folder)][0] for path in paths):
        return False
    states = file_states(paths, folder, recorded)
    return all(states[name][2] == recorded[name][2] for name in recorded)


def unchanged(recorded: FileStates, folder: Path) -> bool:
    """Whether all recorded files are there with the recorded content."""
    paths = [folder / name for name in recorded]
    return all(path.is_file() for path in paths) and same_files(recorded, paths, folder)


# --- the verdict


@dataclass(frozen=True)
class Verdict:
    """``state``: done, failed, running, interrupted, pending or shipped (no run here wrote its files, or
    those made from them, which came alone); ``reason``: why it is not done; ``warnings``: what to know though
    it is."""

    state: str
    reason: str = ""
    seconds: float | None = None
    warnings: tuple[str, ...] = ()


def judge(job: Job, data: str = "") -> Verdict:
    """Whether a job is done, from its notebook and the files on disk.

    ``data``: what the problem's data are now (:mod:`volume_lib.batch.data`); empty where nobody has looked.
    """
    notebook = read_notebook(job.notebook)
    record = notebook["metadata"].get(KEY, {}) if notebook else {}
    if notebook is None or "state" not in record:
        if job.outputs():
            return Verdict("shipped", "its files are there, and no run in this folder wrote them")
        if _is_shipped(job):
            return Verdict(
                "shipped", "its own files are not here; what was made from them is, and no run here made it"
            )
        return Verdict("pending", "never run" if notebook else "not made yet")
    if changed := what_changed(job, record, notebook, data):
        return Verdict("pending", changed)
    if record["state"] == "failed":
        return Verdict("failed", f"{record.get('cell', '')}: {record.get('error', '')}")
    if record["state"] == "running":
        return Verdict("running") if is_held(job.folder) else Verdict("interrupted", "begun, not finished")
    if not same_files(record["inputs"], job.inputs(), job.folder):
        return Verdict("pending", "its inputs have changed")
    if not unchanged(record["outputs"], job.folder):
        return Verdict("pending", "its files have changed or are gone")
    papermill = notebook["metadata"].get("papermill")
    seconds = papermill.get("duration") if isinstance(papermill, dict) else None
    seconds = float(seconds) if isinstance(seconds, int | float) else None
    return Verdict("done", seconds=seconds, warnings=tuple(map(str, record.get("warnings", ()))))


def _is_shipped(job: Job) -> bool:
    """Whether nobody ran the job here and its files are there, or those of a later step that nobody ran
    here: results are shipped without the models and rays that they come from, which are large."""
    notebook = read_notebook(job.notebook)
    if notebook and "state" in notebook["metadata"].get(KEY, {}):
        return False
    if job.outputs():
        return True
    later = jobs_of(job.experiment, job.run) if job.run else []
    return any(job.step in NEEDS[other.step] and _is_shipped(other) for other in later)


def what_changed(job: Job, record: dict[str, Any], notebook: dict[str, Any], data: str = "") -> str:
    """What a step would do now that it did not when it was recorded; empty if nothing. Its files aside."""
    if record["parameters"] != normalised(job.parameters):
        return f"other parameters: {_difference(record['parameters'], job.parameters)}"
    if not is_code_of(record, notebook, job.folder):
        return "the notebook's code has changed"
    if record.get("problem", job.problem_source()) != job.problem_source():
        return "the code of the problem has changed"
    if job.step == "train" and data and record.get("data") not in ("", None, data):
        return "the problem's data have changed"
    return ""


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    new = normalised(new)
    changed = [key for key in {**new, **old} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key)!r} → {new.get(key)!r}" for key in changed[:3])
