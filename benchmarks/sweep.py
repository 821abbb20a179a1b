"""Time the crossing search against the plain procedure, on the same models, alternately, in one process.

    python benchmarks/sweep.py [--case mnist|swiss_roll|cnn|gpt …] [--device auto] [--directions 64]

For every case it trains the minima (a short training, kept in ``--cache``), then sweeps all of them through
all of their landscapes: a few directions with the plain procedure (100 coefficients, a full forward pass at
each), many with the crossing search. It prints a table in Markdown: seconds per direction, their ratio, full
evaluations per direction, the floor (the time that the crossing search's own matrix products would take at
the rate of a large matrix product on this machine), and the extra time of three loss thresholds.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from volume_lib.devices import processor_name, resolve_device
from volume_lib.problems import get_problem
from volume_lib.problems.base import Problem
from volume_lib.problems.splits import make_dataset
from volume_lib.records import Data, Dataset, TrainedModel
from volume_lib.search.crossings import Crossing, Grid
from volume_lib.sweep.evaluator import open_rays
from volume_lib.sweep.run import levels_of
from volume_lib.sweep.settings import SweepSettings
from volume_lib.sweep.walk import walk
from volume_lib.training.runs import train_models


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table: a problem, its minima and how many directions each side is timed on."""

    problem: str
    base: int
    levels: tuple[int, ...]
    model: dict
    training: dict
    plain_directions: int
    crossing_directions: int
    threshold: float = 0.1


CASES = {
    "mnist": Case(
        "mnist", 60, (0, 540, 1940, 5940, 19940, 59940), {"hidden_dims": [256, 128]},
        {"epochs": 40, "batch_size": 1000, "target_train_loss": 0.005, "learning_rate": 2e-3}, 1, 64,
    ),
    "swiss_roll": Case(
        "swiss_roll", 50, (0, 50, 150, 450, 950), {},
        {"epochs": 2000, "batch_size": 1000, "target_train_loss": 0.002, "learning_rate": 3e-3}, 4, 500,
    ),
    "cnn": Case(
        "cifar10", 200, (0, 400, 1800),
        {"model_class": "CNN", "channels": [64, 128, 256], "hidden_dims": [224]},
        {"epochs": 60, "batch_size": 100, "target_train_loss": 0.01, "learning_rate": 1e-3}, 1, 24,
    ),
    "gpt": Case(
        "shakespeare", 50, (0, 150), {},
        {"epochs": 150, "batch_size": 50, "target_train_loss": 0.3, "learning_rate": 2e-3}, 1, 24,
        threshold=1.0,
    ),
}  # fmt: skip


class StandIn(Problem):
    """Images of the shape of another problem's where its data is missing: fixed prototypes plus noise."""

    def __init__(self, original: Problem) -> None:
        self.__dict__.update(original.__dict__)
        self.original = original
        self.name = original.name
        self.num_classes, self.model_classes = original.num_classes, original.model_classes

    def default_model_kwargs(self, model_class: str) -> dict:
        return self.original.default_model_kwargs(model_class)

    def load(self, root: Path | None = None) -> Data:
        generator = torch.Generator().manual_seed(0)
        prototypes = torch.randn(self.num_classes, 3, 32, 32, generator=generator)

        def draw(number: int) -> tuple[torch.Tensor, torch.Tensor]:
            y = torch.randint(self.num_classes, (number,), generator=generator)
            return 0.3 * prototypes[y] + torch.randn(number, 3, 32, 32, generator=generator), y

        return Data(*draw(5000), *draw(1000))


def minima(case: Case, cache: Path, device: str) -> tuple[Problem, list[TrainedModel], Dataset]:
    """The trained models of a case; trained once, then read from ``cache``."""
    problem = get_problem(case.problem)
    try:
        dataset = make_dataset(problem, base_data_size=case.base, dataset_quantities=case.levels, data_seed=0)
    except (FileNotFoundError, ValueError) as error:
        print(f"{case.problem}: {error}\n{case.problem}: timed on a stand-in of the same shape", flush=True)
        problem = StandIn(problem)
        dataset = make_dataset(problem, base_data_size=case.base, dataset_quantities=case.levels, data_seed=0)
    models = train_models(
        problem, dataset, folder=cache, model=case.model, model_seed=0, device=device, **case.training
    )
    return problem, models, dataset


