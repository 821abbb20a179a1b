"""The six notebooks of an experiment: where each lies, what it needs, whether it is done.

A notebook is the unit of work and its own record. Beside papermill's metadata (parameters, times,
exception), each carries a ``volume_lib`` entry: the parameters, code version and input files of its
last execution, and the files that came out. A step is *done* when all four still agree with the experiment
and the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volume_lib import __version__, storage
from volume_lib.batch.locks import is_held
from volume_lib.errors import InputError, near_match
from volume_lib.experiment.file import STEPS, Experiment, RunSeeds

KEY = "volume_lib"
"""The entry of a notebook's metadata that is ours."""

ANALYSIS_NOTEBOOK = "analyze_experiments_data.ipynb"

NOTEBOOKS = {
    "train": storage.TRAIN_NOTEBOOK,
    "perturb": storage.PERTURB_NOTEBOOK,
    "volume": storage.VOLUME_NOTEBOOK,
    "cutoff": storage.CUTOFF_NOTEBOOK,
    "accuracy": storage.ACCURACY_NOTEBOOK,
    "analysis": ANALYSIS_NOTEBOOK,
}
NEEDS = {
    "train": (),
    "perturb": ("train",),
    "volume": ("perturb",),
    "cutoff": ("train",),
    "accuracy": ("train",),
    "analysis": ("volume", "cutoff", "accuracy"),
}
"""Whose files a step reads."""

FileStates = dict[str, list[Any]]
"""Relative path → [size, modification time in ns, digest of the content]."""


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
        return [Job(self.experiment, step, run) for run in runs for step in NEEDS[self.step]]

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
        problem = None if self.step in ("volume", "analysis") else self.problem_file()
        return [*files, problem] if problem else files

    def problem_file(self) -> Path | None:
        """The file of a problem of the user's own, looked for as ``get_problem`` does."""
        name, separator, _ = self.experiment.problem.partition(":")
        folders = (self.folder.resolve(), *self.folder.resolve().parents) if separator else ()
        return next((folder / name for folder in folders if (folder / name).is_file()), None)


def jobs_of(experiment: Experiment, run: RunSeeds) -> list[Job]:
    """The steps of one run, in order."""
    return [Job(experiment, step, run) for step in STEPS if step != "analysis"]


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


# --- what a notebook says of its last execution


def read_notebook(path: Path) -> dict[str, Any] | None:
    """The notebook's JSON; None where there is none. InputError for a damaged one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable notebook ({error}); delete it, the next run clones it"
        ) from error
    if not isinstance(content, dict) or "cells" not in content:
        raise InputError(f"{path}: not a notebook; delete it, the next run clones it anew")
    return content


def sources_digest(notebook: dict[str, Any]) -> str:
    """Digest of the code, without the parameters: what the notebook does, whatever it was given."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    own = [cell for cell in cells if not {"parameters", "injected-parameters"} & set(_tags(cell))]
    text = "\0".join("".join(cell["source"]) for cell in own)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def code_version(notebook: dict[str, Any]) -> str:
    """What must not have changed for a result to count as this code's: the package's version and the cells.

    Not every byte of the package: a comment edited in a checkout must not train overnight's models again.
    Who changes what the library computes raises ``__version__``, or runs with ``--force``.
    """
    return f"{__version__} {sources_digest(notebook)}"


def file_states(paths: Iterable[Path], folder: Path, known: FileStates | None = None) -> FileStates:
    """The states of ``paths`` by their path relative to ``folder``.

    A file whose size and time are those in ``known`` is not read again.
    """
    states: FileStates = {}
    for path in paths:
        name = os.path.relpath(path, folder)
        stat = path.stat()
        before = (known or {}).get(name)
        if before and before[:2] == [stat.st_size, stat.st_mtime_ns]:
            states[name] = before
        else:
            states[name] = [stat.st_size, stat.st_mtime_ns, _digest(path)]
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


def normalised(parameters: dict[str, Any]) -> dict[str, Any]:
    """As JSON has them, so that they compare with what was read from a notebook."""
    return json.loads(json.dumps(parameters))


# --- the verdict


@dataclass(frozen=True)
class Verdict:
    """``state``: done, failed, running, interrupted or pending; ``reason``: why it is not done."""

    state: str
    reason: str = ""
    seconds: float | None = None


def judge(job: Job) -> Verdict:
    """Whether a job is done, from its notebook and the files on disk."""
    notebook = read_notebook(job.notebook)
    if notebook is None:
        return Verdict("pending", "not made yet")
    record = notebook["metadata"].get(KEY, {})
    if "state" not in record:
        return Verdict("pending", "never run")
    if record["parameters"] != normalised(job.parameters):
        return Verdict("pending", f"other parameters: {_difference(record['parameters'], job.parameters)}")
    if record["code"] != code_version(notebook):
        return Verdict("pending", "the notebook's code has changed")
    if record["state"] == "failed":
        return Verdict("failed", f"{record['cell']}: {record['error']}")
    if record["state"] == "running":
        return Verdict("running") if is_held(job.folder) else Verdict("interrupted", "begun, not finished")
    if not same_files(record["inputs"], job.inputs(), job.folder):
        return Verdict("pending", "its inputs have changed")
    if not same_files(record["outputs"], job.outputs(), job.folder):
        return Verdict("pending", "its files have changed or are gone")
    return Verdict("done", seconds=notebook["metadata"].get("papermill", {}).get("duration"))


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    new = normalised(new)
    changed = [key for key in {**new, **old} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key)!r} → {new.get(key)!r}" for key in changed[:3])


def is_template_unedited(notebook: dict[str, Any]) -> bool:
    """Whether a clone's code is what it was when it was cloned."""
    return notebook["metadata"].get(KEY, {}).get("template") == sources_digest(notebook)
