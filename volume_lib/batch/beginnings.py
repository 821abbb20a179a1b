"""Experiments to begin from: the demo's, and a new one that fits a problem's data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.experiment.file import FILE_NAME, experiment_file, parse_experiment

DEMO = """\
# What `python -m volume_lib demo` runs: three pairs of seeds on two spirals in the plane.
problem: swiss_roll
runs: {model_seeds: [0, 1, 2], data_seeds: [10, 11, 12]}
train: {epochs: 3000, batch_size: 200, target_train_loss: 0.01,
        base_data_size: 10, dataset_quantities: [0, 20, 70, 190]}
perturb: {num_directions: 500, loss_thresholds: [0.1]}
"""

NEW = """\
# One pair of seeds for each run: its folder is model_<model seed>_data_<data seed>.
problem: {problem}
model: {{}}                      # arguments of the network; empty: the problem's defaults
runs: {{model_seeds: [0, 1, 2], data_seeds: [10, 11, 12]}}

# Train Low Test Models.ipynb: minima that differ in their amount of additional data
train: {{epochs: {epochs}, batch_size: {batch_size}, base_data_size: {base},
        dataset_type: data,     # or poison (wrong labels), noise (no data at all)
        dataset_quantities: {levels}}}

# Random Perturbs.ipynb: random directions, and the losses whose first crossing is solved for
perturb: {{num_directions: 500, loss_thresholds: [0.02, 0.05, 0.1]}}

# Volume Estimation Pipeline.ipynb
volume: {{loss_thresholds: [0.02, 0.05, 0.1], acc_threshold: null}}
"""


def write_demo(folder: Path) -> Path:
    """The experiment.yaml of the demo in ``folder``; one that is there already stays as it is."""
    path = folder / FILE_NAME
    if not path.exists():
        storage.write_bytes(path, DEMO.encode())
    return path


def new_experiment(folder: Path, problem: str) -> Path:
    """Write an experiment.yaml to edit, with levels that fit the data of ``problem``.

    Raises InputError where there is one already, or no such problem.
    """
    path = experiment_file(folder)
    if path.exists():
        raise InputError(f"{path}: is there already; edit it, or choose another folder")
    text = NEW.format(problem=problem, **_sizes(problem, folder))
    parse_experiment(text, path)
    storage.write_bytes(path, text.encode())
    return path


def _sizes(problem: str, folder: Path) -> dict[str, Any]:
    """Base size and levels for the problem's amount of training data: totals of about 1, 3, 10 … thousand."""
    from volume_lib.problems.registry import get_problem

    available = len(get_problem(problem, folder).load().x_train)
    base = min(60, max(1, available // 10))
    totals = [total for total in (base, 600, 2000, 6000, 20000, 60000) if base <= total <= available]
    return {
        "base": base,
        "levels": [total - base for total in totals],
        "epochs": 300 if available <= 10_000 else 100,
        "batch_size": min(200 if available <= 10_000 else 1000, available),
    }
