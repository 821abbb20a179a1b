"""Clean up: delete what a record says was written and nobody has changed since."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.batch.belongings import belongings, is_reached_by_link
from volume_lib.batch.folders import alone, experiments_under
from volume_lib.batch.notebooks import KEY, read_notebook
from volume_lib.batch.steps import NOTEBOOKS, FileStates, file_states
from volume_lib.errors import InputError, near_match
from volume_lib.experiment.file import STEPS, Experiment

CLEANABLE = {
    "models": ("train",),
    "perturbs": ("perturb",),
    "volumes": ("volume", "cutoff", "accuracy", "integrate"),
    "all": STEPS,
}
"""What ``clean`` can be asked for, and whose files that is."""


@dataclass(frozen=True)
class Cleanable:
    """Files of one run (or of the analysis) that the workflow wrote."""

    folder: Path
    files: list[Path]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for path in self.files)

    def __str__(self) -> str:
        head = f"{size_words(self.size):>8}  {len(self.files):4} files  {self.folder}"
        return "\n".join([head, *(f"          {path.relative_to(self.folder)}" for path in self.files)])


def size_words(number: float) -> str:
    """A number of bytes as people write it: ``"3.1 MB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def cleanable(folder: str | Path, what: str) -> list[Cleanable]:
    """What cleaning would delete: the files that the steps of ``what`` wrote, unchanged since.

    A file that no record names is the user's, as is one whose content is no longer what was written.
    Nothing is reached through a link.
    """
    if what not in CLEANABLE:
        hint = near_match(what, CLEANABLE)
        raise InputError(f"--what {what}: must be one of {', '.join(CLEANABLE)}{hint}")
    found = []
    for experiment in experiments_under(folder):
        for place, steps in _places(experiment, CLEANABLE[what]):
            files = {path for step in steps for path in _belonging(place, step, experiment.folder)}
            if files:
                found.append(Cleanable(place, sorted(files)))
    return found


def _places(experiment: Experiment, steps: tuple[str, ...]) -> list[tuple[Path, list[str]]]:
    own = [step for step in steps if step != "analysis"]
    places = [(path, own) for path in storage.list_runs(experiment.folder)]
    if "analysis" in steps:
        places.insert(0, (storage.analysis_dir(experiment.folder), ["analysis"]))
    return places


def _belonging(place: Path, step: str, top: Path) -> list[Path]:
    notebook = read_notebook(place / NOTEBOOKS[step])
    record = notebook["metadata"].get(KEY, {}) if notebook else {}
    recorded = {**belongings(record), **_left_by_an_unfinished(record, place, step)}
    paths = []
    for name in recorded:
        path = place / name
        inside = ".." not in Path(name).parts and not is_reached_by_link(path, top)
        if inside and path.is_file() and path.stat().st_size == recorded[name][0]:
            paths.append(path)
    states = file_states(paths, place, recorded)
    return [
        path
        for path in paths
        if states[str(path.relative_to(place))][2] == recorded[str(path.relative_to(place))][2]
    ]


def _left_by_an_unfinished(record: dict[str, Any], place: Path, step: str) -> FileStates:
    """The batches of a sweep that was killed before it could say what it wrote, all that were not there; and
    the parts of a split one, which no record names, since the next attempt goes on with them."""
    if step != "perturb" or record.get("state") not in ("running", "failed"):
        return {}
    folders = {place / storage.PARTIAL, place / storage.SHARDS}
    listed = storage.list_outputs(place, step, figures=True)
    paths = [path for path in listed if folders.intersection(path.parents)]
    before = record.get("foreign", {})
    found = file_states([path for path in paths if path.is_file() and not path.is_symlink()], place)
    return {name: state for name, state in found.items() if name not in before}


def clean(folder: str | Path, what: str) -> list[Cleanable]:
    """Delete what :func:`cleanable` lists, and folders that this leaves empty."""
    with contextlib.ExitStack() as stack:
        for experiment in experiments_under(folder):
            stack.enter_context(alone(experiment, "clean"))
        found = cleanable(folder, what)
        for place in found:
            for path in place.files:
                path.unlink(missing_ok=True)
            for parent in {path.parent for path in place.files}:
                _remove_empty(parent, place.folder)
    return found


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove ``folder`` and those above it, up to ``top``, while they are empty."""
    while folder != top:
        if folder.is_dir() and not folder.is_symlink():
            if any(folder.iterdir()):
                return
            folder.rmdir()
        folder = folder.parent
