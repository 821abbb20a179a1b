"""Experiment folders whose numbers are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib import storage

LEVELS = (0, 40, 140, 440, 940)
BASE = 60
N = 1000


def log_volume(seed: int, minimum: int, landscape: int) -> float:
    """Power law of exponent −30 in the data of the minimum, a step of 50 nats for each seed."""
    return 5000.0 + 50.0 * seed - 30.0 * math.log(BASE + minimum) - 10.0 * math.log(BASE + landscape)


def test_loss_value(seed: int, minimum: int) -> float:
    return 2.0 / math.sqrt(BASE + minimum) + 0.001 * seed


test_loss_value.__test__ = False


def cutoff(minimum: int) -> int:
    """Additional samples from which on the minimum has no volume."""
    return 2 * minimum + 20


def results(
    seed: int, landscape: int, minima: Sequence[int], threshold: float = 0.1, **more: Any
) -> dict[str, Any]:
    values = [log_volume(seed, m, landscape) for m in minima]
    return {
        "loss_unit": "nats",
        "test_loss_values": [test_loss_value(seed, m) for m in minima],
        "test_acc_values": [1 - test_loss_value(seed, m) for m in minima],
        "train_loss_values": [0.01] * len(minima),
        "log_exp_r_n_values": values,
        "log_exp_r_n_ci": [[v - 3, v + 1] for v in values],
        "log_volume_values": [v - 100 for v in values],
        "model_data_levels": list(minima),
        "loss_landscape_data_param": landscape,
        "base_dataset_size": BASE,
        "num_params": N,
        "num_directions": 100,
        "dataset_type": "data",
        "loss_threshold": threshold,
        "subset_sizes": [1, 10, 100],
        "radii_rank_probabilities": [0.5, 0.9, 1.0],
        "radii_rank_probabilities_full": [0.2, 0.7, 1.0],
        **more,
    }


def cutoffs(minima: Sequence[int], total: int) -> dict[str, Any]:
    """Loss 0.01 up to the cutoff, 1 from there on."""
    samples = np.arange(1, total + 1)
    return {
        f"Model_{m}": {
            "additional_data": m,
            "base_train_size": BASE,
            "loss_curve": np.where(samples >= BASE + cutoff(m), 1.0, 0.01).tolist(),
        }
        for m in minima
    }


def write_run(folder: Path, seed: int, levels: Sequence[int] = LEVELS, threshold: float = 0.1) -> Path:
    """One complete run as the present notebooks leave it."""
    run = folder / f"model_{seed}_data_{seed + 10}"
    for landscape in levels:
        minima = [m for m in levels if m >= landscape]
        path = storage.results_path(run, "data", landscape, threshold)
        storage.save_results(path, results(seed, landscape, minima, threshold))
    storage.save_cutoffs(run, cutoffs(levels, BASE + max(levels)))
    sizes = [BASE + m for m in levels]
    storage.save_test_accuracies(run, sizes, [1 - test_loss_value(seed, m) for m in levels])
    return run
