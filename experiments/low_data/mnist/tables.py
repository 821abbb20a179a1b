"""Write the tables of ``README.md``, between its two marks, from the results that lie in this folder.

python experiments/low_data/mnist/tables.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from volume_lib import storage
from volume_lib.analysis import ExperimentResults, fit_power_law, load_experiment
from volume_lib.experiment.file import read_experiment
from volume_lib.volume.words import order_line

HERE = Path(__file__).resolve().parent
MEASURED = HERE / "study.json"
MARKS = ("<!-- written by tables.py -->", "<!-- end of tables -->")
PUBLISHED = {60: 0.6335, 600: 0.8699, 2_000: 0.9092, 6_000: 0.9416, 20_000: 0.9667, 60_000: 0.9762}
"""Test accuracy of the published study's one seed by training-set size."""
THRESHOLD = 0.1
STEPS = ("train", "perturb", "volume", "cutoff", "accuracy")


def tables() -> str:
    """All tables, in Markdown, from the results in this folder."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    thresholds = sorted(read_experiment(HERE).perturb.loss_thresholds, reverse=True)
    experiments = {threshold: load_experiment(HERE, threshold) for threshold in thresholds}
    at_threshold = experiments[THRESHOLD]
    parts = [
        accuracies(at_threshold),
        smallest_landscape(experiments),
        power_laws(experiments),
        orders(experiments),
        grid_against_crossing(measured["grid_against_crossing"], sizes_of(at_threshold)),
        times(measured),
        *(every_volume(experiments[threshold]) for threshold in thresholds),
    ]
    return "\n\n".join(parts)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def nats(value: float) -> str:
    return "no volume" if value == -math.inf else f"{value:,.0f}"


def sizes_of(experiment: ExperimentResults) -> list[int]:
    return [int(size) for size in experiment.minima_sizes]


def seeds_of(experiment: ExperimentResults) -> list[str]:
    return [_seeds(run) for run in experiment.runs]


def _seeds(run: str) -> str:
    return run.removeprefix("model_").replace("_data_", "/")


def t_interval(values: np.ndarray, *, of_one_more: bool = False) -> tuple[float, float]:
    """95 % Student t interval of the mean over seeds, or of one more seed's value."""
    scale = math.sqrt(1 / len(values) + of_one_more)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) * scale
    return float(values.mean() - half), float(values.mean() + half)


def accuracies(experiment: ExperimentResults) -> str:
    """Test accuracy by size, with the range in which one further seed is expected."""
    per_seed = experiment.matrix("test_acc", 0)
    rows, inside = [], 0
    for size, values in zip(sizes_of(experiment), per_seed.T, strict=True):
        low, high = t_interval(values, of_one_more=True)
        inside += low <= PUBLISHED[size] <= high
        row = [f"{size:,}", *(f"{value:.4f}" for value in values), f"{values.mean():.4f}"]
        rows.append([*row, f"{low:.4f} … {high:.4f}", f"{PUBLISHED[size]:.4f}"])
    header = ["training samples", *(f"seeds {s}" for s in seeds_of(experiment)), "mean"]
    header += ["one more seed, 95 %", "published, one seed"]
    return f"""### Test accuracy

{markdown(header, rows)}

The published accuracy lies where these {len(per_seed)} seeds expect one more (95 %, each size by itself)
at {inside} of {len(rows)} sizes. Seeds are model seed/data seed, here and below."""


def smallest_landscape(experiments: dict[float, ExperimentResults]) -> str:
    """log E[r^n] of each minimum in the landscape that all share, and whether it falls with size."""
    rows, lines = [], []
    for threshold, experiment in experiments.items():
        values = experiment.matrix("log_exp_r_n", 0)
        steps = np.diff(values, axis=1)
        for j, size in enumerate(sizes_of(experiment)):
            row = [f"{threshold:g}", f"{size:,}", *map(nats, values[:, j])]
            row += [nats(values[:, j].mean()), nats(values[:, j].std(ddof=1))]
            if j:
                low, high = t_interval(steps[:, j - 1])
                row += [nats(steps[:, j - 1].mean()), f"{nats(low)} … {nats(high)}"]
            rows.append(row if j else [*row, "", ""])
        largest = (values.argmax(axis=1) == 0).sum()
        down = ", ".join(f"{(step < 0).sum()} of {len(step)}" for step in steps)
        lines.append(
            f"- Threshold {threshold:g}: the minimum of the base samples is the largest in {largest} of "
            f"{len(values)} seeds; steps that go down, by seed: {down}."
        )
    header = ["threshold", "training samples", *(f"seeds {s}" for s in seeds_of(experiment)), "mean"]
    header += ["standard deviation", "step from the size before", "its 95 % interval over seeds"]
    return "\n\n".join(
        [
            "### log E[r^n] in the landscape of the 60 base samples, nats",
            markdown(header, rows),
            "\n".join(lines),
        ]
    )


