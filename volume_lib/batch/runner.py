"""What a worker does: one step of one run, once, whatever happened before.

Everything here can happen again: the scheduler hands a step to another worker when one is lost, and a
launcher that was killed is started anew. A run's folder is therefore locked while a step is at work in it,
whether a step is done is asked under that lock, and what it writes is whole or not there.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.batch.folders import prepare_notebook, write_notebook
from volume_lib.batch.locks import Abandoned, lock
from volume_lib.batch.resources import Resources
from volume_lib.batch.shards import ShardFailed, ShardProcess, merge_shards
from volume_lib.batch.steps import (
    KEY,
    FileStates,
    Job,
    code_version,
    file_states,
    judge,
    normalised,
    read_notebook,
    same_files,
)
from volume_lib.errors import InputError
from volume_lib.records import ADDITIONAL

MERGING = "merging the parts of the sweep"
DONE, SKIPPED, FAILED, BLOCKED, STOPPED = "done", "skipped", "failed", "blocked", "stopped"


@dataclass(frozen=True)
class StepResult:
    """What became of a job: ``done``, ``skipped`` (it was done before), ``failed``, ``blocked`` (what it
    needs is not there) or ``stopped``. ``cell`` and ``error`` say where and how it failed."""

    job: Job
    state: str
    cell: str = ""
    error: str = ""
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return self.state in (DONE, SKIPPED)


def run_step(
    job: Job, resources: Resources, *, force: bool = False, launch: str = "", sharded: bool = False
) -> StepResult:
    """Do ``job`` unless it is done. Never raises for what the notebook, the disk or the kernel did wrong.

    ``launch`` names the launcher: :func:`stop_all` stops what it started, and ``force`` does again
    what another launcher did. ``sharded``: the parts of the sweep are there, to be merged first.
    """
    started = time.monotonic()
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        what = f"{job.step} of {job.folder.name}"
        with lock(job.folder, what, wait=True, abandon=lambda: launch in _stopped) as descriptor:
            storage.remove_temporary_files(job.folder)
            try:
                state, cell, error = _run_locked(job, resources, descriptor, force, launch, sharded)
            finally:
                storage.remove_temporary_files(job.folder)
    except Abandoned:
        state, cell, error = STOPPED, "", ""
    except (InputError, OSError) as problem:
        state, cell, error = FAILED, "reading or writing files", str(problem)
    return StepResult(job, state, cell, error, time.monotonic() - started)


def _run_locked(
    job: Job, resources: Resources, descriptor: int, force: bool, launch: str, sharded: bool
) -> tuple[str, str, str]:
    """State, cell and error."""
    if _is_done(job, force, launch):
        return SKIPPED, "", ""
    missing = [need for need in job.needs if not need.outputs()]
    if missing and (job.run or len(missing) == len(job.needs)):
        return BLOCKED, "", f"needs the files of {missing[0].name}: run that step first"
    notebook = prepare_notebook(job)
    notebook["metadata"][KEY] = {**_begin(job, notebook, force), "launch": launch}
    write_notebook(job.notebook, notebook)
    if sharded:
        try:
            merge_shards(job)
        except (InputError, OSError) as error:
            _end(job, state="failed", cell=MERGING, error=str(error))
            return FAILED, MERGING, str(error)

    from volume_lib.batch.kernels import Execution, NotebookFailed, Stopped

    execution = Execution(job.notebook, job.parameters, resources.environment(), inherit=(descriptor,))
    with _known(launch, execution):
        try:
            execution.run()
        except Stopped:
            return STOPPED, "", ""
        except NotebookFailed as error:
            _end(job, state="failed", cell=error.cell, error=error.error)
            return FAILED, error.cell, error.error
    _end(job, state="done", outputs=file_states(job.outputs(), job.folder))
    return DONE, "", ""


def run_shard(
    job: Job, index: int, resources: Resources, *, force: bool = False, launch: str = ""
) -> StepResult:
    """Compute part ``index`` of a run's sweep, unless it is done. Never raises, as :func:`run_step`."""
    started = time.monotonic()
    state, error = DONE, ""
    folder = storage.shard_dir(job.folder, index)
    try:
        if _is_done(job, force, launch):
            return StepResult(job, SKIPPED)
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder, f"part {index}", wait=True, abandon=lambda: launch in _stopped) as descriptor:
            for path in storage.list_outputs(folder, "perturb") if force else ():
                path.unlink()
            storage.remove_temporary_files(folder)
            part = ShardProcess(job, index, resources.environment(), inherit=(descriptor,))
            with _known(launch, part):
                part.run()
            if part.stopped.is_set():
                state = STOPPED
    except Abandoned:
        state = STOPPED
    except (ShardFailed, InputError, OSError) as problem:
        state, error = FAILED, str(problem)
    return StepResult(job, state, f"part {index} of the sweep", error, time.monotonic() - started)


