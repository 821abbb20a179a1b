"""Results in the keys, names and folders of older notebooks, with contents of this suite's own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np


def write_results(folder: Path, landscape: int, levels: list[int], volumes: list[float], **more) -> Path:
    """A results.json with the keys that older notebooks wrote, lists in the order of their files."""
    order = sorted(range(len(levels)), key=lambda i: str(levels[i]))
    n = more.pop("num_params", 100_000)
    content = {
        "test_loss_values": [2.0 / (1 + levels[i]) for i in order],
        "log_exp_r_n_values": [volumes[i] for i in order],
        "log_exp_r_n_acc_values": [-math.inf for _ in order],
        "model_data_levels": [levels[i] for i in order],
        "loss_landscape_data_param": landscape,
        "train_loss_values": [0.001] * len(order),
        "num_params": n,
        "dataset_type": "data",
        "top_r_vals": [[20.0, 19.99, 18.0, 17.99] for _ in order],
        "top_r_val_seeds": [[4, 7, 1, 0] for _ in order],
        "loss_predicts_minimas": True,
        "loss_ordering_violations": 0,
        "test_loss_ranks": list(range(1, len(order) + 1)),
        "log_exp_r_n_ranks": list(range(1, len(order) + 1)),
        "data_level_ranks": list(range(len(order), 0, -1)),
    }
    content |= more.pop("reordered", {})
    path = folder / f"data_{landscape}" / more.pop("threshold", "loss_0.1") / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | more))
    return path


def write_cutoffs(folder: Path, levels: list[int], base: int) -> None:
    entries = {
        f"Model_{m}": {
            "additional_data": m,
            "base_train_size": base,
            "loss_curve": [0.01] * (base + max(levels)),
        }
        for m in levels
    }
    (folder / "cutoffs").mkdir(parents=True)
    (folder / "cutoffs" / "cutoffs.json").write_text(json.dumps(entries))


LEVELS = [0, 30, 330]


def by_data(seed: int, minimum: int) -> float:
    """A volume that falls with the whole training set, 20 base samples included, to the power −7."""
    return 900.0 + seed - 7 * math.log(20 + minimum)


def write_experiment(folder: Path) -> Path:
    """Three runs of a low-data study; only cutoffs.json says that there are 20 base samples."""
    for seed in range(3):
        run = folder / f"model_{seed}_data_{seed + 10}"
        for landscape in LEVELS:
            levels = [m for m in LEVELS if m >= landscape]
            write_results(run, landscape, levels, [by_data(seed, m) for m in levels])
        write_cutoffs(run, LEVELS, 20)
        accuracies = [0.6 + 0.1 * i + 0.01 * seed for i in range(len(LEVELS))]
        sizes = [20 + m for m in LEVELS]
        np.savez(run / "test_accuracies.npz", dataset_sizes=sizes, final_test_accuracies=accuracies)
    return folder
