"""Time the crossing search of the sweep against the plain procedure, alternately, in one process.

    python benchmarks/sweep.py [--case mnist|swiss_roll|cnn|gpt|resnet18|workflow …] [--directions 64]

For every case it trains the minima (a short training, kept in ``--cache``), then sweeps all of them through
all of their landscapes: a few directions with the plain procedure (a full forward pass at each of 100
coefficients, or at some of them, evenly spaced, scaled to 100), more with the crossing search. What is given
is the whole sweep of 500 directions: the first batch, which has nothing to learn from, and the refinement, of
ten rays or so however many there are, count once, and the other directions as they were timed.

It prints a table in Markdown: seconds per direction, their ratio, full evaluations per direction, the floor
(the time that the crossing search's own matrix products would take at the rate of a large matrix product on
this machine), and the extra time of three loss thresholds. ``workflow`` is the notebook Random Perturbs as
papermill runs it, MNIST, 120 directions, start-up, files and figures included.

On a machine that others use: ``OMP_NUM_THREADS=1`` and ``--processor-time``, which counts the seconds that
the processor worked for this script and its notebook.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import papermill
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from volume_lib import storage
from volume_lib.batch.steps import template_path
from volume_lib.devices import processor_name, resolve_device
from volume_lib.problems import get_problem
from volume_lib.problems.base import Problem
from volume_lib.problems.splits import make_dataset
from volume_lib.progress import Bar
from volume_lib.rays.fast import FastRays
from volume_lib.rays.losses import PlainRays
from volume_lib.records import Dataset, TrainedModel
from volume_lib.search.crossings import Crossing, Grid
from volume_lib.sweep.evaluator import open_rays
from volume_lib.sweep.run import levels_of
from volume_lib.sweep.settings import SweepSettings
from volume_lib.sweep.walk import FIRST_BATCH, walk
from volume_lib.training.runs import train_models

WHOLE = 500
"""Directions of the sweep whose time is given: the default of ``run_sweep``."""
TEST_SIZE = 200
"""Test samples of the curves that training writes: nothing here asks for more."""
PROCESSOR_TIME = "--processor-time" in sys.argv
PHOTOS = {"name": "image_folder", "path": "cifar10_images.zip", "size": 32}


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table: a problem, its minima, and what each side is timed on."""

    problem: str | dict
    base: int
    levels: tuple[int, ...]
    model: dict
    training: dict
    plain_coefficients: int
    plain_directions: int
    crossing_directions: int
    threshold: float = 0.1


CASES = {
    "mnist": Case(
        "mnist", 60, (0, 540, 1940, 5940, 19940, 59940), {"hidden_dims": [256, 128]},
        {"epochs": 40, "batch_size": 1000, "target_train_loss": 0.005, "learning_rate": 2e-3}, 21, 1, 72,
    ),
    "swiss_roll": Case(
        "swiss_roll", 50, (0, 50, 150, 450, 950), {},
        {"epochs": 2000, "batch_size": 1000, "target_train_loss": 0.002, "learning_rate": 3e-3}, 100, 4, 500,
    ),
    "cnn": Case(
        PHOTOS, 200, (0, 1800), {"model_class": "CNN", "channels": [64, 128, 256], "hidden_dims": [224]},
        {"epochs": 60, "batch_size": 50, "target_train_loss": 0.08, "learning_rate": 1e-3}, 4, 1, 12,
    ),
    "gpt": Case(
        "shakespeare", 50, (0, 150), {},
        {"epochs": 150, "batch_size": 50, "target_train_loss": 0.3, "learning_rate": 2e-3}, 34, 1, 40,
        threshold=1.0,
    ),
    "resnet18": Case(PHOTOS, 200, (0,), {}, {}, 100, 1, 24, threshold=0.5),
}  # fmt: skip


def minima(name: str, cache: Path, device: str) -> tuple[Problem, list[TrainedModel], Dataset]:
    """The trained models of a case; trained once, then read from ``cache``."""
    case = CASES[name]
    problem = get_problem(case.problem)
    dataset = make_dataset(
        problem,
        base_data_size=case.base,
        dataset_quantities=case.levels,
        data_seed=0,
        test_size=TEST_SIZE,
    )
    if name == "resnet18":
        return problem, [resnet18(dataset, cache)], dataset
    models = train_models(
        problem, dataset, folder=cache, model=case.model, model_seed=0, device=device, **case.training
    )
    return problem, models, dataset


