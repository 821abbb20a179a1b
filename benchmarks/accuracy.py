"""How exact the crossing search is: against float64 bisection, and against dense scans of the same rays.

    python benchmarks/accuracy.py [--case swiss_roll mnist gpt] [--directions 64]
    python benchmarks/accuracy.py --case cnn --directions 16 --minima 1 --rays 4 --dense-samples 0

Every threshold radius of every minimum in every landscape is compared with the crossing of the same ray in
float64, kept between two ends as by bisection and computed by the plain procedure's evaluator: those that the
sweep refined, and the others. And every ray is scanned at 2,000 coefficients up to its radius, for points
above the threshold that the search passed over (an excursion). Prints a table in Markdown, and every
excursion with its width.
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

from volume_lib.abilities import doubled
from volume_lib.rays.directions import draw_batch
from volume_lib.rays.fast import FastRays
from volume_lib.rays.losses import PlainRays
from volume_lib.search.crossings import Crossing
from volume_lib.sweep.evaluator import open_rays
from volume_lib.sweep.run import levels_of
from volume_lib.sweep.walk import walk

POINTS = 2000
MARGIN = 1e-5
"""Losses above the threshold by less than this fraction are rounding, not excursions."""


def exact_crossings(
    rays: PlainRays, rows: np.ndarray, k: int, threshold: float, lo: np.ndarray, hi: np.ndarray
) -> np.ndarray:
    """The crossings between ``lo`` and ``hi`` ``(R,)``, to 1e-10, in the precision of ``rays``.

    By false position (Illinois) with every third point in the middle: as bisection, it always keeps the
    crossing between its ends, which at first lie 1e-4 further out.
    """
    lo, hi = lo * (1 - 1e-4), hi * (1 + 1e-4)
    below, above = (np.log(rays(rows, c, k)[0][:, k] / threshold) for c in (lo, hi))
    if (below > 0).any() or (above <= 0).any():
        raise SystemExit("a bracket that was found does not hold a crossing in float64")
    for step in range(40):
        open_ = hi > lo * (1 + 1e-10)
        if not open_.any():
            break
        share = 0.5 if step % 3 == 2 else -below / (above - below)
        c = np.clip(lo + share * (hi - lo), lo * (1 + 2e-11), hi * (1 - 2e-11))
        value = np.full(len(rows), np.nan)
        value[open_] = np.log(rays(rows[open_], c[open_], k)[0][:, k] / threshold)
        up, down = open_ & (value > 0), open_ & (value <= 0)
        below, above = np.where(up, below / 2, below), np.where(down, above / 2, above)
        hi, above = np.where(up, c, hi), np.where(up, value, above)
        lo, below = np.where(down, c, lo), np.where(down, value, below)
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


def measure(name: str, options: argparse.Namespace) -> list[str]:
    """One case: a row of the table for the rays that were refined, and one for the others."""
    case = CASES[name]
    problem, models, dataset = minima(name, options.cache / name, "cpu")
    search = Crossing()
    chosen = settings(case, search, range(options.directions), (case.threshold,))
    errors, refined, widths = [], [], []
    for trained in models[: options.minima]:
        levels = levels_of(trained, dataset.dataset_quantities)
        rays, limit = open_rays(problem, trained, dataset, levels, chosen, torch.device("cpu"))
        walked = walk(rays, limit, chosen)
        lo, hi = walked.lo[:, 0], walked.hi[:, 0]
        x, y = dataset.upto(levels[-1])
        double = PlainRays(
            problem, copy.deepcopy(trained.model).double(), doubled(x), doubled(y), rays.sizes, rays.scale
        )
        for k in range(len(levels)):
            narrow = hi[k] <= lo[k] * (1 + search.xrtol)
            rows = _some(narrow, options.rays)
            double.load(draw_batch([chosen.seeds[row] for row in rows], len(rays.theta)))
            exact = exact_crossings(double, np.arange(len(rows)), k, case.threshold, lo[k, rows], hi[k, rows])
            errors.append(np.abs(hi[k, rows] / exact - 1))
            refined.append(narrow[rows])
        if isinstance(rays, FastRays) and rays.sizes[-1] <= options.dense_samples and len(hi[0]) <= limit:
            rays.load(draw_batch(chosen.seeds, len(rays.theta)))
            width = excursions(rays, case.threshold, lo)
            widths.append(width.ravel())
            for k, row in np.argwhere(width > 1):
                ray = f"minimum {trained.value}, landscape {levels[k]}, direction {row}"
                print(f"{name}: {ray}: passed over an excursion of a factor {width[k, row]:.4f}", flush=True)
    scanned = np.concatenate(widths) if widths else np.empty(0)
    dense = f"{len(scanned):,} | {np.mean(scanned == 1):.2%}" if len(scanned) else "0 |"
    error, fine = np.concatenate(errors), np.concatenate(refined)
    rows = []
    for told, part, bound in (("refined", fine, search.xrtol), ("others", ~fine, search.xrtol_rest)):
        if part.any():
            e = error[part]
            rows.append(
                f"| {name}, {told} | {len(e):,} | {np.median(e):.1e} | {e.max():.1e} | {bound:g} "
                f"| {np.mean(e <= bound):.2%} | {dense} |"
            )
    return rows


def _some(narrow: np.ndarray, most: int | None) -> np.ndarray:
    """Rows of rays to look at: all, or up to ``most`` of the refined ones and of the others."""
    kinds = [np.flatnonzero(narrow)[:most], np.flatnonzero(~narrow)[:most]]
    return np.sort(np.concatenate(kinds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=["swiss_roll", "mnist"])
    parser.add_argument("--directions", type=int, default=64)
    parser.add_argument("--dense-samples", type=int, default=2000, help="largest landscape scanned densely")
    parser.add_argument("--minima", type=int, help="look at so many only")
    parser.add_argument("--rays", type=int, help="refined rays, and others, of a landscape; default all")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "volume_lib_benchmark")
    options = parser.parse_args()
    rows = [row for name in options.case for row in measure(name, options)]
    print("\n| case | radii | relative error: median | worst | bound | within "
          "| rays scanned | no earlier crossing |")  # fmt: skip
    print("| --- " * 8 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
