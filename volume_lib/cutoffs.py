"""How far a minimum holds as data are added, and how well it does on the test set.

Both make the figures of many runs easier to read: where a minimum's loss on base plus additional data
passes the threshold, it is no minimum of that landscape any more and its volume there is zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from volume_lib.progress import Bar
from volume_lib.records import Dataset, TrainedModel
from volume_lib.storage.weights import weights_digest
from volume_lib.thresholds import above

if TYPE_CHECKING:  # the analysis, which reads curves, starts without torch
    from torch import Tensor, nn

    from volume_lib.problems.base import Problem

_BATCH_SIZE = 1000


def loss_against_data(
    problem: Problem, models: Sequence[TrainedModel], dataset: Dataset, *, batch_size: int = _BATCH_SIZE
) -> dict[str, dict[str, Any]]:
    """The contents of ``cutoffs.json``: the loss of every minimum against the amount of data.

    One entry ``Model_<value>`` per minimum with its ``additional_data``, the ``base_train_size`` and the
    ``loss_curve``: entry ``i`` is the mean loss over the first ``i + 1`` samples, base samples first, then
    all additional ones in their order (so that entry ``base_train_size + level - 1`` is its loss in the
    landscape of ``level``); and ``weights_digest``, which says whose loss it is. Where the share of wrong
    labels varies, each minimum's additional samples have the labels that it was trained on.
    """
    from volume_lib.problems.label_noise import own_data

    cutoffs = {}
    for trained in Bar(models, desc="loss against data", unit="model"):
        x, y = own_data(problem, dataset, trained).upto(len(dataset.x_additional))
        losses, _ = _evaluate(problem, trained.model, x, y, batch_size)
        cutoffs[f"Model_{trained.value}"] = {
            "additional_data": int(trained.level),
            "base_train_size": int(dataset.base_data_size),
            "loss_curve": (np.cumsum(losses) / np.arange(1, len(x) + 1)).tolist(),
            "weights_digest": weights_digest(trained.model.state_dict()),
        }
    return cutoffs


def thinned(
    cutoffs: dict[str, dict[str, Any]], loss_thresholds: Sequence[float], *, points: int = 100
) -> dict[str, dict[str, Any]]:
    """The same curves at about ``points`` numbers of samples each, to be kept or shared in a small file.

    Each entry gains ``samples``, the numbers of samples at which its ``loss_curve`` is given, evenly spaced
    in their logarithm. The crossings of ``loss_thresholds``, both sides of each, are among them, so that
    :func:`zero_volume_level` stays exact. A curve that is thinned already keeps its numbers of samples:
    thinned again as before, it stays as it is. :mod:`volume_lib.analysis` and the figures read both kinds.
    """
    result = {}
    for name, entry in cutoffs.items():
        curve = np.asarray(entry["loss_curve"], dtype=np.float64)
        samples = curve_samples(entry)
        wanted = np.geomspace(samples[0], samples[-1], points).round()
        keep = set(np.searchsorted(samples, [entry["base_train_size"], *wanted]).tolist())
        for threshold in loss_thresholds:
            crossings = np.flatnonzero(np.diff((curve <= threshold).astype(int)))
            keep |= {*crossings.tolist(), *(crossings + 1).tolist()}
        at = sorted(keep)
        thin = {"samples": samples[at].tolist(), "loss_curve": [entry["loss_curve"][i] for i in at]}
        result[name] = {**entry, **thin}
    return result


def curve_samples(cutoff: Mapping[str, Any]) -> np.ndarray:
    """(C,) numbers of samples at which the ``loss_curve`` of an entry is given: all, or its ``samples``."""
    return np.asarray(cutoff.get("samples") or np.arange(1, len(cutoff["loss_curve"]) + 1))


def zero_volume_level(cutoff: dict[str, Any], loss_threshold: float) -> int | None:
    """The smallest number of additional samples at which a minimum's loss exceeds the threshold.

    ``cutoff`` is one entry of :func:`loss_against_data`. From there on its volume is zero (until the
    running mean falls below again, if it does). None if it stays below for all the data there are.
    """
    additional = curve_samples(cutoff) - cutoff["base_train_size"]
    beyond = (additional >= 0) & above(cutoff["loss_curve"], loss_threshold)
    return int(additional[np.argmax(beyond)]) if beyond.any() else None


def test_accuracies(
    problem: Problem, models: Sequence[TrainedModel], dataset: Dataset, *, batch_size: int = _BATCH_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """The contents of ``test_accuracies.npz``, both (M,): how much data each minimum was trained on
    (base and additional samples together) and its accuracy on the test set."""
    sizes = [dataset.base_data_size + trained.level for trained in models]
    accuracies = [
        _evaluate(problem, trained.model, dataset.x_test, dataset.y_test, batch_size)[1].mean()
        for trained in Bar(models, desc="test accuracy", unit="model")
    ]
    return np.array(sizes, dtype=np.int64), np.array(accuracies, dtype=np.float64)


test_accuracies.__test__ = False  # a name that pytest would collect where it is imported


def _evaluate(
    problem: Problem, model: nn.Module, x: Tensor, y: Tensor, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Per-sample losses and accuracies, both (N,) float64."""
    import torch

    from volume_lib.abilities import fitting

    device = next(model.parameters()).device
    losses, corrects = [], []
    with torch.no_grad():
        for start in range(0, len(x), batch_size):
            batch = slice(start, start + batch_size)
            targets = y[batch].to(device)
            # a copy, as a network may change what it is given
            outputs = model(fitting(model, x[batch].clone().to(device)))
            losses.append(problem.per_sample_loss(outputs, targets).double().cpu())
            corrects.append(problem.correct(outputs, targets).double().cpu())
    return torch.cat(losses).numpy(), torch.cat(corrects).numpy()
