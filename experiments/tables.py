"""Write the tables of a study's ``README.md``, between its two marks, from the results in its folder.

    python experiments/tables.py experiments/low_data/mnist

Seconds. The folder holds shipped results, ``study.json`` (what the study cost: ``study.py`` writes it) and,
where the published work gives numbers for the same setting, ``published.json``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from volume_lib import storage
from volume_lib.analysis import (
    Comparison,
    ExperimentResults,
    compare,
    fit_power_law,
    load_experiment,
    mass_orders,
    rank_agreement,
)
from volume_lib.experiment.file import read_experiment
from volume_lib.volume.words import order_line, region_words

MARKS = ("<!-- written by tables.py -->", "<!-- end of tables -->")
STEPS = ("train", "perturb", "volume", "cutoff", "accuracy")


@dataclass(frozen=True)
class Study:
    """A folder's results by loss threshold, the largest first; what they cost; what was published."""

    folder: Path
    experiments: dict[float, ExperimentResults]
    main: float
    measured: dict[str, Any]
    published: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Study:
        asked = read_experiment(folder)
        thresholds = sorted(asked.perturb.loss_thresholds, reverse=True)
        experiments = {threshold: load_experiment(folder, threshold) for threshold in thresholds}
        measured, published = _json(folder / "study.json"), _json(folder / "published.json")
        return cls(folder, experiments, asked.analysis.loss_threshold or thresholds[0], measured, published)

    @property
    def at(self) -> ExperimentResults:
        """The results at the threshold that the analysis is made for."""
        return self.experiments[self.main]

    @property
    def base(self) -> int:
        """The smallest landscape: all minima have a place in it."""
        return self.at.landscapes[0]

    @property
    def what(self) -> str:
        """What tells the minima apart, as a column is called."""
        if self.at.counts_training_data:
            return "training samples"
        kinds = {"poison": "wrong labels", "noise": "samples of noise"}
        return kinds.get(self.at.dataset_type, "additional samples") if self.at.key == "additional" else (
            self.at.key.replace("_", " ")
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        return [f"{int(size):,}" for size in self.at.minima_sizes]

    @property
    def seeds(self) -> list[str]:
        return [_seeds(run) for run in self.at.runs]

    @property
    def landscape(self) -> str:
        """The smallest landscape in words."""
        first = self.at.table[0]
        return f"the {int(first['train_size'] - first['trained_data']) + self.base:,} base samples"

    def told(self, quantity: str, threshold: float | None = None) -> list[str] | None:
        """Published values of the minima, in their order; None where there are none (at this threshold)."""
        found = self.published.get(quantity)
        if found is None or (threshold is not None and not math.isclose(found["threshold"], threshold)):
            return None
        digits = "{:.4f}" if quantity == "test_acc" else "{:,.0f}"
        return [
            digits.format(found["values"][name]) if name in found["values"] else ""
            for name in (str(int(size)) for size in self.at.minima_sizes)
        ]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def tables(folder: Path) -> str:
    """All tables, in Markdown, from the results in ``folder``."""
    study = Study.read(folder)
    parts = [accuracies(study), training_losses(study), smallest_landscape(study)]
    if study.at.masses:
        parts += [log_masses(study), orders_by_mass(study)]
    if study.at.counts_training_data and len(study.seeds) > 1:
        parts.append(power_laws(study))
    parts += [orders(study), comparison(study)]
    if "grid_against_crossing" in study.measured:
        parts.append(grid_against_crossing(study))
    if study.measured:
        parts.append(times(study))
    parts += [every_volume(experiment, study) for experiment in study.experiments.values()]
    return "\n\n".join(part for part in parts if part)


# --- what cells are made of


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def nats(value: float) -> str:
    if math.isnan(value):
        return ""
    return "no volume" if value == -math.inf else f"{value:,.0f}"


def _seeds(run: str) -> str:
    return run.removeprefix("model_").replace("_data_", "/")


def t_interval(values: np.ndarray, *, of_one_more: bool = False) -> tuple[float, float]:
    """95 % Student t interval of the mean over seeds, or of one more seed's value."""
    scale = math.sqrt(1 / len(values) + of_one_more)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) * scale
    return float(values.mean() - half), float(values.mean() + half)


# --- the tables