def resnet18(dataset: Dataset, cache: Path) -> TrainedModel:
    """torchvision's network, in eval mode, with weights of a short training; it declares no stem."""
    torch.manual_seed(0)
    model, file = torchvision.models.resnet18(num_classes=10), cache / "resnet18.pt"
    x, y = dataset.upto(0)
    if file.is_file():
        model.load_state_dict(torch.load(file, weights_only=True))
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(14):
            for batch in torch.randperm(len(x)).split(50):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
        cache.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), file)
    return TrainedModel(model.eval(), "resnet18", {}, 0, "photos", "data", 0, [0.0], [0.0], [0.0], [0.0])


def settings(
    case: Case, search: Crossing | Grid, directions: range, thresholds: tuple[float, ...]
) -> SweepSettings:
    return SweepSettings(
        seeds=directions, loss_thresholds=thresholds, acc_threshold=None, search=search, scaling="filter"
    )


def clock() -> float:
    """Seconds, of the wall or (``--processor-time``) of this process and its finished children."""
    if not PROCESSOR_TIME:
        return time.perf_counter()
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


class Stopwatch(Bar):
    """Notes when each batch of a walk was done, draws nothing: ``(seconds, samples, directions)``."""

    def __init__(self, rays: PlainRays | FastRays) -> None:
        super().__init__(disable=True)
        self.rays = rays
        self.marks = [np.array([clock(), self._samples(), 0.0])]

    def _samples(self) -> int:
        twin = getattr(self.rays, "twin", None)
        return self.rays.samples_evaluated + (twin.samples_evaluated if twin else 0)

    def update(self, n: float | None = 1) -> None:
        if self.rays.device.type == "cuda":
            torch.cuda.synchronize()
        walked = self.marks[-1][2] + (n or 0) / self.rays.sizes[-1]
        self.marks.append(np.array([clock(), self._samples(), walked]))


def whole_sweep(marks: np.ndarray, directions: int, whole: int = WHOLE) -> tuple[float, float]:
    """Seconds and samples of a walk of ``whole`` directions, from the ``marks`` of one of ``directions``.

    What the first batch, of at least :data:`FIRST_BATCH`, and the refinement took counts once.
    """
    walked = marks[:, 2]
    first = marks[np.searchsorted(walked, min(FIRST_BATCH, directions) - 0.5)]
    last = marks[np.searchsorted(walked, directions - 0.5)]
    once = first - marks[0] + marks[-1] - last
    if directions > first[2]:
        once = once + (last - first) * (whole - first[2]) / (directions - first[2])
    return float(once[0]), float(once[1])


def sweep_all(
    problem: Problem,
    models: list[TrainedModel],
    dataset: Dataset,
    chosen: SweepSettings,
    device: torch.device,
) -> tuple[float, float, float]:
    """Sweep every model through its landscapes: ``(seconds, evaluations, FLOP)``, all per direction.

    An evaluation is one pass of all models over all their landscapes' samples, as one plain coefficient is.
    """
    seconds = samples = flop = plain_samples = 0.0
    count = len(chosen.seeds)
    for trained in models:
        levels = levels_of(trained, dataset.dataset_quantities)
        start = clock()
        rays, limit = open_rays(problem, trained, dataset, levels, chosen, device)
        watch = Stopwatch(rays)
        opened = watch.marks[0][0] - start
        walk(rays, limit, chosen, watch)
        plain_samples += sum(rays.sizes)
        if isinstance(chosen.search, Grid):
            end = watch.marks[-1]
            evaluated = end[1] - watch.marks[0][1]
            # of 100 coefficients all but 0, which every direction shares
            once = 99 * sum(rays.sizes) / evaluated
            seconds += once * (end[0] - watch.marks[0][0])
            samples += once * evaluated
            continue
        took, evaluated = whole_sweep(np.array(watch.marks), count)
        seconds += (took + opened) / WHOLE
        samples += evaluated / WHOLE
        stem, tail = flop_per_sample(rays)
        flop += evaluated / WHOLE * tail + rays.sizes[-1] * stem
    return seconds, samples / plain_samples, flop


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
        start = clock()
        (a @ b).sum().item()
        best = min(best, clock() - start)
    return 2 * size**3 / best