def settings(
    case: Case, search: Crossing | Grid, directions: range, thresholds: tuple[float, ...]
) -> SweepSettings:
    return SweepSettings(
        seeds=directions, loss_thresholds=thresholds, acc_threshold=None, search=search, scaling="filter"
    )


def sweep_all(
    problem, models, dataset, chosen: SweepSettings, device: torch.device
) -> tuple[float, float, float]:
    """Sweep every model through its landscapes: ``(seconds, evaluations, FLOP)``, all per direction.

    An evaluation is one pass of all models over all their landscapes' samples, as one plain coefficient is.
    """
    seconds = samples = flop = plain_samples = 0.0
    for trained in models:
        levels = levels_of(trained, dataset.dataset_quantities)
        start = time.perf_counter()
        rays, limit = open_rays(problem, trained, dataset, levels, chosen, device)
        opened = rays.samples_evaluated
        walk(rays, limit, chosen)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds += time.perf_counter() - start
        twin = getattr(rays, "twin", None)
        evaluated = rays.samples_evaluated - opened + (twin.samples_evaluated if twin else 0)
        samples += evaluated
        plain_samples += sum(rays.sizes)
        stem, tail = flop_per_sample(rays)
        flop += evaluated * tail + (len(chosen.seeds) + 1) * rays.sizes[-1] * stem
    count = len(chosen.seeds)
    return seconds / count, samples / plain_samples / count, flop / count


def flop_per_sample(rays) -> tuple[float, float]:
    """Floating-point operations of matrix products and convolutions for one sample: stem, and the rest."""
    counts = []
    with torch.no_grad():
        for part in ("stem", "forward"):
            if part == "stem" and getattr(rays, "stem_shape", None) is None:
                counts.append(0)
                continue
            with FlopCounterMode(display=False) as counter:
                getattr(rays.model, part)(rays.x[:1])
            counts.append(counter.get_total_flops())
    stem, whole = counts
    return stem, whole - stem


def matrix_rate(device: torch.device, size: int = 2048) -> float:
    """FLOP per second of a large float32 matrix product here and now."""
    a, b = torch.randn(2, size, size, device=device)
    best = np.inf
    for _ in range(6):
        start = time.perf_counter()
        (a @ b).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def run_case(name: str, cache: Path, device: torch.device, directions: int | None, rounds: int) -> str:
    """Time one case; returns its row of the table."""
    case = CASES[name]
    problem, models, dataset = minima(case, cache / name, str(device))
    t = case.threshold
    many = directions or case.crossing_directions
    sides = {
        "plain": settings(case, Grid(), range(case.plain_directions), (t,)),
        "crossing": settings(case, Crossing(), range(many), (t,)),
        "three": settings(case, Crossing(), range(many), (t, t / 2, t / 5)),
    }
    timings = {side: [] for side in sides}
    rates = []
    for _ in range(rounds):
        for side, chosen in sides.items():
            timings[side].append(sweep_all(problem, models, dataset, chosen, device))
            print(f"{name} {side}: {timings[side][-1][0]:.4f} s per direction", flush=True)
        rates.append(matrix_rate(device))
    best = {side: min(values) for side, values in timings.items()}
    (plain, plain_evaluations, _), (crossing, evaluations, flop) = best["plain"], best["crossing"]
    n = sum(p.numel() for p in models[0].model.parameters())
    return (
        f"| {name} | {n:,} | {plain:.3f} | {crossing:.4f} | **{plain / crossing:.0f}×** "
        f"| {plain_evaluations:.0f} | {evaluations:.1f} | {flop / max(rates):.4f} "
        f"| {best['three'][0] / crossing - 1:+.0%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--directions", type=int, help="for the crossing search (default: the case's own)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each side is timed; the best counts")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "volume_lib_benchmark")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    rows = [
        run_case(name, arguments.cache, device, arguments.directions, arguments.rounds)
        for name in arguments.case
    ]
    print(f"\n{processor_name(device)}; torch {torch.__version__}\n")
    print("| case | n | plain, s/direction | crossing, s/direction | ratio | evaluations: plain | crossing "
          "| floor, s/direction | three thresholds |")  # fmt: skip
    print("| --- " * 9 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
