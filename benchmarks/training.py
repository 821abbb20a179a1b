"""Time training: many small models side by side against one at a time, a large one against its passes.

    python benchmarks/training.py [--epochs 200] [--repeats 3] [--device auto]

The first table trains 3 seeds × 5 levels of the swiss roll three ways, alternately, in one process: with the
loop that any PyTorch user writes, with ``train_runs`` one model at a time, and with ``train_runs`` side by
side; the last two write all their files. The second, where MNIST is present, trains the largest level of
``experiments/low_data/mnist`` with the usual loop and with ``train_models``, beside the bare forward and
backward passes of the same batches. Times are the fastest of the repeats.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from volume_lib.devices import processor_name, resolve_device
from volume_lib.errors import InputError
from volume_lib.problems import get_problem
from volume_lib.problems.base import Problem
from volume_lib.problems.splits import make_dataset
from volume_lib.training.plan import Plan
from volume_lib.training.runs import Run, train_runs
from volume_lib.training.section import TrainSettings

SEEDS = (0, 1, 2)
LEVELS = [0, 60, 160, 460, 960]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200, help="of the swiss roll")
    parser.add_argument("--batch-size", type=int, default=32, help="of the swiss roll")
    parser.add_argument("--mnist-epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    print(f"{processor_name(resolve_device(options.device))}, torch {torch.__version__}\n")
    side_by_side(options)
    mnist(options)


def side_by_side(options: argparse.Namespace) -> None:
    problem = get_problem("swiss_roll")
    settings = TrainSettings(
        epochs=options.epochs, batch_size=options.batch_size, learning_rate=1e-3, target_train_loss=None
    )
    plan = Plan(problem, {}, settings)
    datasets = [
        make_dataset(problem, base_data_size=40, dataset_quantities=LEVELS, data_seed=seed) for seed in SEEDS
    ]
    found = {}

    def library(joint: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            runs = [
                Run(data, seed, Path(folder, str(seed))) for seed, data in zip(SEEDS, datasets, strict=True)
            ]
            found[joint] = train_runs(plan, runs, joint=joint, device=options.device)

    def usual() -> None:
        for seed, data in zip(SEEDS, datasets, strict=True):
            for level in LEVELS:
                x, y = data.upto(level)
                usual_loop(problem, problem.build_model({}, seed), x, y, options.epochs, options.batch_size)

    times = fastest(
        {"usual loop": usual, "one at a time": lambda: library(False), "side by side": lambda: library(True)},
        options.repeats,
    )
    print(f"Swiss roll, 3 seeds × 5 levels, batch size {options.batch_size}, {options.epochs} epochs\n")
    print("| | seconds | side by side is faster by |\n| --- | ---: | ---: |")
    for name, seconds in times.items():
        print(f"| {name} | {seconds:.2f} | {seconds / times['side by side']:.1f} |")
    alone, together = ([m for run in found[joint] for m in run] for joint in (False, True))
    losses = [abs(a.test_loss[0] - b.test_loss[0]) for a, b in zip(alone, together, strict=True)]
    print(f"\nlargest difference of a test loss after one epoch: {max(losses):.1e} nats\n")


def mnist(options: argparse.Namespace) -> None:
    problem = get_problem("mnist")
    try:
        data = make_dataset(problem, base_data_size=60, dataset_quantities=[59_940], data_seed=0)
    except InputError as error:
        print(f"MNIST left out: {error}")
        return
    x, y = data.upto(59_940)
    settings = TrainSettings(
        epochs=options.mnist_epochs, batch_size=1000, learning_rate=1e-3, target_train_loss=None
    )
    plan = Plan(problem, {}, settings)

    def passes() -> None:
        model = problem.build_model({}, 0)
        for _ in range(options.mnist_epochs):
            for xs, ys in zip(x.split(1000), y.split(1000), strict=True):
                model.zero_grad()
                problem.loss(model(xs), ys).backward()

    def library() -> None:
        with tempfile.TemporaryDirectory() as folder:
            train_runs(plan, [Run(data, 0, folder)], device=options.device)

    times = fastest(
        {
            "forward and backward passes": passes,
            "usual loop": lambda: usual_loop(
                problem, problem.build_model({}, 0), x, y, options.mnist_epochs, 1000
            ),
            "train_models, test curves and files included": library,
        },
        options.repeats,
    )
    print(f"MNIST, 60,000 samples, batch size 1000, {options.mnist_epochs} epochs\n")
    print("| | seconds | relative |\n| --- | ---: | ---: |")
    for name, seconds in times.items():
        print(f"| {name} | {seconds:.2f} | {seconds / times['forward and backward passes']:.2f} |")


def usual_loop(
    problem: Problem, model: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, batch_size: int
) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=generator).split(batch_size):
            optimizer.zero_grad()
            problem.loss(model(x[batch]), y[batch]).backward()
            optimizer.step()


def fastest(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest of ``repeats`` rounds, in each of which every work is done once."""
    times = {name: float("inf") for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            times[name] = min(times[name], time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    main()