def plain_side(case: Case) -> SweepSettings:
    coefficients = tuple(np.linspace(0, 1, case.plain_coefficients) ** 2)
    return settings(case, Grid(coefficients), range(case.plain_directions), (case.threshold,))


def run_case(name: str, options: argparse.Namespace, device: torch.device) -> str:
    """Time one case; returns its row of the table."""
    case = CASES[name]
    problem, models, dataset = minima(name, options.cache / name, str(device))
    t, many = case.threshold, range(options.directions or case.crossing_directions)
    sides = {
        "plain": plain_side(case),
        "crossing": settings(case, Crossing(), many, (t,)),
        "three": settings(case, Crossing(), many, (t, t / 2, t / 5)),
    }
    if options.one_threshold:
        del sides["three"]
    timings = {side: [] for side in sides}
    rates = []
    for _ in range(options.rounds):
        for side, chosen in sides.items():
            timings[side].append(sweep_all(problem, models, dataset, chosen, device))
            seconds, evaluations, _ = timings[side][-1]
            print(f"{name} {side}: {seconds:.4f} s, {evaluations:.2f} evaluations a direction", flush=True)
        rates.append(matrix_rate(device))
    best = {side: min(values) for side, values in timings.items()}
    (plain, plain_evaluations, _), (crossing, evaluations, flop) = best["plain"], best["crossing"]
    n = sum(p.numel() for p in models[0].model.parameters())
    more = f"{best['three'][0] / crossing - 1:+.0%}" if "three" in best else ""
    return (
        f"| {name} | {n:,} | {len(many)} | {plain:.3f} | {crossing:.4f} | **{plain / crossing:.0f}×** "
        f"| {plain_evaluations:.0f} | {evaluations:.1f} | {flop / max(rates):.4f} "
        f"| {more} |"
    )


def run_workflow(options: argparse.Namespace, device: torch.device) -> str:
    """Random Perturbs by papermill, from start-up to figures, against the plain sweep without those."""
    problem, models, dataset = minima("mnist", options.cache / "mnist", str(device))
    count = options.directions or 120
    plain, whole = [], []
    for _ in range(options.rounds):
        plain.append(sweep_all(problem, models, dataset, plain_side(CASES["mnist"]), device)[0])
        with tempfile.TemporaryDirectory() as folder:
            to = Path(folder, "models_and_data")
            storage.save_dataset(to, dataset)
            for trained in models:
                storage.save_model(to, trained)
            start = clock()
            papermill.execute_notebook(
                template_path("perturb"), Path(folder, "Random Perturbs.ipynb"), cwd=folder,
                parameters={"num_directions": count}, progress_bar=False, kernel_name="python3",
            )  # fmt: skip
            whole.append((clock() - start) / count)
        print(f"workflow: {plain[-1]:.3f} s plain, {whole[-1]:.4f} s a direction", flush=True)
    return (
        f"| workflow | 235,146 | {count} | {min(plain):.3f} | {min(whole):.4f} "
        f"| **{min(plain) / min(whole):.0f}×** | 99 | | | |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = [*CASES, "workflow"]
    parser.add_argument("--case", nargs="+", choices=names, default=names)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--directions", type=int, help="for the crossing search (default: the case's own)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each side is timed; the best counts")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "volume_lib_benchmark")
    parser.add_argument("--one-threshold", action="store_true", help="leave three thresholds out")
    parser.add_argument("--processor-time", action="store_true", help="in place of the wall's seconds")
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    device = resolve_device(options.device)
    rows = [
        run_workflow(options, device) if name == "workflow" else run_case(name, options, device)
        for name in options.case
    ]
    load = os.getloadavg()[0]
    threads = torch.get_num_threads()
    print(f"\n{processor_name(device)}; torch {torch.__version__}, {threads} threads; load {load:.1f}\n")
    print("| case | n | directions timed | plain, s/direction | crossing, s/direction | ratio "
          "| evaluations: plain | crossing | floor, s/direction | three thresholds |")  # fmt: skip
    print("| --- " * 10 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