def accuracies(study: Study) -> str:
    """Test accuracy of each minimum, with the range in which one further seed is expected."""
    per_seed, several = study.at.of_minima("test_acc"), len(study.seeds) > 1
    published = study.told("test_acc")
    rows, inside = [], 0
    for j, (name, values) in enumerate(zip(study.names, per_seed.T, strict=True)):
        row = [name, *(f"{value:.4f}" for value in values)]
        if several:
            low, high = t_interval(values, of_one_more=True)
            row += [f"{values.mean():.4f}", f"{low:.4f} … {high:.4f}"]
        if published:
            inside += several and bool(published[j]) and low <= float(published[j]) <= high
            row.append(published[j])
        rows.append(row)
    header = [study.what, *(f"seeds {s}" for s in study.seeds)]
    header += ["mean", "one more seed, 95 %"] if several else []
    header += ["published, one seed"] if published else []
    last = "Seeds are model seed/data seed, here and below."
    if published and several:
        last = (
            f"The published accuracy lies where these {len(per_seed)} seeds expect one more "
            f"(95 %, each size by itself)\nat {inside} of {sum(map(bool, published))} sizes. {last}"
        )
    return f"### Test accuracy\n\n{markdown(header, rows)}\n\n{last}"


def training_losses(study: Study) -> str:
    """The loss at which each minimum lies in its own data: how far below the thresholds training went."""
    losses = study.at.of_minima("train_loss")
    rows = [
        [name, *(f"{value:.2g}" for value in values)]
        for name, values in zip(study.names, losses.T, strict=True)
    ]
    header = markdown([study.what, *(f"seeds {s}" for s in study.seeds)], rows)
    return f"### Training loss at the minimum, {study.at.loss_unit}\n\n{header}"


def smallest_landscape(study: Study) -> str:
    """log E[r^n] of each minimum in the landscape that all share, and how it orders them."""
    rows, lines, several = [], [], len(study.seeds) > 1
    directions = read_experiment(study.folder).perturb.num_directions
    any_published = any(study.told("log_exp_r_n", threshold) for threshold in study.experiments)
    for threshold, experiment in study.experiments.items():
        values = experiment.matrix("log_exp_r_n", study.base)
        known = np.where(np.isfinite(values), values, np.nan)
        steps = np.diff(known, axis=1)
        published = study.told("log_exp_r_n", threshold)
        for j, name in enumerate(study.names):
            row = [f"{threshold:g}", name, *map(nats, values[:, j])]
            if several:
                row += [nats(known[:, j].mean()), nats(known[:, j].std(ddof=1))]
                row += _step(steps[:, j - 1]) if j else ["", ""]
            row += [published[j] if published else ""] if any_published else []
            rows.append(row)
        lines.append(_in_words(study, threshold, known, steps))
    header = ["threshold", study.what, *(f"seeds {s}" for s in study.seeds)]
    if several:
        header += ["mean", "standard deviation", "step from the one before", "its 95 % interval over seeds"]
    header += ["published, one seed"] if any_published else []
    return "\n\n".join(
        [
            f"### log E[r^n] in the landscape of {study.landscape}, nats",
            f"n = {int(study.at.table[0]['num_params']):,} parameters, {directions} directions.",
            markdown(header, rows),
            "\n".join(lines),
        ]
    )


def log_masses(study: Study) -> str:
    """Every integrated log mass beside the same by rays, and with which other minimum it shares a region."""
    rows, seconds, points = [], 0.0, 0
    for level in study.at.landscapes:
        for run in study.at.runs:
            path = storage.mass_path(study.folder / run, study.at.dataset_type, level, study.main)
            if not path.exists():
                continue
            found = storage.load_masses(path)
            base = found["base_dataset_size"]
            for i, value in enumerate(found["key_values"]):
                low, high = found["log_mass_intervals"][i]
                record, curve = found["records"][i], found["same_region"][i]
                seconds, points = seconds + record["seconds"], curve.get("points", points)
                cells = [f"{base + level:,}", _seeds(run), f"{base + value:,}"]
                cells += [nats(found["log_mass_rays_values"][i])]
                cells += [" … ".join(map(nats, found["log_mass_rays_ci"][i]))]
                cells += [nats(found["log_mass_values"][i]), f"{nats(low)} … {nats(high)}"]
                cells += [nats(record["gap"]), "yes" if found["converged"][i] else "no"]
                rows.append([*cells, region_words({**curve, "with": base + curve["with"]} if curve else {})])
    header = ["landscape, samples", "seeds", study.what, "by rays", "95 % interval over directions"]
    header += ["integrated", "interval", "gap of the passes", "converged", "in one region with that of"]
    return f"""### Log mass by rays and by integration, nats

Log of the probability of the region under the network's initialisation, loss threshold {study.main:g}.
*Integrated*: the {found["region"]} region, {seconds / 60:.0f} minutes for all {len(rows)} together.
The loss of a curve between two minima is the highest of {points:,} points of it.

{markdown(header, rows)}"""


