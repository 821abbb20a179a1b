"""Repeat a shipped study: hours, then its tables.

    python experiments/study.py experiments/low_data/mnist

Runs its ``experiment.yaml``, measures the plain procedure on a few directions, notes what both cost in
``study.json`` and writes the tables of ``README.md``. Notebooks that are done are skipped. ``--against-grid``
also measures the minima of the first run with the plain grid along all directions. ``--ship`` then leaves
what the repository keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tables import STEPS, write_tables

from volume_lib import batch, cutoffs, storage, volume
from volume_lib.batch.agenda import choose_runs, parse_runs
from volume_lib.devices import processor_name, resolve_device
from volume_lib.experiment.file import read_experiment
from volume_lib.problems import get_problem
from volume_lib.sweep.run import run_sweep

FEW = {"grid": 2, "crossing": 40}
"""Directions on which the two searches are timed."""


def run_study(folder: Path, seeds: str, workers: int) -> list[Path]:
    """Everything that takes hours, unless it is done already; the folders of the runs."""
    report = batch.run(folder, runs=parse_runs(seeds), workers=workers)
    print(report)
    if report.exit_code:
        raise SystemExit(report.exit_code)
    return [folder / run.name for run in choose_runs(read_experiment(folder), parse_runs(seeds))]


def measure_costs(folder: Path, runs: list[Path], against_grid: bool) -> dict[str, Any]:
    """What ``study.json`` holds."""
    (status,) = batch.status(folder).experiments
    measured: dict[str, Any] = {
        "processor": f"{processor_name(resolve_device('auto'))} of {os.cpu_count()} cores",
        "load": f"{os.getloadavg()[2]:.0f} at the end",
        "torch": torch.__version__,
        "seconds": {
            run.name: {step: status.verdicts[run.name][step].seconds for step in STEPS} for run in runs
        },
        "plain": {"run": runs[0].name, **{search: few_directions(folder, runs[0], search) for search in FEW}},
    }
    if against_grid:
        measured["grid_against_crossing"] = grid_against_crossing(folder, runs[0])
    return measured


def few_directions(folder: Path, run: Path, search: str) -> dict[str, float]:
    """Time of the run's sweeps along the first few directions, all models and landscapes: on a GPU by the
    clock, as its processor only waits; else of the processor."""
    perturb, (models, dataset) = read_experiment(folder).perturb, _minima(run)
    problem = get_problem(read_experiment(folder).problem, folder)
    on_gpu = resolve_device("auto").type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    with tempfile.TemporaryDirectory() as place:
        start = clock()
        run_sweep(
            problem, models, dataset, place, search=search, landscape_levels=perturb.landscape_levels,
            num_directions=FEW[search], loss_thresholds=perturb.loss_thresholds,
        )  # fmt: skip
        seconds = clock() - start
    return {"directions": FEW[search], "gpu_seconds" if on_gpu else "processor_seconds": seconds}


def grid_against_crossing(folder: Path, run: Path) -> dict[str, Any]:
    """The same minima in landscape 0 along the same directions, off the grid and solved for."""
    asked, (models, dataset) = read_experiment(folder), _minima(run)
    threshold = asked.analysis.loss_threshold or max(asked.perturb.loss_thresholds)
    problem = get_problem(asked.problem, folder)
    found: dict[str, Any] = {"run": run.name, "threshold": threshold}
    for search in ("grid", "crossing"):
        with tempfile.TemporaryDirectory() as place:
            start = time.perf_counter()
            paths = run_sweep(
                problem, models, dataset, place, search=search, landscape_levels=[0],
                num_directions=asked.perturb.num_directions, loss_thresholds=[threshold],
            )  # fmt: skip
            seconds = time.perf_counter() - start
            results = volume.estimate_volumes([storage.load_sweep(path) for path in paths], threshold)
        keys = ("log_exp_r_n_values", "log_exp_r_n_resolution", "log_exp_r_n_ranks", "num_censored")
        found[search] = {"seconds": seconds, **{key: list(results[key]) for key in keys}}
    return found


def _minima(run: Path) -> tuple[list[Any], Any]:
    return storage.load_models_and_data(run / storage.MODELS_AND_DATA)


def ship(folder: Path) -> None:
    """Make what the repository keeps: curves of a hundred points, the analysis without machine paths."""
    thresholds = read_experiment(folder).perturb.loss_thresholds
    for run in storage.list_runs(folder):
        storage.save_cutoffs(run, cutoffs.thinned(storage.load_cutoffs(run), thresholds))
    for path in storage.analysis_dir(folder).glob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for part in (notebook, *notebook["cells"]):
            for record in ("papermill", "volume_lib", "execution"):
                part["metadata"].pop(record, None)
        for cell in notebook["cells"]:
            if cell.get("outputs"):  # warnings name files of this machine
                cell["outputs"] = [part for part in cell["outputs"] if part.get("name") != "stderr"]
        storage.write_bytes(path, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="the study's folder")
    parser.add_argument("--seeds", default=":", help="which runs, by position (default all)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--against-grid", action="store_true", help="also the plain grid, all directions")
    parser.add_argument("--ship", action="store_true", help="then leave only what the repository keeps")
    options = parser.parse_args()
    runs = run_study(options.folder, options.seeds, options.workers)
    measured = measure_costs(options.folder, runs, options.against_grid)
    text = json.dumps(measured, indent=1, allow_nan=False) + "\n"
    storage.write_bytes(options.folder / "study.json", text.encode())
    write_tables(options.folder)
    if options.ship:
        ship(options.folder)


if __name__ == "__main__":
    main()
