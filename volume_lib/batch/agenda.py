"""What a batch has to do: the jobs that are not done, and which wait for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from volume_lib.batch.runner import SKIPPED, StepResult
from volume_lib.batch.shards import shard_count
from volume_lib.batch.steps import NEEDS, Job, jobs_of, judge
from volume_lib.errors import InputError
from volume_lib.experiment.file import Experiment, RunSeeds


@dataclass
class Agenda:
    """Chains of jobs, one for each run; the ``analysis`` after all of them; what is done already."""

    chains: list[list[Job]]
    analysis: Job | None
    skipped: list[StepResult] = field(default_factory=list)

    @property
    def jobs(self) -> list[Job]:
        """All of them, each run's in order, the analysis last."""
        return [job for chain in self.chains for job in chain] + ([self.analysis] if self.analysis else [])

    @property
    def todo(self) -> int:
        return len(self.jobs)

    @property
    def parts(self) -> int:
        """How many workers could be busy at once."""
        sharded = [shard_count(job) for chain in self.chains for job in chain if job.step == "perturb"]
        return max(len(self.chains), sum(sharded), 1)


def make_agenda(
    experiment: Experiment, runs: list[RunSeeds], steps: list[str], force: bool, data: str = ""
) -> Agenda:
    """``data``: what the problem's data are now, as :func:`volume_lib.batch.steps.judge` has it."""
    agenda = Agenda([], None)
    for seeds in runs:
        jobs = [job for job in jobs_of(experiment, seeds) if job.step in steps]
        done = [job for job in jobs if not force and judge(job, data).state == "done"]
        if len(done) == len(jobs):
            agenda.skipped += [StepResult(job, SKIPPED) for job in jobs]
        else:  # the whole chain: what is done now may not be once the step before it is
            agenda.chains.append(jobs)
    analysis = Job(experiment, "analysis")
    if "analysis" in steps:
        if agenda.chains or force or judge(analysis).state != "done":
            agenda.analysis = analysis
        else:
            agenda.skipped.append(StepResult(analysis, SKIPPED))
    return agenda


def parse_runs(text: str | None) -> slice | list[int] | None:
    """``"0:10"``, ``"3"`` or ``"0,4,7"`` as positions in the list of runs; None is all of them."""
    if text is None:
        return None
    try:
        if ":" in text:
            return slice(*(int(part) if part.strip() else None for part in text.split(":")))
        return [int(part) for part in text.split(",")]
    except (ValueError, TypeError) as error:
        raise InputError(f"--seeds {text}: must be positions of runs, such as 0:10, 3 or 0,4,7") from error


def choose_runs(experiment: Experiment, runs: slice | Sequence[int] | None) -> list[RunSeeds]:
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


@dataclass(eq=False)
class Task:
    """A job, or part ``index`` of its sweep, to be done after others."""

    job: Job
    after: list[Task]
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
        wrong = [result for result in needed if result is not None and not result.is_good]
        return wrong[0] if wrong and (self.job.run or len(wrong) == len(needed)) else None


def tasks_of(agenda: Agenda) -> list[Task]:
    """All tasks, run by run: the order in which they are begun as soon as they can be."""
    tasks: list[Task] = []
    for chain in agenda.chains:
        before: list[Task] = []
        for job in chain:
            count = shard_count(job) if job.step == "perturb" else 1
            shards = [Task(job, list(before), index) for index in range(count)] if count > 1 else []
            before.append(Task(job, before + shards))
            tasks += [*shards, before[-1]]
    if agenda.analysis is not None:
        tasks.append(Task(agenda.analysis, list(tasks)))
    return tasks