def orders_by_mass(study: Study) -> str:
    """Whether the order of the minima by rays is that by integration."""
    rows = []
    for name, landscape in ((study.landscape, study.base), ("each minimum's own data", None)):
        for found in mass_orders(study.at, landscape):
            if found.pairs:
                rho = "" if math.isnan(found.agreement) else f"{found.agreement:+.2f}"
                cells = [name, _seeds(found.run), rho, str(found.pairs), str(found.apart), str(found.same)]
                rows.append([*cells, nats(found.spread_rays), nats(found.spread)])
    header = ["landscape of", "seeds", "rank correlation", "pairs of minima", "told apart by integration"]
    header += ["of these, in the order of rays", "largest less smallest by rays", "integrated"]
    return f"""### Does the order survive?

*Told apart*: the intervals of two integrations do not meet. A rank correlation counts orders within
the error, too.

{markdown(header, rows)}"""


def _step(steps: np.ndarray) -> list[str]:
    if np.isnan(steps).any():
        return ["", ""]
    low, high = t_interval(steps)
    return [nats(steps.mean()), f"{nats(low)} … {nats(high)}"]


def _in_words(study: Study, threshold: float, values: np.ndarray, steps: np.ndarray) -> str:
    """Which minimum is the largest, at how many steps volume falls, and its rank with test loss."""
    alive = np.isfinite(values).any(axis=1)
    largest = [
        study.names[np.nanargmax(row)] if some else "none" for row, some in zip(values, alive, strict=True)
    ]
    down = ", ".join(f"{(step < 0).sum()} of {np.isfinite(step).sum()}" for step in steps)
    ranks = rank_agreement(study.experiments[threshold], study.base).per_run
    told = ", ".join("none" if math.isnan(rank) else f"{rank:+.2f}" for rank in ranks)
    return (
        f"- Threshold {threshold:g}, by seed: the largest minimum is that of "
        f"{', '.join(largest)} {study.what}; "
        f"steps that go down: {down}; rank correlation of volume with test loss: {told}."
    )


def power_laws(study: Study) -> str:
    rows = []
    for threshold, experiment in study.experiments.items():
        law = fit_power_law(experiment.minima_sizes, experiment.matrix("log_exp_r_n", study.base))
        row = [f"{threshold:g}", nats(law.exponent), " … ".join(map(nats, law.interval))]
        row += [", ".join(map(nats, law.exponents)), f"{law.r_squared:.2f}", nats(np.nanstd(law.residuals))]
        rows.append(row)
    header = ["threshold", "exponent", "95 % interval over seeds", "each seed", "R²", "residuals, nats"]
    return f"""### Power law, E[r^n] ∝ size^exponent, in the landscape of {study.landscape}

{markdown(header, rows)}"""


def orders(study: Study) -> str:
    """Every landscape's minima in order of volume, seed by seed."""
    rows = []
    for threshold, experiment in study.experiments.items():
        for level, size in zip(experiment.landscapes, experiment.landscape_sizes, strict=True):
            for run in experiment.runs:
                path = storage.results_path(study.folder / run, experiment.dataset_type, level, threshold)
                line = order_line(storage.load_results(path))
                rows.append([f"{threshold:g}", f"{size:,.0f}", _seeds(run), line])
    samples = "samples" if study.at.counts_training_data else "additional samples"
    named = "additional samples" if study.at.key == "additional" else study.what
    return f"""### Order of the minima, largest first

By their {named}. `>`: the intervals over directions, less the resolution, do not meet; `≈`: they
do, the order is within the error. Even `>` says no more than *on the directions sampled*: one of them
carries every mean (last tables), and larger radii may not have been drawn. `≫` would be beyond doubt.

{markdown(["threshold", f"landscape, {samples}", "seeds", "order"], rows)}"""


def comparison(study: Study) -> str:
    """This experiment less the one that it is compared with, minimum by minimum."""
    asked = read_experiment(study.folder).analysis.compare_with
    if asked is None or not storage.list_runs(study.folder / asked):
        return ""
    rows, name = [], ""
    for threshold, experiment in study.experiments.items():
        other = load_experiment(study.folder / asked, threshold)
        name = other.name
        for level, size in zip(experiment.landscapes, experiment.landscape_sizes, strict=True):
            found = compare(other, experiment, level)
            for j, minimum in enumerate(found.minima):
                if np.isfinite(found.difference[j]):
                    row = [f"{threshold:g}", f"{size:,.0f}", study.names[study.at.minima.index(minimum)]]
                    rows.append([*row, f"{found.difference[j]:+,.0f}", _each_and_interval(found, j)])
    samples = "samples" if study.at.counts_training_data else "additional samples"
    header = ["threshold", f"landscape, {samples}", study.what, "mean difference", "by seed; 95 % interval"]
    return f"""### {study.at.name} less {name}: log E[r^n], nats

{markdown(header, rows)}"""


