"""The tasks that Dask workers execute; also the preload of local workers.

A worker only supervises: notebooks run in kernels of their own. It is therefore light, and a kernel that
dies takes nothing with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from volume_lib.batch.resources import Place, Resources, Slots, resources_of
from volume_lib.batch.runner import BLOCKED, StepResult, run_shard, run_step
from volume_lib.batch.steps import NEEDS, Job

_slots = Slots()


@dataclass(frozen=True)
class Order:
    """What all tasks of a launcher share: its name, workers' shares by address, whether to do all again."""

    launch: str
    shares: dict[str, Place]
    force: bool
    data_root: str | None

    @contextlib.contextmanager
    def at_work(self, name: str) -> Iterator[Resources]:
        """Hold a slot of this worker and tell the launcher so."""
        from distributed import get_worker

        here = get_worker()
        place = self.shares.get(here.address)
        if place is None:  # it came later
            place = Place(max(1, len(os.sched_getaffinity(0)) // here.state.nthreads))
        if self.data_root:
            os.environ.setdefault("VOLUME_LIB_DATA", self.data_root)
        slot = _slots.take()
        here.log_event(self.launch, [name, True])
        try:
            yield resources_of(place, slot)
        finally:
            _slots.give_back(slot)
            here.log_event(self.launch, [name, False])


def do_step(order: Order, job: Job, before: list[StepResult], parts: list[StepResult]) -> StepResult:
    """One step, unless one that it needs has gone wrong; ``parts`` are those of its sweep."""
    needed = [result for result in before if job.run is None or result.job.step in NEEDS[job.step]]
    wrong = [result for result in needed if not result.is_good]
    if wrong and (job.run is not None or len(wrong) == len(needed)):
        return StepResult(job, BLOCKED, error=f"{wrong[0].job.name} {wrong[0].state}")
    for part in parts:
        if not part.is_good:
            return part
    with order.at_work(job.name) as resources:
        return run_step(job, resources, force=order.force, launch=order.launch, sharded=bool(parts))


def do_shard(order: Order, job: Job, index: int, before: list[StepResult]) -> StepResult:
    """Part ``index`` of a run's sweep."""
    wrong = [result for result in before if result.job.step in NEEDS[job.step] and not result.is_good]
    if wrong:
        return StepResult(job, BLOCKED, error=f"{wrong[0].job.name} {wrong[0].state}")
    with order.at_work(f"{job.name} part {index}") as resources:
        return run_shard(job, index, resources, force=order.force, launch=order.launch)


def dask_setup(worker: Any) -> None:
    """Preload: leave Ctrl-C to the launcher, and import now what the first step would wait for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import volume_lib.batch.kernels  # noqa: F401
