"""An experiment's runs as one tidy table: a row for each run, landscape and minimum."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from volume_lib import storage
from volume_lib.errors import InputError, near_match
from volume_lib.records import ADDITIONAL, plain_value

COLUMNS: dict[str, type] = {
    "run": object,
    "model_seed": int,
    "data_seed": int,
    "landscape": int,
    "minimum": float,
    "trained_data": int,
    "train_size": float,
    "landscape_size": float,
    "log_exp_r_n": float,
    "ci_low": float,
    "ci_high": float,
    "resolution": float,
    "effective_directions": float,
    "num_censored": float,
    "log_volume": float,
    "log_exp_r_n_acc": float,
    "log_mass_rays": float,
    "log_mass_rays_low": float,
    "log_mass_rays_high": float,
    "log_mass_rays_directions": float,
    "log_mass": float,
    "log_mass_low": float,
    "log_mass_high": float,
    "test_loss": float,
    "test_acc": float,
    "train_loss": float,
    "num_params": float,
    "cutoff": float,
    "mean_radius": float,
    "median_radius": float,
}
"""Columns of the table. ``landscape``, ``trained_data``: additional samples. ``minimum``: what tells
the minima apart (their additional samples, or the batch size …). ``train_size``, ``landscape_size``: the
same with the base samples, NaN where the files do not say how many there are. Volumes, their interval
and ``resolution`` are in nats, −inf for no volume, NaN where a file does not say; so are the losses.
``cutoff``: additional samples from which on the minimum has no volume, inf if it always has one.
``mean_radius``, ``median_radius``: of the threshold radii over directions. ``log_mass_rays`` is the
region's log probability under the network's initialisation, with its interval and effective directions;
``log_mass`` the same by integration, where the run has a ``mass.json`` of these weights (its reference and
region are those that were asked for)."""

QUANTITIES = ("log_exp_r_n", "log_volume", "log_exp_r_n_acc", "log_mass_rays", "log_mass")
"""Columns that are a log volume or a log mass."""


class Stability(NamedTuple):
    """How often so many directions (K,) of one run tell the largest minimum and the order of all, (K,) each.

    By log volume, and by the largest radius alone; empty where a file does not say.
    """

    sizes: list[float]
    largest: list[float]
    order: list[float]
    largest_by_radius: list[float]
    order_by_radius: list[float]


@dataclass(frozen=True)
class ExperimentResults:
    """The complete runs of one experiment at one loss threshold.

    ``table`` (R,) has the fields of :data:`COLUMNS`. ``left_out`` says of each run that is not in it
    why; ``notes`` what is odd in a run or what it lacks that only some figures need; ``remarks`` what the
    files of all runs leave open. ``key`` is what varies between the minima. ``failures``: (run, minimum)
    above the threshold after training, which count by the rule ``failed``. ``stability``: landscape →
    what each run says of it. ``masses``: landscape → the ``mass.json`` of each run that has one.
    """

    folder: Path
    name: str
    loss_threshold: float
    dataset_type: str
    key: str
    table: np.ndarray
    left_out: dict[str, str]
    notes: dict[str, str]
    loss_unit: str
    remarks: list[str] = field(default_factory=list)
    failed: str = "no volume"
    failures: list[tuple[str, float]] = field(default_factory=list)
    stability: dict[int, list[Stability]] = field(default_factory=dict)
    masses: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def runs(self) -> list[str]:
        return list(dict.fromkeys(self.table["run"]))

    @property
    def landscapes(self) -> list[int]:
        """Levels of the landscapes, increasing."""
        return [int(v) for v in np.unique(self.table["landscape"])]

    @property
    def minima(self) -> list[int | float]:
        """What tells the minima apart, increasing: data levels, batch sizes …"""
        return [plain_value(v) for v in np.unique(self.table["minimum"])]

    @property
    def counts_training_data(self) -> bool:
        """Whether the minima differ in training data whose amounts, base samples included, are known.

        Poison and noise are not training data in this sense: they keep amounts of their own.
        """
        known = bool(np.isfinite(self.table["train_size"]).all())
        return self.key == ADDITIONAL and self.dataset_type == "data" and known

    @property
    def minima_sizes(self) -> np.ndarray:
        """(M,) training-set sizes of the minima if they count training data, else :attr:`minima`."""
        return self._base() + np.asarray(self.minima, dtype=float)

    @property
    def landscape_sizes(self) -> np.ndarray:
        """(L,) samples in each landscape if the minima count training data, else the additional ones."""
        return self._base() + np.asarray(self.landscapes, dtype=float)

    def _base(self) -> float:
        first = self.table[0]
        return float(first["train_size"] - first["trained_data"]) if self.counts_training_data else 0.0

    def rows(self, **where: Any) -> np.ndarray:
        """The rows whose columns equal ``where``: ``experiment.rows(landscape=0, minimum=540)``."""
        keep = np.ones(len(self.table), dtype=bool)
        for column, value in where.items():
            keep &= self.table[column] == value
        return self.table[keep]

    def matrix(self, column: str, landscape: int) -> np.ndarray:
        """(runs, minima) values of ``column`` in one landscape; NaN where a run lacks the minimum.

        Raises :class:`InputError` for a landscape or a column that the experiment does not have.
        """
        if landscape not in self.landscapes:
            raise InputError(f"landscape {landscape}: {self.folder} has {self.landscapes}")
        if column not in COLUMNS:
            raise InputError(
                f'no column "{column}"{near_match(column, COLUMNS)}; there are {", ".join(COLUMNS)}'
            )
        runs = {run: i for i, run in enumerate(self.runs)}
        minima = {level: j for j, level in enumerate(self.minima)}
        values = np.full((len(runs), len(minima)), np.nan)
        for row in self.rows(landscape=landscape):
            values[runs[row["run"]], minima[plain_value(row["minimum"])]] = row[column]
        return values

    def own_landscapes(self, column: str) -> np.ndarray:
        """(runs, minima) values of ``column``, each minimum in the landscape of its own training data."""
        values = np.full((len(self.runs), len(self.minima)), np.nan)
        for j, minimum in enumerate(self.minima):
            if minimum in self.landscapes:
                values[:, j] = self.matrix(column, int(minimum))[:, j]
        return values

    def of_minima(self, column: str) -> np.ndarray:
        """(runs, minima) values of a column that belongs to the minimum alone, as its test loss does."""
        values = np.full((len(self.runs), len(self.minima)), np.nan)
        for level in self.landscapes:
            values = np.where(np.isnan(values), self.matrix(column, level), values)
        return values

    def has(self, column: str) -> bool:
        """Whether any row knows ``column``: older results lack the newer ones."""
        return not np.isnan(self.table[column]).all()

    def describe(self) -> str:
        """What was loaded and what was not, in a few lines."""
        lines = [
            f"{self.name}: {len(self.runs)} complete runs, loss threshold {self.loss_threshold:g}",
            f"  landscapes, additional samples: {', '.join(map(str, self.landscapes))}",
            f"  minima, {self.key.replace('_', ' ')}: {', '.join(map(str, self.minima))}",
        ]
        lines += [f"  {remark}" for remark in self.remarks]
        if self.failures:
            lines.append(f"  above the threshold after training, counted by the rule {self.failed!r}:")
            lines += [f"    {run}: {minimum:,}" for run, minimum in self.failures]
        lines += [f"  left out: {run}: {why}" for run, why in self.left_out.items()]
        lines += [f"  {run}: {what}" for run, what in self.notes.items()]
        return "\n".join(lines)


def write_summary(experiment: ExperimentResults, path: str | Path | None = None) -> Path:
    """Write the table as CSV, by default ``<experiment>/analysis/summary.csv``; what is unknown is empty.

    Columns of log masses are there where a run has any.
    """
    path = Path(path) if path is not None else storage.analysis_dir(experiment.folder) / "summary.csv"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for name in COLUMNS if not name.startswith("log_mass") or experiment.has(name)]
    writer.writerow(names)
    for row in experiment.table[names]:
        told = dict(zip(names, row.item(), strict=True))
        told["minimum"] = plain_value(told["minimum"])
        writer.writerow(["" if v != v else v for v in told.values()])
    storage.write_bytes(path, text.getvalue().encode())
    return path
