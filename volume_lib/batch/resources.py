"""Who gets how many threads, and which GPU: workers of one machine must not fight over either."""

from __future__ import annotations

import os
import queue
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volume_lib import __version__


@dataclass(frozen=True)
class Resources:
    """What a step may use: threads, a GPU by its name in ``CUDA_VISIBLE_DEVICES`` (None: as it is), and
    where the launcher has its data, for workers whose own environment does not say."""

    threads: int
    device: str | None = None
    data_root: str | None = None

    def environment(self) -> dict[str, str]:
        """The environment, with variables that keep every library to these threads and this GPU.

        A kernel starts in its run's folder: from there it must find the package that started it, also where
        that is a checkout that nobody installed.
        """
        names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
        values = {f"{name}_NUM_THREADS": str(self.threads) for name in names}
        if self.device is not None:
            values["CUDA_VISIBLE_DEVICES"] = self.device
        if self.data_root is not None:
            values["VOLUME_LIB_DATA"] = os.environ.get("VOLUME_LIB_DATA", self.data_root)
        root = Path(__file__).resolve().parents[2]
        if root.name not in ("site-packages", "dist-packages"):
            paths = [str(root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
            values["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
        return {**os.environ, **values}


@dataclass(frozen=True)
class Place:
    """A worker's share of its machine: threads for each step, and the number of its first slot there."""

    threads: int
    first_slot: int = 0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_devices() -> list[str]:
    """The GPUs of this machine that this process may use, by their names in ``CUDA_VISIBLE_DEVICES``."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return sorted((path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")), key=int)


def describe(folder: str, dask_worker: Any = None) -> dict[str, Any]:
    """What a worker says of itself: whether it sees the experiment, and what its machine has."""
    return {
        "name": getattr(dask_worker, "name", ""),
        "sees": Path(folder).is_dir(),
        "version": __version__,
        "cores": cores(),
        "devices": visible_devices(),
    }


def places(workers: dict[str, dict[str, Any]]) -> dict[str, Place]:
    """Address → share. ``workers``: what each says of itself, its ``host``, its ``slots`` (steps at once).

    Steps of one machine are numbered through; the n-th takes the n-th GPU, beginning again after the
    last. Workers of one machine that see different GPUs have been given theirs, as by dask-cuda: each
    begins with its own first.
    """
    hosts: dict[str, list[str]] = defaultdict(list)
    for address in sorted(workers):
        hosts[workers[address]["host"]].append(address)
    shares = {}
    for addresses in hosts.values():
        total = sum(workers[address]["slots"] for address in addresses)
        given = len({tuple(workers[address]["devices"]) for address in addresses}) > 1
        slot = 0
        for address in addresses:
            threads = max(1, workers[address]["cores"] // total)
            shares[address] = Place(threads, 0 if given else slot)
            slot += workers[address]["slots"]
    return shares


class Slots:
    """The slots of one worker process: each thread that is at work holds one."""

    def __init__(self) -> None:
        self._free: queue.PriorityQueue[int] = queue.PriorityQueue()
        self._made = 0

    def take(self) -> int:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            self._made += 1
            return self._made - 1

    def give_back(self, slot: int) -> None:
        self._free.put(slot)


def resources_of(place: Place, slot: int) -> Resources:
    """What the step in the worker's ``slot`` may use."""
    devices = visible_devices()
    device = devices[(place.first_slot + slot) % len(devices)] if devices else None
    return Resources(place.threads, device)
