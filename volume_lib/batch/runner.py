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
from volume_lib.batch.asked import difference, warnings_of
from volume_lib.batch.belongings import let_go, make_way, placement, refuse_to_replace, written
from volume_lib.batch.data import loaded_data_digest
from volume_lib.batch.folders import prepare_notebook
from volume_lib.batch.locks import Abandoned, lock
from volume_lib.batch.notebooks import (
    KEY,
    code_version,
    existing_notebook,
    normalised,
    read_notebook,
    warned,
    write_notebook,
)
from volume_lib.batch.resources import Resources
from volume_lib.batch.shards import ShardFailed, ShardProcess, merge_shards
from volume_lib.batch.steps import FileStates, Job, file_states, judge
from volume_lib.errors import InputError

MERGING = "merging the parts of the sweep"
COMPARING = "what it wrote"
DONE, SKIPPED, FAILED, BLOCKED, STOPPED = "done", "skipped", "failed", "blocked", "stopped"
NOT_BEGUN = "not begun"


@dataclass(frozen=True)
class StepResult:
    """What became of a job: ``done``, ``skipped`` (it was done before), ``failed``, ``blocked`` (what it
    needs is not there), ``stopped``, or ``not begun`` when others were. ``cell`` and ``error`` say where and
    how it failed."""

    job: Job
    state: str
    cell: str = ""
    error: str = ""
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return self.state in (DONE, SKIPPED)


def run_step(
    job: Job,
    resources: Resources,
    *,
    force: bool = False,
    launch: str = "",
    sharded: bool = False,
    data: str | None = None,
) -> StepResult:
    """Do ``job`` unless it is done. Never raises for what the notebook, the disk or the kernel did wrong.

    ``launch`` names the launcher: :func:`stop_all` stops what it started, and ``force`` does again
    what another launcher did. ``sharded``: the parts of the sweep are there, to be merged first. ``data``:
    what the problem's data are (None: they are loaded and looked at).
    """
    started = time.monotonic()
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        what = f"{job.step} of {job.folder.name}"
        with lock(job.folder, what, wait=True, abandon=lambda: launch in _stopped) as descriptor:
            storage.remove_temporary_files(job.folder)
            try:
                todo = _Todo(job, resources, force, launch, _data_of(job, data))
                state, cell, error = _run_locked(todo, descriptor, sharded)
            finally:
                storage.remove_temporary_files(job.folder)
    except Abandoned:
        state, cell, error = STOPPED, "", ""
    except (InputError, OSError) as problem:
        state, cell, error = FAILED, "reading or writing files", str(problem)
    return StepResult(job, state, cell, error, time.monotonic() - started)


@dataclass(frozen=True)
class _Todo:
    """A job with all that decides how it is done."""

    job: Job
    resources: Resources
    force: bool
    launch: str
    data: str


def _data_of(job: Job, data: str | None) -> str:
    return loaded_data_digest(job.experiment) if data is None and job.step == "train" else data or ""


def _run_locked(todo: _Todo, descriptor: int, sharded: bool) -> tuple[str, str, str]:
    """State, cell and error."""
    job = todo.job
    if _is_done(job, todo.force, todo.launch, todo.data):
        return SKIPPED, "", ""
    if obstacle := _obstacle(job):
        return BLOCKED, "", obstacle
    notebook = prepare_notebook(job)
    notebook["metadata"][KEY] = _begin(todo, notebook)
    write_notebook(job.notebook, notebook)
    if sharded:
        try:
            merge_shards(job)
        except (InputError, OSError) as error:
            _end(job, state="failed", cell=MERGING, error=str(error))
            return FAILED, MERGING, str(error)

    from volume_lib.batch.kernels import Execution, NotebookFailed, Stopped

    execution = Execution(job.notebook, job.parameters, todo.resources.environment(), inherit=(descriptor,))
    with _known(todo.launch, execution):
        try:
            execution.run()
        except Stopped:
            return STOPPED, "", ""
        except NotebookFailed as error:
            _end(job, state="failed", cell=error.cell, error=error.error)
            return FAILED, error.cell, error.error
    if told := difference(job):
        _end(job, state="failed", cell=COMPARING, error=told)
        return FAILED, COMPARING, told
    _end(job, state="done")
    return DONE, "", ""


def _obstacle(job: Job) -> str:
    """Why a job cannot be done now; empty if it can."""
    missing = [need for need in job.needs if not need.outputs()]
    if missing and (job.run or len(missing) == len(job.needs)):
        return f"needs the files of {missing[0].name}: run that step first"
    for need in job.needs if job.run else ():
        record = _record(need)
        if "state" in record and record["parameters"] != normalised(need.parameters):
            return f"needs {need.name}, which was done with other parameters: run that step first"
    return ""


def run_shard(
    job: Job, index: int, resources: Resources, *, force: bool = False, launch: str = ""
) -> StepResult:
    """Compute part ``index`` of a run's sweep, unless it is done. Never raises, as :func:`run_step`."""
    started = time.monotonic()
    state, error = DONE, ""
    folder = storage.shard_dir(job.folder, index)
    try:
        if _is_done(job, force, launch, ""):
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


def _is_done(job: Job, force: bool, launch: str, data: str) -> bool:
    return judge(job, data).state == "done" and not (force and _record(job).get("launch") != launch)


# --- the record in the notebook


def _begin(todo: _Todo, notebook: dict[str, Any]) -> dict[str, Any]:
    """The record of an execution that begins; what an earlier one left and this one must not find, makes way.

    InputError if it would write over what somebody else made.
    """
    job = todo.job
    before = notebook["metadata"].get(KEY, {})
    known: FileStates = {}
    for need in job.needs:
        known |= _recorded_outputs(need, job.folder)
    now = {
        "parameters": normalised(job.parameters),
        "code": code_version(notebook, job.folder),
        "problem": job.problem_source(),
        "data": todo.data,
        "inputs": file_states(job.inputs(), job.folder, known),
        "launch": todo.launch,
    }
    found = placement(job, before, notebook, todo.force, todo.data)
    refuse_to_replace(job, found.foreign)
    aside, told = make_way(job, found)
    now |= {"foreign": found.foreign, "aside": {**before.get("aside", {}), **aside}, "warnings": told}
    return {**before, **now, "state": "running", "outputs": {}, "figures": {}, "cell": "", "error": ""}


def _recorded_outputs(job: Job, folder: Path) -> FileStates:
    """A job's outputs as its notebook recorded them, by their path from ``folder``: not read again."""
    recorded = _record(job).get("outputs", {})
    return {os.path.relpath(job.folder / name, folder): state for name, state in recorded.items()}


def _record(job: Job) -> dict[str, Any]:
    notebook = read_notebook(job.notebook)
    return notebook["metadata"].get(KEY, {}) if notebook else {}


def _end(job: Job, *, state: str, cell: str = "", error: str = "") -> None:
    notebook = existing_notebook(job.notebook)
    record = notebook["metadata"].setdefault(KEY, {})
    record |= {"state": state, "cell": cell, "error": error, **written(job, record)}
    if state == "done":
        told = [*record.get("warnings", []), *let_go(job, record), *warnings_of(job), *warned(notebook)]
        record |= {"warnings": told, "foreign": {}, "aside": {}}
    with contextlib.suppress(OSError) if state == "failed" else contextlib.nullcontext():
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
