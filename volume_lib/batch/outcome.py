"""What became of a batch, and where an experiment stands: as text, and as a coloured table in a notebook."""

from __future__ import annotations

import contextlib
import html
from dataclasses import dataclass
from pathlib import Path

from volume_lib.batch.data import loaded_data_digest
from volume_lib.batch.folders import experiments_under
from volume_lib.batch.notebooks import KEY, read_notebook
from volume_lib.batch.runner import BLOCKED, DONE, FAILED, NOT_BEGUN, SKIPPED, STOPPED, StepResult
from volume_lib.batch.steps import Job, Verdict, jobs_of, judge
from volume_lib.errors import InputError
from volume_lib.experiment.file import STEPS, Experiment

_COLOURS = {"done": "#d5efdc", "failed": "#f7d0cd", "running": "#d6e4f7"}
_COLOURS |= {"interrupted": "#fbeed0", "pending": "#f2f2f2", "shipped": "#e8e2f5", "warned": "#fbeed0"}
_TERMINAL = {"done": "32", "failed": "31", "running": "34", "interrupted": "33", "pending": "2"}
_TERMINAL |= {"shipped": "36", "warned": "33"}


@dataclass(frozen=True)
class Outcome:
    """The results of one batch. ``interrupted``: somebody stopped it."""

    results: list[StepResult]
    seconds: float = 0.0
    interrupted: bool = False

    def of(self, *states: str) -> list[StepResult]:
        """The results in any of ``states``."""
        return [result for result in self.results if result.state in states]

    @property
    def exit_code(self) -> int:
        """0 if every step is done, 130 if it was interrupted, else 1."""
        if self.interrupted:
            return 130
        return 0 if all(result.is_good for result in self.results) else 1

    def __str__(self) -> str:
        states = (DONE, SKIPPED, FAILED, BLOCKED, STOPPED, NOT_BEGUN)
        counts = [(len(self.of(state)), state) for state in states]
        told = {SKIPPED: "done before"}
        line = ", ".join(f"{n} {told.get(state, state)}" for n, state in counts if n) or "nothing to do"
        lines = [f"{line} ({self.seconds:.0f} s)"]
        for result in self.of(FAILED):
            lines.append(f"failed   {result.job.name}: {result.job.notebook}: {result.cell}: {result.error}")
        for why in dict.fromkeys(result.error for result in self.of(BLOCKED)):
            waiting = [result.job for result in self.of(BLOCKED) if result.error == why]
            steps = ", ".join(dict.fromkeys(job.step for job in waiting))
            lines.append(f"blocked  {waiting[0].name.rpartition(' ')[0]}: {steps}: {why}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return "<pre>" + html.escape(str(self)) + "</pre>"


@dataclass(frozen=True)
class Status:
    """Runs × steps of one experiment: done, failed (why), running, interrupted, pending."""

    name: str
    verdicts: dict[str, dict[str, Verdict]]
    """Run → step → verdict; the row ``analysis`` has that step alone."""

    @property
    def steps(self) -> list[str]:
        """The steps that any run has, in order."""
        return [step for step in STEPS if any(step in verdicts for verdicts in self.verdicts.values())]

    def text(self, *, colour: bool = False) -> str:
        """A table, and below it why steps failed."""
        width = max([len("run"), *(len(row) for row in self.verdicts)])
        lines = [self.name, " ".join([f"{'run':<{width}}", *(f"{step:<11}" for step in self.steps)])]
        for row, verdicts in self.verdicts.items():
            cells = []
            for step in self.steps:
                state = verdicts[step].state if step in verdicts else ""
                cell = f"{_word(verdicts.get(step)):<11}"
                cells.append(
                    f"\033[{_TERMINAL[_look(verdicts.get(step))]}m{cell}\033[0m" if colour and state else cell
                )
            lines.append(" ".join([f"{row:<{width}}", *cells]).rstrip())
        lines += [
            f"{verdict.state}: {row} {step}: {verdict.reason}"
            for row, verdicts in self.verdicts.items()
            for step, verdict in verdicts.items()
            if verdict.state == "failed"
        ]
        lines += [
            f"warning: {row} {step}: {warning}"
            for row, verdicts in self.verdicts.items()
            for step, verdict in verdicts.items()
            for warning in verdict.warnings
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{step}</th>" for step in self.steps)
        rows = []
        for row, verdicts in self.verdicts.items():
            cells = []
            for step in self.steps:
                verdict = verdicts.get(step)
                look = f' style="background:{_COLOURS[_look(verdict)]};color:#1a1a1a"' if verdict else ""
                why = (
                    f' title="{html.escape(verdict.reason, quote=True)}"'
                    if verdict and verdict.reason
                    else ""
                )
                told = [verdict.reason] if verdict and verdict.state == "failed" else []
                told += verdict.warnings if verdict else ()
                shown = "<br>".join(map(html.escape, told))
                cells.append(f"<td{look}{why}>{_word(verdict)}{'<br>' + shown if shown else ''}</td>")
            rows.append(f"<tr><th>{html.escape(row)}</th>{''.join(cells)}</tr>")
        title = html.escape(self.name)
        return f"<table><caption>{title}</caption><tr><th>run</th>{head}</tr>{''.join(rows)}</table>"


def _word(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    told = verdict.state
    if verdict.state == "done" and verdict.seconds is not None:
        told = f"done {verdict.seconds:.0f} s"
    return f"{told}, with warnings" if verdict.warnings else told


def _look(verdict: Verdict | None) -> str:
    return "warned" if verdict and verdict.warnings else verdict.state if verdict else "pending"


@dataclass(frozen=True)
class Statuses:
    """The status of several experiments."""

    experiments: list[Status]

    def text(self, *, colour: bool = False) -> str:
        return "\n\n".join(status.text(colour=colour) for status in self.experiments)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return "".join(status._repr_html_() for status in self.experiments)


def status(folder: str | Path) -> Statuses:
    """Where the experiment of ``folder``, or each below it, stands."""
    found = []
    for experiment in experiments_under(folder):
        rows: dict[str, dict[str, Verdict]] = {}
        known: dict[tuple, Verdict] = {}
        data = _data_now(experiment)
        for run in experiment.run_seeds:
            rows[run.name] = {job.step: _verdict(job, known, data) for job in jobs_of(experiment, run)}
        rows["analysis"] = {"analysis": _verdict(Job(experiment, "analysis"), known, data)}
        found.append(Status(str(experiment.folder), rows))
    return Statuses(found)


def _data_now(experiment: Experiment) -> str:
    """What the data are, where a training says what they were; no code of the experiment's own is run."""
    for run in experiment.run_seeds:
        with contextlib.suppress(InputError):
            notebook = read_notebook(Job(experiment, "train", run).notebook)
            if notebook and notebook["metadata"].get(KEY, {}).get("data"):
                return loaded_data_digest(experiment, trusted=False)
    return ""


def _verdict(job: Job, known: dict, data: str) -> Verdict:
    """A job is done only if those that it needs are."""
    try:
        verdict = judge(job, data)
    except InputError as error:
        verdict = Verdict("failed", str(error))
    there = ("done", "shipped")
    waits = [need for need in job.needs if known[need.run, need.step].state not in there]
    if verdict.state == "done" and waits:
        verdict = Verdict("pending", f"{waits[0].name} comes first")
    known[job.run, job.step] = verdict
    return verdict
