"""Many runs at once: the graph of steps on Dask workers, here or on many machines.

The steps of a run follow each other, runs do not wait for one another, the analysis waits for all. A step
never raises on its worker; what became of it is its result, so that the others go on. Local processes and
a scheduler's address differ in how the client is made and in nothing else.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import threading
import time
import uuid
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from volume_lib.batch import worker
from volume_lib.batch.agenda import Task, choose_runs, make_agenda, tasks_of
from volume_lib.batch.belongings import replaced_line
from volume_lib.batch.check import check_against_data
from volume_lib.batch.cluster import connected, default_workers
from volume_lib.batch.data import loaded_data_digest
from volume_lib.batch.locks import Held, lock
from volume_lib.batch.notebooks import cells_done
from volume_lib.batch.outcome import Outcome
from volume_lib.batch.resources import Place
from volume_lib.batch.runner import BLOCKED, FAILED, NOT_BEGUN, STOPPED, StepResult, stop_all
from volume_lib.batch.steps import Job, check_steps
from volume_lib.errors import InputError
from volume_lib.experiment.file import FILE_NAME, STEPS, read_experiment
from volume_lib.progress import Bar, tell

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE = 5.0
"""Seconds that running kernels get to end after an interruption."""

LOOK_EVERY = 3.0
"""Seconds between two looks into a notebook that is being executed."""


def run(
    folder: str | Path,
    *,
    runs: slice | Sequence[int] | None = None,
    steps: Sequence[str] = STEPS,
    workers: int | None = None,
    scheduler: str | None = None,
    force: bool = False,
) -> Outcome:
    """Execute the notebooks of the experiment in ``folder``, each in its run's folder.

    ``runs``: positions in the experiment's list of runs (None: all). ``steps``: some of
    ``train, perturb, volume, cutoff, accuracy, integrate, analysis``. A step that is done with the same
    parameters, code and inputs is skipped, unless ``force``. ``workers``: local processes, each with an
    equal part of the cores (None: one for each GPU, else for each core, as far as there are runs);
    ``scheduler``: the address of a Dask scheduler instead, whose workers see ``folder`` under the same path.

    Raises InputError for what is wrong with the experiment, a folder or the scheduler's address; what
    notebooks do wrong is in the outcome.
    """
    started = time.monotonic()
    experiment = read_experiment(Path(folder).absolute())
    chosen = choose_runs(experiment, runs)
    steps = check_steps(steps)
    if len(steps) < len(STEPS) and (absent := [step for step in steps if step not in experiment.steps]):
        raise InputError(
            f"--steps {absent[0]}: {experiment.folder / FILE_NAME} has no section {absent[0]}; add "
            f'"{absent[0]}: {{}}" to it'
        )
    data = loaded_data_digest(experiment) if "train" in steps else ""
    agenda = make_agenda(experiment, chosen, steps, force, data)
    if not agenda.todo:
        return Outcome(agenda.skipped, time.monotonic() - started)
    what = f"python -m volume_lib run {experiment.folder}"
    try:
        with lock(experiment.folder, what), _interruptions() as asked:
            if any(job.step != "analysis" for job in agenda.jobs):  # which reads results alone
                check_against_data(experiment)
            if line := replaced_line(agenda.jobs, force, data):
                tell(line)
            wanted = workers or default_workers(agenda.parts)
            with connected(scheduler, wanted, experiment) as (client, shares):
                tasks = tasks_of(agenda)
                interrupted = _Batch(client, shares, tasks, (force, data), asked).work()
    except Held as error:
        raise InputError(f"{experiment.folder}: in use ({error}); wait for it to end, or stop it") from error
    results = [*agenda.skipped, *(task.result for task in tasks if task.index is None)]
    return Outcome(results, time.monotonic() - started, interrupted)


class _Batch:
    """The tasks of an agenda on the client's workers, until all are done or somebody stops them (``asked``).

    Never more tasks are handed out than workers have slots: Dask binds a task to a worker when it gets it,
    and would let it wait behind an hour of training while another worker has nothing to do.
    """

    def __init__(
        self,
        client: Client,
        shares: dict[str, Place],
        tasks: list[Task],
        how: tuple[bool, str],
        asked: threading.Event,
    ) -> None:
        self.client, self.tasks, self.asked = client, tasks, asked
        self.launch = uuid.uuid4().hex
        self.order = worker.Order(self.launch, shares, how[0], os.environ.get("VOLUME_LIB_DATA"), how[1])
        self.finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.flying: dict[Hashable, tuple[Future, Task]] = {}
        self.looked: dict[int, tuple[float, str]] = {}

    def work(self) -> bool:
        """Give every task its result; whether it was interrupted."""
        with Bar(total=sum(task.index is None for task in self.tasks), unit="step", desc="notebooks") as bar:
            try:
                while any(task.result is None for task in self.tasks):
                    if self.asked.is_set():
                        raise KeyboardInterrupt
                    self._hand_out(bar)
                    self._collect(bar, timeout=0.5)
                if not all(task.result is not None and task.result.is_good for task in self.tasks):
                    bar.stop()  # it counts what is done, and ends where that ends
                return False
            except KeyboardInterrupt:
                bar.write("stopping …")
                self._stop(bar)
                bar.stop()
                return True

    def _hand_out(self, bar: Bar) -> None:
        slots = sum(cast("dict[str, int]", self.client.nthreads()).values())  # no coroutine: it waits
        flying = {id(task) for _, task in self.flying.values()}
        for task in self.tasks:
            if task.result is not None or id(task) in flying or not task.is_ready:
                continue
            if obstacle := task.obstacle:
                error = f"{obstacle.job.name} {obstacle.state}"
                self._finish(task, StepResult(task.job, BLOCKED, error=error), bar)
            elif len(self.flying) < slots:
                self._submit(task)

    def _submit(self, task: Task) -> None:
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

    def _collect(self, bar: Bar, timeout: float) -> None:
        with contextlib.suppress(queue.Empty):
            future = self.finished.get(timeout=timeout)
            _, task = self.flying.pop(future.key)
            self._finish(task, _result(future, task.job), bar)
        states = [task.result.state for task in self.tasks if task.result is not None]
        failed = states.count(FAILED) + states.count(BLOCKED)
        names = [f"{task.job.name}{self._progress(task)}" for _, task in list(self.flying.values())[:4]]
        running = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        bar.set_postfix_str(f"{failed} failed, running: {running or '–'}")

    def _progress(self, task: Task) -> str:
        """How far a step is, looked at every few seconds: the cells of its notebook that have ended."""
        if task.index is not None:
            return f" part {task.index}"
        looked, told = self.looked.get(id(task), (-math.inf, ""))
        if time.monotonic() - looked > LOOK_EVERY:
            told = cells_done(task.job.notebook)
            self.looked[id(task)] = time.monotonic(), told
        return told

    def _finish(self, task: Task, result: StepResult, bar: Bar) -> None:
        task.result = result
        if task.index is None and result.is_good:
            bar.update()
        if result.state == FAILED:
            bar.write(f"failed   {result.job.name}: {result.cell}: {result.error}")

    def _stop(self, bar: Bar) -> None:
        """End the kernels; what has not begun will not, what was running says that it was stopped."""
        stopping = threading.Thread(
            target=lambda: self.client.run(stop_all, self.launch, on_error="ignore"), daemon=True
        )
        stopping.start()  # in a thread: a worker that is stuck never answers
        deadline = time.monotonic() + PATIENCE
        begun = {task.job.name for _, task in self.flying.values()}
        while self.flying and time.monotonic() < deadline:
            self._collect(bar, timeout=0.1)
        for task in self.tasks:
            state = STOPPED if task.job.name in begun else NOT_BEGUN
            task.result = task.result or StepResult(task.job, state)


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
def _interruptions() -> Iterator[threading.Event]:
    """Ctrl-C, and a termination as batch systems send it, raise KeyboardInterrupt within.

    The event remembers it, for an exception raised inside a callback of the interpreter is swallowed there.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def interrupt(*_: Any) -> None:
        asked.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
