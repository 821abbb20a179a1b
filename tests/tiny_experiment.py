"""Experiments whose notebooks do next to nothing, and tell of it: what batches are tested with."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from volume_lib.batch.steps import NOTEBOOKS, Job, jobs_of
from volume_lib.experiment.file import Experiment, read_experiment

FILES = {
    "train": ["models_and_data/dataset.pt", "models_and_data/model_additional_0.pt"],
    "perturb": ["data_0/data_0.npz"],
    "volume": ["data_0/loss_0.1/results.json"],
    "cutoff": ["cutoffs/cutoffs.json"],
    "accuracy": ["test_accuracies.npz"],
}
STEPS = list(FILES)
LOG = "executions.log"

_BODY = """\
import os, time
def tell(word):
    with open({log!r}, "a") as file:
        file.write(word + " {step}\\n")
tell("begin")
{body}
for name in {files!r}:
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name + ".tmp", "w") as file:
        file.write(name)
    os.replace(name + ".tmp", name)
tell("end")
"""


def notebook(step: str, body: str = "") -> dict:
    """A notebook that writes the step's files and two lines into a log, with ``body`` in between."""

    def cell(name: str, source: str, tags: list[str]) -> dict:
        metadata = {"tags": tags} if tags else {}
        return {"cell_type": "code", "id": name, "metadata": metadata, "outputs": [], "execution_count": None,
                "source": source}  # fmt: skip

    source = _BODY.format(log=LOG, step=step, body=body, files=FILES[step])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [cell("parameters", "x = 1", ["parameters"]), cell("work", source, [])]
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def make(folder: Path, runs: int = 1, bodies: dict[str, str] | None = None, more: str = "") -> Experiment:
    """An experiment with ``runs`` runs of such notebooks; ``bodies``: step → what it does besides."""
    seeds = list(range(runs))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.yaml").write_text(
        f"problem: swiss_roll\nruns: {{model_seeds: {seeds}, data_seeds: {seeds}}}\n"
        f"train: {{dataset_quantities: [0], epochs: 1}}\n{more}"
    )
    experiment = read_experiment(folder)
    for run in experiment.run_seeds:
        for job in jobs_of(experiment, run):
            put(job, (bodies or {}).get(job.step, ""))
    return experiment


def put(job: Job, body: str = "") -> None:
    """Write one job's notebook."""
    job.folder.mkdir(exist_ok=True)
    (job.folder / NOTEBOOKS[job.step]).write_text(json.dumps(notebook(job.step, body)))


def executions(folder: Path) -> Counter:
    """How often each step of a run began and ended, as it told itself."""
    log = folder / LOG
    return Counter(log.read_text().splitlines() if log.exists() else [])
