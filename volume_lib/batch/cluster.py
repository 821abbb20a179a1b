"""Dask workers for a batch: processes of this machine, or those of a scheduler that is there already."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from volume_lib import __version__
from volume_lib.batch.resources import Place, cores, describe, places, visible_devices
from volume_lib.errors import InputError
from volume_lib.experiment.file import Experiment

if TYPE_CHECKING:
    from distributed import Client

CONNECT_TIMEOUT = "10s"


def default_workers(parts: int) -> int:
    return min(len(visible_devices()) or cores(), parts)


@contextlib.contextmanager
def connected(
    scheduler: str | None, workers: int, experiment: Experiment
) -> Iterator[tuple[Client, dict[str, Place]]]:
    """A Dask client, and the share of its machine that each worker has."""
    import distributed

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is in the outcome
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            cluster = stack.enter_context(_local_cluster(workers))
            client = stack.enter_context(distributed.Client(cluster))
        else:
            try:
                client = stack.enter_context(distributed.Client(scheduler, timeout=CONNECT_TIMEOUT))
            except TypeError as error:  # Dask's word for a missing key
                if not scheduler.startswith("tls://"):
                    raise
                raise InputError(
                    f"--scheduler {scheduler}: needs keys in Dask's configuration, distributed.comm.tls: "
                    "ca-file and client.cert"
                ) from error
            except (OSError, ValueError, TimeoutError) as error:
                reason = " ".join(str(error).split())
                raise InputError(f"--scheduler {scheduler}: no Dask scheduler answers ({reason})") from error
            if not client.nthreads():
                print(f"{scheduler} has no workers yet; waiting for: dask worker {scheduler}", flush=True)
                client.wait_for_workers(1)
        print(f"Dask dashboard: {client.dashboard_link}", flush=True)
        yield client, _shares(client, experiment)


def _local_cluster(workers: int) -> Any:
    """Workers behind TLS, with keys made for this run and kept in memory: nobody else on this machine can
    connect to the scheduler's port. A scheduler of one's own (``--scheduler tls://…``) takes its keys from
    Dask's configuration, ``distributed.comm.tls``."""
    import distributed

    _check_shared_memory()
    return distributed.LocalCluster(
        protocol="tls://",
        security=distributed.Security.temporary(),
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=0,  # what needs memory is the kernel, which Dask does not see
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
        preload=["volume_lib.batch.worker"],
    )


def _check_shared_memory() -> None:
    """InputError where processes cannot share what they need to wait for each other."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        raise InputError(
            f"/dev/shm: cannot be written to ({error.strerror or error}), and local workers need it; make it "
            "writable, or give --scheduler"
        ) from error


def _shares(client: Client, experiment: Experiment) -> dict[str, Place]:
    """What each worker may use; InputError if one does not see the experiment or has another version."""
    from distributed.comm.addressing import get_address_host

    slots: Any = client.nthreads()
    said: Any = client.run(describe, str(experiment.folder), on_error="return")
    workers = {}
    for address, answer in said.items():
        if isinstance(answer, BaseException):
            raise InputError(f"worker {address}: cannot run volume_lib {__version__}: {answer}")
        if answer["version"] != __version__:
            raise InputError(f"worker {address}: has volume_lib {answer['version']}, not {__version__}")
        if not answer["sees"]:
            raise InputError(f"worker {address}: does not see {experiment.folder}, which must be shared")
        if address in slots:  # it may have gone in between
            workers[address] = {**answer, "host": get_address_host(address), "slots": slots[address]}
    shares = places(workers)
    # a worker that its nanny starts again has the name of the one that died, at another address
    names = {address: str(said[address]["name"]) for address in shares}
    return {**{names[address]: place for address, place in shares.items()}, **shares}
