"""Spread the directions of one run's sweep over workers: parts that any of them computes, merged into one.

Part ``k`` of ``K`` takes a stretch of the perturbation seeds and writes sweeps of its own below
``.shards/``. The merged files hold the same directions in the same order as those of one sweep, so
that the notebook finds its work done.

``python -m volume_lib.batch.shards`` is one part, in a process that can be stopped; its instructions come as
JSON on the standard input, which its parent keeps open for as long as the part is wanted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.batch.steps import Job
from volume_lib.errors import InputError


class ShardFailed(Exception):
    """A part of a sweep ended with an error; the message is its last line."""


def shard_parameters(job: Job, index: int) -> dict[str, Any]:
    """The arguments of ``run_sweep`` for part ``index``: its stretch of the directions."""
    parameters = {key: value for key, value in job.parameters.items() if key != "problem"}
    total, shards = parameters["num_directions"], shard_count(job)
    first, last = index * total // shards, (index + 1) * total // shards
    seed = parameters["perturbation_seed"] + first
    return {**parameters, "num_directions": last - first, "perturbation_seed": seed}


def shard_count(job: Job) -> int:
    """Into how many parts the sweep is split: never more than there are directions."""
    perturb = job.experiment.perturb
    return min(perturb.shards, perturb.num_directions)


@dataclass
class ShardProcess:
    """One part of a sweep at work; :meth:`stop` ends it from another thread."""

    job: Job
    index: int
    environment: dict[str, str]
    inherit: tuple[int, ...] = ()
    stopped: threading.Event = field(default_factory=threading.Event)
    process: subprocess.Popen | None = None

    def stop(self) -> None:
        self.stopped.set()
        if self.process is not None:
            self.process.kill()

    def run(self) -> None:
        """Compute the part; raises :class:`ShardFailed`."""
        given: dict[str, Any] = {
            "run_dir": str(self.job.folder),
            "out": str(storage.shard_dir(self.job.folder, self.index)),
        }
        given["parameters"] = shard_parameters(self.job, self.index)
        given["problem"] = self.job.experiment.problem
        command = [sys.executable, "-m", "volume_lib.batch.shards"]
        with tempfile.TemporaryFile() as said:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=self.environment,
                cwd=self.job.folder,
                pass_fds=self.inherit,
                start_new_session=True,
            )
            if self.stopped.is_set():
                self.stop()
            with self.process as process:
                assert process.stdin is not None  # a pipe, as asked for
                process.stdin.write(json.dumps(given).encode() + b"\n")
                process.stdin.flush()
                code = process.wait()
            if code and not self.stopped.is_set():
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                raise ShardFailed(lines[-1] if lines else f"exit code {code} without a word")


def merge_shards(job: Job) -> None:
    """Join the parts to the files of one sweep and delete them. InputError where a part is missing."""
    folders = [storage.shard_dir(job.folder, index) for index in range(shard_count(job))]
    names = [
        sorted(path.relative_to(folder) for level in storage.list_sweeps(folder).values() for path in level)
        for folder in folders
    ]
    if not names[0] or any(other != names[0] for other in names):
        raise InputError(f"{job.folder / storage.SHARDS}: parts of the sweep are missing; run the step again")
    for name in names[0]:
        sweeps = [storage.load_sweep(folder / name) for folder in folders]
        merged = sweeps[0]
        merged.wiggle_results = [ray for sweep in sweeps for ray in sweep.wiggle_results]
        storage.save_sweep(job.folder / name, merged)
    shutil.rmtree(job.folder / storage.SHARDS)


def _compute(run_dir: str, out: str, problem: str, parameters: dict[str, Any]) -> None:
    from volume_lib.problems.registry import get_problem
    from volume_lib.sweep.run import run_sweep

    chosen = get_problem(problem, Path(run_dir))
    models, dataset = storage.load_models_and_data(Path(run_dir) / storage.MODELS_AND_DATA, chosen)
    paths = run_sweep(chosen, models, dataset, out, **parameters)
    for path in set(storage.list_outputs(Path(out), "perturb")) - set(paths):
        path.unlink()  # of an earlier attempt, with other landscapes or models


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Compute one part, as the standard input asks."""
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _compute(**given)


if __name__ == "__main__":
    main()
