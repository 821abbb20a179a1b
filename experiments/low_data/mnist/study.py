"""Repeat the published MNIST study (Fan, Sandlund and Ko 2025, arXiv:2511.04808): hours, then the tables.

    python experiments/low_data/mnist/study.py

Runs ``experiment.yaml`` for the seeds of ``--seeds``, measures the minima of the first once more with the
plain grid, notes what both cost in ``study.json`` and has ``tables.py`` write the tables of ``README.md``.
Notebooks that are done are skipped; the two searches that are compared are timed anew. ``--ship`` makes of it
what the repository keeps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tables import HERE, MEASURED, STEPS, THRESHOLD, write_tables

from volume_lib import batch, cutoffs, storage, volume
from volume_lib.batch.agenda import choose_runs
from volume_lib.cli import parse_runs
from volume_lib.devices import processor_name, resolve_device
from volume_lib.experiment.file import read_experiment
from volume_lib.problems import get_problem
from volume_lib.sweep.run import run_sweep


def run_study(seeds: str) -> None:
    """Everything that takes hours; what is done already is skipped."""
    report = batch.run(HERE, runs=parse_runs(seeds), workers=1)
    print(report)
    if report.exit_code:
        raise SystemExit(report.exit_code)
    experiment = read_experiment(HERE)
    runs = [HERE / run.name for run in choose_runs(experiment, parse_runs(seeds))]
    (status,) = batch.status(HERE).experiments
    seconds = {run.name: {step: status.verdicts[run.name][step].seconds for step in STEPS} for run in runs}
    measured = {
        "processor": processor_name(resolve_device("auto")),
        "torch": torch.__version__,
        "seconds": seconds,
        "grid_against_crossing": grid_against_crossing(runs[0]),
    }
    storage.write_bytes(MEASURED, (json.dumps(measured, indent=1, allow_nan=False) + "\n").encode())


def grid_against_crossing(run: Path) -> dict[str, Any]:
    """The same minima in landscape 0 along the same directions, off the grid and solved for."""
    models, dataset = storage.load_models_and_data(run / storage.MODELS_AND_DATA)
    problem = get_problem("mnist", HERE)
    perturb = read_experiment(HERE).perturb
    found: dict[str, Any] = {"run": run.name, "threshold": THRESHOLD}
    for search in ("grid", "crossing"):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            paths = run_sweep(
                problem, models, dataset, folder, search=search, landscape_levels=[0],
                num_directions=perturb.num_directions, loss_thresholds=[THRESHOLD],
            )  # fmt: skip
            seconds = time.perf_counter() - start
            results = volume.estimate_volumes([storage.load_sweep(path) for path in paths], THRESHOLD)
        keys = ("log_exp_r_n_values", "log_exp_r_n_resolution", "log_exp_r_n_ranks", "num_censored")
        found[search] = {"seconds": seconds, **{key: list(results[key]) for key in keys}}
    return found


def ship() -> None:
    """Make what the repository keeps: curves of a hundred points, the analysis without machine paths."""
    thresholds = read_experiment(HERE).perturb.loss_thresholds
    for run in storage.list_runs(HERE):
        storage.save_cutoffs(run, cutoffs.thinned(storage.load_cutoffs(run), thresholds))
    for path in storage.analysis_dir(HERE).glob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for part in (notebook, *notebook["cells"]):
            for record in ("papermill", "volume_lib"):
                part["metadata"].pop(record, None)
        storage.write_bytes(path, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", default="0:3", help="which runs, by position (default 0:3)")
    parser.add_argument("--ship", action="store_true", help="then leave only what the repository keeps")
    options = parser.parse_args()
    run_study(options.seeds)
    write_tables()
    if options.ship:
        ship()


if __name__ == "__main__":
    main()
