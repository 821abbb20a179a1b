"""The tasks that Dask workers execute; also the preload of local workers.

A worker only supervises: notebooks run in kernels of their own. It is therefore light, and a kernel that
dies takes nothing with it.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from volume_lib.batch.resources import Place, Resources, Slots, cores, resources_of
from volume_lib.batch.runner import StepResult, run_shard, run_step
from volume_lib.batch.steps import Job

_slots = Slots()


@dataclass(frozen=True)
class Order:
    """What all tasks of a launcher share: its name, workers' shares by address, whether to do all again."""

    launch: str
    shares: dict[str, Place]
    force: bool
    data_root: str | None
    data: str = ""
    """What the problem's data are, as the launcher found them."""

    def place_of(self, address: str, name: str, slots: int) -> Place:
        """The share of a worker: its own, or that of the one of its name that died. One that came later has
        no more threads than any other of the same machine."""
        if place := self.shares.get(address) or self.shares.get(name):
            return place
        host = address.rpartition(":")[0]
        beside = [place.threads for other, place in self.shares.items() if other.rpartition(":")[0] == host]
        return Place(min([max(1, cores() // slots), *beside]))

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Resources]:
        """Hold a slot of this worker."""
        from distributed import get_worker

        here = get_worker()
        place = self.place_of(here.address, str(here.name), here.state.nthreads)
        slot = _slots.take()
        try:
            yield replace(resources_of(place, slot), data_root=self.data_root)
        finally:
            _slots.give_back(slot)


def do_step(order: Order, job: Job, sharded: bool) -> StepResult:
    """One step; ``sharded``: the parts of its sweep are there."""
    with order.at_work() as resources:
        return run_step(
            job, resources, force=order.force, launch=order.launch, sharded=sharded, data=order.data
        )


def do_shard(order: Order, job: Job, index: int) -> StepResult:
    """Part ``index`` of a run's sweep."""
    with order.at_work() as resources:
        return run_shard(job, index, resources, force=order.force, launch=order.launch)


def dask_setup(worker: Any) -> None:
    """Preload: leave Ctrl-C to the launcher, and import now what the first step would wait for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import volume_lib.batch.kernels  # noqa: F401
