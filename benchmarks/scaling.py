"""How many nats does the plain estimate miss? Log volumes of real minima in all three scalings.

    python benchmarks/scaling.py [--case swiss_roll|mnist …] [--directions 200]

For every case it trains the minima of one run (a short training, kept in ``--cache``), sweeps each through
the landscape of the base data and through its own, with the same directions in every scaling, and prints a
table in Markdown: log volume (nats, parameter space) with the 95 % interval, effective directions, the gain
over ``none``, and the processor seconds that the scaling took, alone and with the sweep that follows it (of
all cores together, so that other work on the machine matters less).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from volume_lib import storage, volume
from volume_lib.devices import processor_name
from volume_lib.problems import get_problem
from volume_lib.problems.base import Problem
from volume_lib.problems.splits import make_dataset
from volume_lib.rays.scaling import SCALINGS, compute_scale
from volume_lib.records import Dataset, TrainedModel
from volume_lib.sweep.run import run_sweep
from volume_lib.training.runs import train_models

CASES = {
    "swiss_roll": {
        "levels": (0, 140, 440),
        "model": {},
        "training": {"epochs": 3000, "batch_size": 500, "learning_rate": 3e-3, "target_train_loss": 0.002},
    },
    "mnist": {
        "levels": (0, 540, 1940),
        "model": {"hidden_dims": [256, 128]},
        "training": {"epochs": 60, "batch_size": 200, "learning_rate": 1e-3, "target_train_loss": 0.002},
    },
}
BASE, THRESHOLD = 60, 0.1
HEADER = (
    "case, n", "minimum", "landscape", "scaling", "log volume", "95 % interval", "effective directions",
    "gain over none", "scaling, CPU s", "with its sweep, CPU s",
)  # fmt: skip


def measure(
    problem: Problem, trained: TrainedModel, dataset: Dataset, level: int, scaling: str, directions: int
) -> dict[str, Any]:
    """One minimum in one landscape and scaling: its results and the processor seconds spent."""
    start = time.process_time()
    compute_scale(scaling, trained.model, problem, *dataset.upto(trained.level))
    scaling_seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        (path,) = run_sweep(
            problem, [trained], dataset, folder, num_directions=directions, loss_thresholds=[THRESHOLD],
            scaling=scaling, landscape_levels=[level], device="cpu",
        )  # fmt: skip
        sweep_seconds = time.process_time() - start  # it computes the scaling again
        results = volume.estimate_volumes([storage.load_sweep(path)], THRESHOLD)
    return {**results, "scaling_seconds": scaling_seconds, "sweep_seconds": sweep_seconds}


def rows_of(case: str, directions: int, cache: Path) -> Iterator[tuple[str, ...]]:
    problem, settings = get_problem(case), CASES[case]
    dataset = make_dataset(problem, base_data_size=BASE, dataset_quantities=settings["levels"], data_seed=10)
    models = train_models(
        problem, dataset, folder=cache / case, model=settings["model"], model_seed=0, **settings["training"]
    )
    for trained in models:
        for level in sorted({0, trained.level}):
            plain = None
            for scaling in SCALINGS:
                found = measure(problem, trained, dataset, level, scaling, directions)
                value = found["log_volume_values"][0]
                plain = value if plain is None else plain
                to_volume = value - found["log_exp_r_n_values"][0]
                low, high = (end + to_volume for end in found["log_exp_r_n_ci"][0])
                yield (
                    *(f"{case}, {found['num_params']:,}", f"+{trained.value:,}", f"+{level:,}", scaling),
                    *(
                        f"{value:,.0f}",
                        f"{low:,.0f} … {high:,.0f}",
                        f"{found['effective_directions'][0]:.1f}",
                    ),
                    "" if scaling == "none" else f"{value - plain:+,.0f}",
                    *(f"{found['scaling_seconds']:.1f}", f"{found['sweep_seconds']:.1f}"),
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--directions", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "volume_lib_scaling")
    arguments = parser.parse_args()
    processor = processor_name(torch.device("cpu"))
    print(f"{processor}, torch {torch.__version__}; {arguments.directions} directions, "
          f"loss threshold {THRESHOLD:g}, base {BASE}\n")  # fmt: skip
    for cells in (HEADER, ["---"] * len(HEADER)):
        print("| " + " | ".join(cells) + " |")
    for case in arguments.case:
        for cells in rows_of(case, arguments.directions, arguments.cache):
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