def _each_and_interval(found: Comparison, j: int) -> str:
    """The differences seed by seed, where seeds are shared, and the interval of their mean."""
    if not np.isfinite(found.interval[j]).all():
        return "one seed"
    low, high = found.interval[j]
    each = ", ".join(f"{value:+,.0f}" for value in (found.second - found.first)[:, j]) if found.paired else ""
    return f"{each}; {low:+,.0f} … {high:+,.0f}".removeprefix("; ")


def grid_against_crossing(study: Study) -> str:
    found = study.measured["grid_against_crossing"]
    grid, crossing = found["grid"], found["crossing"]
    rows = []
    for j, name in enumerate(study.names):
        a, b = grid["log_exp_r_n_values"][j], crossing["log_exp_r_n_values"][j]
        row = [name, nats(a), nats(b), nats(a - b), nats(grid["log_exp_r_n_resolution"][j])]
        row.append(f"{crossing['log_exp_r_n_resolution'][j]:.2g}")
        rows.append([*row, *(f"{side['log_exp_r_n_ranks'][j]:g}" for side in (grid, crossing))])
    header = [study.what, "grid", "crossing", "difference", "resolution: grid", "crossing"]
    slow, fast = grid["seconds"], crossing["seconds"]
    return f"""### What the grid's rounding changes

`{found["run"]}`, landscape of {study.landscape}, threshold {found["threshold"]:g}, the same directions;
log E[r^n] in nats, rank 1 the largest.

{markdown([*header, "rank: grid", "crossing"], rows)}

For this the grid took {slow:,.0f} s, the crossing search {fast:,.0f} s: {slow / fast:.0f} times less.
Directions that the grid ended below the threshold: {sum(grid["num_censored"])}."""


def times(study: Study) -> str:
    measured = study.measured
    rows = []
    for run, steps in measured["seconds"].items():
        minutes = [f"{steps[step] / 60:.1f}" if step in steps else "" for step in STEPS]
        rows.append([_seeds(run), *minutes, f"{sum(steps.values()) / 3600:.2f}"])
    load = f", load average {measured['load']}" if "load" in measured else ""
    text = f"""### Time

{measured["processor"]}, torch {measured["torch"]}{load}; wall-clock time of the steps.

{markdown(["seeds", *(f"{step}, min" for step in STEPS), "together, h"], rows)}"""
    return f"{text}\n\n{_plain(study)}" if "plain" in measured else text


def _plain(study: Study) -> str:
    """What the sweeps of one seed would take with the plain procedure, from a few directions."""
    found, wanted = study.measured["plain"], read_experiment(study.folder).perturb.num_directions
    clock = "gpu_seconds" if "gpu_seconds" in found["grid"] else "processor_seconds"
    hours = {
        search: found[search][clock] / found[search]["directions"] * wanted / 3600
        for search in ("grid", "crossing")
    }
    where = "on the GPU" if clock == "gpu_seconds" else "in processor time on one core"
    measured = ", ".join(f"{found[search]['directions']} of the {search}" for search in hours)
    return (
        f"The sweeps of one seed, {wanted} directions, {where}, from a few directions\n"
        f"of `{found['run']}` ({measured}): {hours['grid']:.1f} h by the plain procedure,\n"
        f"{hours['crossing']:.2f} h by crossings, {hours['grid'] / hours['crossing']:.0f} times less."
    )


def every_volume(experiment: ExperimentResults, study: Study) -> str:
    """All minima in all landscapes of all seeds, with what each number is worth."""
    by_data = experiment.counts_training_data
    rows = []
    for row in experiment.table:
        size = row["train_size"] if by_data else row["minimum"]
        cells = [_seeds(row["run"]), f"{row['landscape_size']:,.0f}", f"{size:,.0f}"]
        cells += [nats(row["log_exp_r_n"]), f"{nats(row['ci_low'])} … {nats(row['ci_high'])}"]
        cells += [f"{row['resolution']:.2g}", f"{row['effective_directions']:.1f}"]
        rows.append([*cells, f"{row['num_censored']:.0f}", nats(row["log_volume"])])
    header = ["seeds", "landscape, samples", study.what, "log E[r^n]"]
    header += ["95 % interval over directions", "resolution", "effective directions", "never crossed"]
    return f"""<details><summary>Every volume at threshold {experiment.loss_threshold:g}, nats</summary>

{markdown([*header, "log volume"], rows)}

</details>"""


def write_tables(folder: Path) -> None:
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    storage.write_bytes(path, f"{before}{MARKS[0]}\n\n{tables(folder)}\n\n{MARKS[1]}{after}".encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="the study's folder")
    write_tables(parser.parse_args().folder)