def power_laws(experiments: dict[float, ExperimentResults]) -> str:
    rows = []
    for threshold, experiment in experiments.items():
        law = fit_power_law(experiment.minima_sizes, experiment.matrix("log_exp_r_n", 0))
        row = [f"{threshold:g}", nats(law.exponent), " … ".join(map(nats, law.interval))]
        row += [", ".join(map(nats, law.exponents)), f"{law.r_squared:.2f}", nats(np.nanstd(law.residuals))]
        rows.append(row)
    header = ["threshold", "exponent", "95 % interval over seeds", "each seed", "R²", "residuals, nats"]
    return f"""### Power law, E[r^n] ∝ size^exponent, in the landscape of the 60 base samples

{markdown(header, rows)}"""


def orders(experiments: dict[float, ExperimentResults]) -> str:
    """Every landscape's minima in order of volume, seed by seed."""
    rows = []
    for threshold, experiment in experiments.items():
        for level, size in zip(experiment.landscapes, experiment.landscape_sizes, strict=True):
            for run in experiment.runs:
                path = storage.results_path(HERE / run, experiment.dataset_type, level, threshold)
                line = order_line(storage.load_results(path))
                rows.append([f"{threshold:g}", f"{size:,.0f}", _seeds(run), line])
    return f"""### Order of the minima, largest first

By their additional samples. `>`: the intervals over directions, less the resolution, do not meet; `≈`: they
do, the order is within the error. Even `>` says no more than *on the directions sampled*: one of them
carries every mean (last tables), and larger radii may not have been drawn. `≫` would be beyond doubt.

{markdown(["threshold", "landscape, samples", "seeds", "order"], rows)}"""


def grid_against_crossing(found: dict[str, Any], sizes: list[int]) -> str:
    grid, crossing = found["grid"], found["crossing"]
    rows = []
    for j, size in enumerate(sizes):
        a, b = grid["log_exp_r_n_values"][j], crossing["log_exp_r_n_values"][j]
        row = [f"{size:,}", nats(a), nats(b), nats(a - b), nats(grid["log_exp_r_n_resolution"][j])]
        row.append(f"{crossing['log_exp_r_n_resolution'][j]:.2g}")
        rows.append([*row, *(f"{side['log_exp_r_n_ranks'][j]:g}" for side in (grid, crossing))])
    header = ["training samples", "grid", "crossing", "difference", "resolution: grid", "crossing"]
    slow, fast = grid["seconds"], crossing["seconds"]
    return f"""### What the grid's rounding changes

`{found["run"]}`, landscape of the 60 base samples, threshold {found["threshold"]:g}, the same directions;
log E[r^n] in nats, rank 1 the largest.

{markdown([*header, "rank: grid", "crossing"], rows)}

For this the grid took {slow:,.0f} s, the crossing search {fast:,.0f} s: {slow / fast:.0f} times less.
Directions that the grid ended below the threshold: {sum(grid["num_censored"])}."""


def times(measured: dict[str, Any]) -> str:
    rows = []
    for run, steps in measured["seconds"].items():
        minutes = [f"{steps[step] / 60:.1f}" for step in STEPS]
        rows.append([_seeds(run), *minutes, f"{sum(steps.values()) / 3600:.2f}"])
    return f"""### Time

{measured["processor"]}, torch {measured["torch"]}; wall-clock time of the notebooks.

{markdown(["seeds", *(f"{step}, min" for step in STEPS), "together, h"], rows)}"""


def every_volume(experiment: ExperimentResults) -> str:
    """All minima in all landscapes of all seeds, with what each number is worth."""
    rows = []
    for row in experiment.table:
        cells = [_seeds(row["run"]), f"{row['landscape_size']:,.0f}", f"{row['train_size']:,.0f}"]
        cells += [nats(row["log_exp_r_n"]), f"{nats(row['ci_low'])} … {nats(row['ci_high'])}"]
        cells += [f"{row['resolution']:.2g}", f"{row['effective_directions']:.1f}"]
        rows.append([*cells, f"{row['num_censored']:.0f}", nats(row["log_volume"])])
    header = ["seeds", "landscape, samples", "training samples", "log E[r^n]"]
    header += ["95 % interval over directions", "resolution", "effective directions", "never crossed"]
    return f"""<details><summary>Every volume at threshold {experiment.loss_threshold:g}, nats</summary>

{markdown([*header, "log volume"], rows)}

</details>"""


def write_tables() -> None:
    path = HERE / "README.md"
    text = path.read_text(encoding="utf-8")
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    storage.write_bytes(path, f"{before}{MARKS[0]}\n\n{tables()}\n\n{MARKS[1]}{after}".encode())


if __name__ == "__main__":
    write_tables()
