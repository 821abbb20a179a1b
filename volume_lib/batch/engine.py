"""Many runs at once: the graph of steps on Dask workers, here or on many machines.

The steps of a run follow each other, runs do not wait for one another, the analysis waits for all. A step
never raises on its worker; what became of it is its result, so that the others go on. Local processes and
a scheduler's address differ in how the client is made and in nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from volume_lib import __version__
from volume_lib.batch import worker
from volume_lib.batch.locks import Held, lock
from volume_lib.batch.report import Report
from volume_lib.batch.resources import Place, cores, describe, places, visible_devices
from volume_lib.batch.runner import BLOCKED, FAILED, SKIPPED, STOPPED, StepResult, stop_all
from volume_lib.batch.shards import shard_count
from volume_lib.batch.steps import NEEDS, Job, check_steps, jobs_of, judge
from volume_lib.errors import InputError
from volume_lib.experiment import STEPS, Experiment, RunSeeds, check_against_data, read_experiment

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_TIMEOUT = "10s"

PATIENCE = 8.0
"""Seconds that running kernels get to end after an interruption."""


def run(
    folder: str | Path,
    *,
    runs: slice | Sequence[int] | None = None,
    steps: Sequence[str] = STEPS,
    workers: int | None = None,
    scheduler: str | None = None,
    force: bool = False,
) -> Report:
    """Execute the notebooks of the experiment in ``folder``, each in its run's folder.

    ``runs``: positions in the experiment's list of runs (None: all). ``steps``: some of
    ``train, perturb, volume, cutoff, accuracy, analysis``. A step that is done with the same parameters,
    code and inputs is skipped, unless ``force``. ``workers``: local processes, each with an equal part of the
    cores (None: one for each GPU, else for each core, as far as there are runs); ``scheduler``: the address
    of a Dask scheduler instead, whose workers see ``folder`` under the same path.

    Raises InputError for what is wrong with the experiment, a folder or the scheduler's address; what
    notebooks do wrong is in the report.
    """
    started = time.monotonic()
    experiment = read_experiment(Path(folder).resolve())
    chosen = _choose(experiment, runs)
    plan = _plan(experiment, chosen, check_steps(steps), force)
    if not plan.todo:
        return Report(plan.skipped, time.monotonic() - started)
    what = f"python -m volume_lib run {experiment.folder}"
    try:
        with lock(experiment.folder, what), _terminations_interrupt():
            check_against_data(experiment)
            wanted = workers or _default_workers(plan.parts)
            with _client(scheduler, wanted, experiment) as (client, shares):
                tasks = _tasks(plan)
                interrupted = _Batch(client, shares, tasks, force).work()
    except Held as error:
        raise InputError(f"{experiment.folder}: in use ({error}); wait for it to end, or stop it") from error
    results = [*plan.skipped, *(task.result for task in tasks if task.index is None)]
    return Report(results, time.monotonic() - started, interrupted)


# --- what there is to do


@dataclass
class _Plan:
    """Chains of jobs, one for each run; the ``analysis`` after all of them; what is done already."""

    chains: list[list[Job]]
    analysis: Job | None
    skipped: list[StepResult] = field(default_factory=list)

    @property
    def todo(self) -> int:
        return sum(map(len, self.chains)) + (self.analysis is not None)

    @property
    def parts(self) -> int:
        """How many workers could be busy at once."""
        sharded = [shard_count(job) for chain in self.chains for job in chain if job.step == "perturb"]
        return max(len(self.chains), sum(sharded), 1)


def _plan(experiment: Experiment, runs: list[RunSeeds], steps: list[str], force: bool) -> _Plan:
    plan = _Plan([], None)
    for seeds in runs:
        jobs = [job for job in jobs_of(experiment, seeds) if job.step in steps]
        done = [job for job in jobs if not force and judge(job).state == "done"]
        if len(done) == len(jobs):
            plan.skipped += [StepResult(job, SKIPPED) for job in jobs]
        else:  # the whole chain: what is done now may not be once the step before it is
            plan.chains.append(jobs)
    analysis = Job(experiment, "analysis")
    if "analysis" in steps:
        if plan.chains or force or judge(analysis).state != "done":
            plan.analysis = analysis
        else:
            plan.skipped.append(StepResult(analysis, SKIPPED))
    return plan


def _choose(experiment: Experiment, runs: slice | Sequence[int] | None) -> list[RunSeeds]:
    everything = experiment.run_seeds
    if runs is None:
        return everything
    try:
        chosen = everything[runs] if isinstance(runs, slice) else [everything[index] for index in runs]
    except IndexError:
        chosen = []
    if not chosen:
        raise InputError(f"--seeds: the experiment has {len(everything)} runs, 0 to {len(everything) - 1}")
    return chosen


def _default_workers(parts: int) -> int:
    return min(len(visible_devices()) or cores(), parts)


# --- workers


@contextlib.contextmanager
def _client(
    scheduler: str | None, workers: int, experiment: Experiment
) -> Iterator[tuple[Client, dict[str, Place]]]:
    """A Dask client, and the share of its machine that each worker has."""
    import distributed

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is in the report
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            cluster = stack.enter_context(_local_cluster(workers))
            client = stack.enter_context(distributed.Client(cluster))
        else:
            try:
                client = stack.enter_context(distributed.Client(scheduler, timeout=CONNECT_TIMEOUT))
            except (OSError, ValueError, TimeoutError) as error:
                reason = " ".join(str(error).split())
                raise InputError(f"--scheduler {scheduler}: no Dask scheduler answers ({reason})") from error
            if not client.nthreads():
                print(f"{scheduler} has no workers yet; waiting for: dask worker {scheduler}", flush=True)
                client.wait_for_workers(1)
        print(f"Dask dashboard: {client.dashboard_link}", flush=True)
        yield client, _shares(client, experiment)


def _local_cluster(workers: int) -> Any:
    import distributed

    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=0,  # what needs memory is the kernel, which Dask does not see
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
        preload=["volume_lib.batch.worker"],
    )


def _shares(client: Client, experiment: Experiment) -> dict[str, Place]:
    """What each worker may use; InputError if one does not see the experiment or has another version."""
    from distributed.comm import get_address_host

    slots = client.nthreads()
    said = client.run(describe, str(experiment.folder), on_error="return")
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
    return places(workers)


# --- the work


@dataclass(eq=False)
class _Task:
    """A job, or part ``index`` of its sweep, to be done after others."""

    job: Job
    after: list[_Task]
    index: int | None = None
    result: StepResult | None = None

    @property
    def is_ready(self) -> bool:
        return all(task.result is not None for task in self.after)

    @property
    def obstacle(self) -> StepResult | None:
        """What makes this task pointless: something it needs has gone wrong (the analysis: everything)."""
        needs = NEEDS[self.job.step] if self.index is not None else (*NEEDS[self.job.step], self.job.step)
        needed = [task.result for task in self.after if task.job.step in needs]
        wrong = [result for result in needed if not result.is_good]
        return wrong[0] if wrong and (self.job.run or len(wrong) == len(needed)) else None


def _tasks(plan: _Plan) -> list[_Task]:
    """All tasks, run by run: the order in which they are begun as soon as they can be."""
    tasks: list[_Task] = []
    for chain in plan.chains:
        before: list[_Task] = []
        for job in chain:
            count = shard_count(job) if job.step == "perturb" else 1
            shards = [_Task(job, list(before), index) for index in range(count)] if count > 1 else []
            before.append(_Task(job, before + shards))
            tasks += [*shards, before[-1]]
    if plan.analysis is not None:
        tasks.append(_Task(plan.analysis, list(tasks)))
    return tasks


class _Batch:
    """The tasks of a plan on the client's workers, until all are done or somebody stops them.

    Never more tasks are handed out than workers have slots: Dask binds a task to a worker when it gets it,
    and would let it wait behind an hour of training while another worker has nothing to do.
    """

    def __init__(self, client: Client, shares: dict[str, Place], tasks: list[_Task], force: bool) -> None:
        self.client, self.tasks = client, tasks
        self.launch = uuid.uuid4().hex
        self.order = worker.Order(self.launch, shares, force, os.environ.get("VOLUME_LIB_DATA"))
        self.finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.flying: dict[str, tuple[Future, _Task]] = {}

    def work(self) -> bool:
        """Give every task its result; whether it was interrupted."""
        with tqdm(total=sum(task.index is None for task in self.tasks), unit="step", desc="notebooks") as bar:
            try:
                while any(task.result is None for task in self.tasks):
                    self._hand_out(bar)
                    self._collect(bar, timeout=0.5)
                return False
            except KeyboardInterrupt:
                bar.write("stopping …")
                self._stop(bar)
                return True

    def _hand_out(self, bar: tqdm) -> None:
        slots = sum(self.client.nthreads().values())
        flying = {id(task) for _, task in self.flying.values()}
        for task in self.tasks:
            if task.result is not None or id(task) in flying or not task.is_ready:
                continue
            if obstacle := task.obstacle:
                error = f"{obstacle.job.name} {obstacle.state}"
                self._finish(task, StepResult(task.job, BLOCKED, error=error), bar)
            elif len(self.flying) < slots:
                self._submit(task)

    def _submit(self, task: _Task) -> None:
        sharded = any(other.index is not None for other in task.after if other.job is task.job)
        do = (
            (worker.do_step, task.job, sharded)
            if task.index is None
            else (worker.do_shard, task.job, task.index)
        )
        key = f"{task.job.name}{'' if task.index is None else f' part {task.index}'}"
        future = self.client.submit(do[0], self.order, *do[1:], key=f"{key} {self.launch}", pure=False)
        self.flying[future.key] = (future, task)
        future.add_done_callback(self.finished.put)

    def _collect(self, bar: tqdm, timeout: float) -> None:
        with contextlib.suppress(queue.Empty):
            future = self.finished.get(timeout=timeout)
            _, task = self.flying.pop(future.key)
            self._finish(task, _result(future, task.job), bar)
        states = [task.result.state for task in self.tasks if task.result is not None]
        failed = states.count(FAILED) + states.count(BLOCKED)
        names = [key.removesuffix(self.launch).strip() for key in self.flying]
        running = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        bar.set_postfix_str(f"{failed} failed, running: {running or '–'}")

    def _finish(self, task: _Task, result: StepResult, bar: tqdm) -> None:
        task.result = result
        if task.index is None:
            bar.update()
        if result.state == FAILED:
            bar.write(f"failed   {result.job.name}: {result.cell}: {result.error}")

    def _stop(self, bar: tqdm) -> None:
        """End the kernels; what has not begun will not, what was running says that it was stopped."""
        stopping = threading.Thread(
            target=lambda: self.client.run(stop_all, self.launch, on_error="ignore"), daemon=True
        )
        stopping.start()  # in a thread: a worker that is stuck never answers
        deadline = time.monotonic() + PATIENCE
        while self.flying and time.monotonic() < deadline:
            self._collect(bar, timeout=0.1)
        for task in self.tasks:
            task.result = task.result or StepResult(task.job, STOPPED)


def _result(future: Future, job: Job) -> StepResult:
    if future.status == "finished":
        return future.result()
    if future.status in ("cancelled", "lost"):
        return StepResult(job, FAILED, "on its worker", "the scheduler went away")
    error = future.exception()
    told = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "KilledWorker":
        told = "its worker died, again and again: out of memory?"
    return StepResult(job, FAILED, "on its worker", told)


@contextlib.contextmanager
def _terminations_interrupt() -> Iterator[None]:
    """A termination, as batch systems send it, ends the batch as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