def _is_done(job: Job, force: bool, launch: str) -> bool:
    return judge(job).state == "done" and not (force and _record(job).get("launch") != launch)


# --- the record in the notebook


def _begin(job: Job, notebook: dict[str, Any], force: bool) -> dict[str, Any]:
    """The record of an execution that begins; what an earlier one left and this one must not find, goes."""
    before = notebook["metadata"].get(KEY, {})
    known: FileStates = {}
    for need in job.needs:
        known |= _recorded_outputs(need, job.folder)
    now = {
        "parameters": normalised(job.parameters),
        "code": code_version(notebook),
        "inputs": file_states(job.inputs(), job.folder, known),
    }
    if force or ("state" in before and not _continues(job, before, now)):
        for path in _strangers(job, before, now, force):
            path.unlink(missing_ok=True)
    return {**before, **now, "state": "running", "outputs": {}, "cell": "", "error": ""}


def _continues(job: Job, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the files that an earlier execution left are the beginning of this one's."""
    same = before["parameters"] == now["parameters"] and before["code"] == now["code"]
    return same and same_files(before["inputs"], job.inputs(), job.folder)


def _strangers(job: Job, before: dict[str, Any], now: dict[str, Any], force: bool) -> list[Path]:
    """Files that would be taken for this execution's.

    Trained models stay where only parameters changed: the training compares their settings and keeps those
    that are right. Those of levels that are no more would be analysed with the others.
    """
    files = job.outputs()
    if job.step != "train" or force or before["code"] != now["code"]:
        return files
    parameters = job.parameters
    values = parameters["values"] or parameters["dataset_quantities"]
    kept = {storage.model_path(job.folder, parameters["vary"] or ADDITIONAL, value).name for value in values}
    return [path for path in files if path.name not in kept]


def _recorded_outputs(job: Job, folder: Path) -> FileStates:
    """A job's outputs as its notebook recorded them, by their path from ``folder``: not read again."""
    recorded = _record(job).get("outputs", {})
    return {os.path.relpath(job.folder / name, folder): state for name, state in recorded.items()}


def _record(job: Job) -> dict[str, Any]:
    notebook = read_notebook(job.notebook)
    return notebook["metadata"].get(KEY, {}) if notebook else {}


def _end(job: Job, **entries: Any) -> None:
    notebook = read_notebook(job.notebook)
    notebook["metadata"][KEY] |= entries
    with contextlib.suppress(OSError) if entries["state"] == "failed" else contextlib.nullcontext():
        write_notebook(job.notebook, notebook)  # a full disk may be what it failed of


# --- stopping

_running: dict[int, tuple[str, Any]] = {}
_stopped: set[str] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def _known(launch: str, execution: Any) -> Iterator[None]:
    with _guard:
        _running[id(execution)] = (launch, execution)
        if launch in _stopped:
            execution.stop()
    try:
        yield
    finally:
        with _guard:
            _running.pop(id(execution), None)


def stop_all(launch: str) -> None:
    """End the kernels that were started in this process for ``launch``, and start no more for it."""
    with _guard:
        _stopped.add(launch)
        for owner, execution in list(_running.values()):
            if owner == launch:
                execution.stop()
