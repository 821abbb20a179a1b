"""Whose files lie in a run's folder, and what becomes of those that a step replaces.

A file is the workflow's if a record says that it wrote it, and it is unchanged since. All others are the
user's: they are never deleted, and where a step would write over one, its former version is kept. What is
replaced lies in ``.replaced/<step>/`` until the step is done.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from volume_lib import storage
from volume_lib.batch.asked import wanted_models
from volume_lib.batch.notebooks import KEY, read_notebook
from volume_lib.batch.steps import FileStates, Job, file_states, judge, same_files, what_changed
from volume_lib.errors import InputError
from volume_lib.experiment.differences import dataset_difference, model_difference
from volume_lib.storage.peek import peek_torch

REPLACED = ".replaced"
_PICTURES = (".png", ".pdf")


class Placement(NamedTuple):
    """What is in a folder when a step begins: states of the files that are ``foreign``; paths of those of an
    earlier execution that must make way, ``ours`` as it wrote them and ``changed`` since then."""

    foreign: FileStates
    ours: list[Path]
    changed: list[Path]


def is_reached_by_link(path: Path, top: Path) -> bool:
    """Whether ``path``, or a folder on the way to it from ``top``, is a link."""
    parts = path.relative_to(top).parts
    return any((top / Path(*parts[: i + 1])).is_symlink() for i in range(len(parts)))


def files_of(job: Job) -> list[Path]:
    """The files whose names the step uses, figures too."""
    parts = job.folder / storage.SHARDS
    return [path for path in job.outputs(figures=True) if parts not in path.parents and path.is_file()]


def belongings(record: dict[str, Any]) -> FileStates:
    """The files that the record says were written, as it says they were."""
    return {**record.get("outputs", {}), **record.get("figures", {})}


def placement(
    job: Job, record: dict[str, Any], notebook: dict[str, Any], force: bool = False, data: str = ""
) -> Placement:
    """Sort the files of a step that is to begin."""
    written, left = belongings(record), record.get("foreign")
    now = file_states(files_of(job), job.folder, {**(left or {}), **written})
    unfinished = record.get("state") in ("running", "failed")
    foreign, changed, ours = {}, [], []
    for name, state in now.items():
        if name in written and written[name][2] == state[2]:
            ours.append(job.folder / name)
        elif name in written:
            changed.append(job.folder / name)
        elif not unfinished or left is None or (name in left and left[name][2] == state[2]):
            foreign[name] = state
        else:
            ours.append(job.folder / name)
    data_files = set(job.outputs())
    leaving = _leaving(job, record, notebook, force, data)
    ours = [path for path in ours if path in data_files and leaving(path)]
    changed = [path for path in changed if path in data_files or path.suffix in _PICTURES]
    return Placement({**(left or {}), **foreign}, ours, changed)


def replaced_line(jobs: list[Job], force: bool = False, data: str = "") -> str:
    """One line on the files that a run of ``jobs``, each run's in order, replaces; empty without any."""
    counts: dict[str, int] = {}
    runs, kept = set(), False
    redone: set[tuple] = set()
    for job in jobs:
        after = any((need.run, need.step) in redone for need in job.needs)
        if not after and not force and judge(job, data).state == "done":
            continue
        redone.add((job.run, job.step))
        notebook = read_notebook(job.notebook) or {"metadata": {}}
        record = notebook["metadata"].get(KEY, {})
        if "state" not in record:
            paths = [] if job.step == "train" else files_of(job)  # a training replaces nobody else's models
            kept = kept or bool(paths)
        elif after:
            paths = files_of(job)
        else:
            found = placement(job, record, notebook, force, data)
            paths = [*found.ours, *found.changed]
        if paths:
            counts[job.step] = counts.get(job.step, 0) + len(paths)
            runs.add(job.folder.name)
    if not counts:
        return ""
    files = ", ".join(f"{step} {number}" for step, number in counts.items())
    told = f"replaced as steps are done, in {len(runs)} folder{'s' * (len(runs) > 1)}: files of {files}"
    return f"{told}; data that no run here wrote stay in {REPLACED}/" if kept else told


