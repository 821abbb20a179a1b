"""How exact the crossing search is: against float64 bisection, and against dense scans of the same rays.

    python benchmarks/accuracy.py [--case swiss_roll mnist] [--directions 64]

Every threshold radius of every minimum in every landscape is compared with a bisection of the same ray in
float64; and every ray is scanned at 2,000 coefficients up to its radius, for points above the threshold
that the search passed over (an excursion). Prints a table in Markdown, and every excursion with its width.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from sweep import CASES, minima, settings
from tqdm.auto import tqdm

from volume_lib.rays.directions import draw_batch
from volume_lib.rays.fast import FastRays
from volume_lib.search.crossings import Crossing
from volume_lib.search.points import bracket
from volume_lib.search.prediction import History
from volume_lib.sweep.evaluator import open_rays
from volume_lib.sweep.run import levels_of

POINTS = 2000
MARGIN = 1e-5
"""Losses above the threshold by less than this fraction are rounding, not excursions."""


def bisect(rays: FastRays, k: int, threshold: float, found: np.ndarray) -> np.ndarray:
    """The crossing next to ``found`` ``(D,)``, by bisection within 1e-4 of it."""
    rows, lo, hi = np.arange(len(found)), found * (1 - 1e-4), found * (1 + 1e-4)
    for _ in range(26):
        middle = (lo + hi) / 2
        above = rays(rows, middle, k)[0][:, k] > threshold
        lo, hi = np.where(above, lo, middle), np.where(above, middle, hi)
    return hi


def excursions(rays: FastRays, threshold: float, found: np.ndarray) -> np.ndarray:
    """Ratio between the ends of what was passed over on each ray, 1 if nothing: ``(K, D)``."""
    rows = np.arange(found.shape[1])
    first, last = np.full(found.shape, np.inf), np.zeros(found.shape)
    for fraction in tqdm(np.linspace(0, 1, POINTS, endpoint=False)[1:], desc="dense scan", leave=False):
        c = fraction * found.max(axis=0)
        above = threshold * (1 + MARGIN) < rays(rows, c, len(found) - 1)[0].T
        above &= c < found * (1 - MARGIN)
        first, last = np.where(above, np.minimum(first, c), first), np.where(above, c, last)
    return np.where(last > 0, np.maximum(last / first, 1 + 1 / POINTS), 1.0)


def measure(name: str, cache: Path, directions: int, dense_samples: int) -> str:
    """One case: its row of the table."""
    case = CASES[name]
    problem, models, dataset = minima(name, cache / name, "cpu")
    chosen = settings(case, Crossing(), range(directions), (case.threshold,))
    errors, widths = [], []
    for trained in models:
        levels = levels_of(trained, dataset.dataset_quantities)
        rays, _ = open_rays(problem, trained, dataset, levels, chosen, torch.device("cpu"))
        batch = draw_batch(chosen.seeds, len(rays.theta))
        target = chosen.targets[0]
        found = []
        history = History()
        for part in batch.split(rays.max_rows):
            rays.load(part)
            points = Crossing().trace(rays, chosen.targets, history)
            found.append([bracket(p, np.arange(len(part)), target)[1] for p in points])
        found = np.concatenate(found, axis=1)
        x, y = dataset.upto(levels[-1])
        double = FastRays(
            problem, copy.deepcopy(trained.model).double(), x.double() if x.is_floating_point() else x, y,
            rays.sizes, rays.scale,
        )  # fmt: skip
        for a in range(0, directions, double.max_rows):
            part = slice(a, a + double.max_rows)
            double.load(batch[part])
            for k in range(len(levels)):
                exact = bisect(double, k, case.threshold, found[k, part])
                errors.append(np.abs(found[k, part] / exact - 1))
        if rays.sizes[-1] <= dense_samples and directions <= rays.max_rows:
            rays.load(batch)
            width = excursions(rays, case.threshold, found)
            widths.append(width.ravel())
            for k, row in np.argwhere(width > 1):
                ray = f"minimum {trained.value}, landscape {levels[k]}, direction {row}"
                print(f"{name}: {ray}: passed over an excursion of a factor {width[k, row]:.4f}", flush=True)
    errors, widths = np.concatenate(errors), np.concatenate(widths)
    return (
        f"| {name} | {len(errors):,} | {np.median(errors):.1e} | {errors.max():.1e} | "
        f"{np.mean(errors <= 1e-6):.2%} | {len(widths):,} | {np.mean(widths == 1):.2%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=["swiss_roll", "mnist"])
    parser.add_argument("--directions", type=int, default=64)
    parser.add_argument("--dense-samples", type=int, default=2000, help="largest landscape scanned densely")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "volume_lib_benchmark")
    arguments = parser.parse_args()
    rows = [
        measure(name, arguments.cache, arguments.directions, arguments.dense_samples)
        for name in arguments.case
    ]
    print("\n| case | radii | relative error: median | worst | ≤ 1e-6 | rays scanned | no earlier crossing |")
    print("| --- " * 7 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