def _leaving(job: Job, record: dict[str, Any], notebook: dict[str, Any], force: bool, data: str) -> Any:
    """Of the files that an earlier execution wrote: which must make way for the next one.

    Trained models stay where only parameters changed: the training compares their settings and keeps those
    that are right. Those of levels that are no more would be analysed with the others.
    """
    if force:
        return lambda path: True
    if "state" not in record:
        return lambda path: False
    changed = what_changed(job, record, notebook, data)
    if not changed and same_files(record["inputs"], job.inputs(), job.folder):
        return lambda path: False  # they are the beginning of this execution's
    if job.step != "train" or not changed.startswith("other parameters"):
        return lambda path: True
    kept = {path.name for path in wanted_models(job)} | {"dataset.pt"}
    if record["parameters"].get("checkpoints") != job.parameters["checkpoints"]:
        return lambda path: path.name != "dataset.pt"
    return lambda path: path.name not in kept


def refuse_to_replace(job: Job, foreign: FileStates) -> None:
    """InputError if a training would write over a model or a data set that it did not make."""
    if job.step != "train":
        return
    folder = job.folder / storage.MODELS_AND_DATA
    there = {job.folder / name for name, state in foreign.items() if _is_as(job.folder / name, state)}
    for path in wanted_models(job):
        if path in there:
            said = peek_torch(path) or {}
            told = (
                model_difference(path, job.parameters)
                if "data_digest" in said
                else f"{path}: trained elsewhere"
            )
            if told:
                raise InputError(
                    f"{told}; no run here wrote this file, and it stays: import it, or move it away"
                )
    if folder / "dataset.pt" in there and (told := dataset_difference(job.folder, job.parameters)):
        raise InputError(f"{told}; no run here wrote this file, and it stays: move it away")


def make_way(job: Job, found: Placement) -> tuple[FileStates, list[str]]:
    """Move what must make way aside, and keep a second name for what is foreign and may be written over.

    Returns the states of the workflow's own files that were moved, and what is to be told.
    """
    told = []
    aside = file_states(found.ours, job.folder)
    for path in (*found.ours, *found.changed):
        kept = _kept(job, path)
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, kept)
    for path in found.changed:
        told.append(f"{path.relative_to(job.folder)} had changed; kept in {REPLACED}/{job.step}")
    for name, state in found.foreign.items():
        path = job.folder / name
        if _is_as(path, state):
            _second_name(path, _kept(job, path))
    return aside, told


def _second_name(path: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.unlink(missing_ok=True)
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError:  # a file system of one name for each file
        shutil.copy2(path, kept, follow_symlinks=False)


def _is_as(path: Path, state: list[Any]) -> bool:
    """Whether a file is there with the content of ``state``."""
    return path.is_file() and file_states([path], path.parent)[path.name][2] == state[2]


def let_go(job: Job, record: dict[str, Any]) -> list[str]:
    """After a step that is done: delete what it replaced, and tell what is kept."""
    told = []
    for name, state in record.get("foreign", {}).items():
        path = job.folder / name
        kept = _kept(job, path)
        if _is_as(path, state):
            kept.unlink(missing_ok=True)
        elif kept.exists():
            told.append(f"{name} was not written here; kept in {REPLACED}/{job.step}")
    for name, state in record.get("aside", {}).items():
        kept = _kept(job, job.folder / name)
        if _is_as(kept, state):
            kept.unlink()
    remove_empty(job.folder / REPLACED)
    return told


def written(job: Job, record: dict[str, Any]) -> dict[str, FileStates]:
    """The files that an execution wrote: ``outputs``, and ``figures``."""
    foreign, data = record.get("foreign", {}), set(job.outputs())
    now = file_states(files_of(job), job.folder, {**foreign, **belongings(record)})
    own = {name: state for name, state in now.items() if foreign.get(name, [None] * 3)[2] != state[2]}
    outputs = {name: state for name, state in own.items() if job.folder / name in data}
    return {"outputs": outputs, "figures": {name: own[name] for name in own.keys() - outputs.keys()}}


def _kept(job: Job, path: Path) -> Path:
    return job.folder / REPLACED / job.step / path.relative_to(job.folder)


def remove_empty(top: Path) -> None:
    """Remove the empty folders below ``top``, and itself if it is one; links are no folders."""
    if top.is_symlink() or not top.is_dir():
        return
    for child in top.iterdir():
        remove_empty(child)
    if not any(top.iterdir()):
        top.rmdir()
