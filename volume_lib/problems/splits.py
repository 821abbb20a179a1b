"""One run's data: base samples, additional samples in a fixed order, and the test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from volume_lib.devices import torch_defaults
from volume_lib.errors import InputError
from volume_lib.problems.base import Problem, check_seed
from volume_lib.problems.label_noise import with_label_noise
from volume_lib.problems.section import DataSettings, Imbalance, NoiseMoments
from volume_lib.problems.targets import kind_of
from volume_lib.records import Dataset
from volume_lib.section import takes


@takes(DataSettings)
@torch_defaults()
def make_dataset(problem: Problem, *, data_seed: int, root: Path | None = None, **settings: Any) -> Dataset:
    """Split ``problem``'s data: the base samples, then as many additional ones as the largest level needs.

    ``data_seed`` alone decides the split. Base and additional samples are distinct samples of the
    training data; ``dataset_type`` says what the additional ones are:

    - ``data``: further samples with their labels;
    - ``poison``: further samples, each with a label that is not its own, uniform over the others;
    - ``noise``: no samples at all: inputs drawn with the data's mean and variance (:func:`noise_inputs`)
      and labels uniform over the classes.

    ``base_imbalance`` and ``additional_imbalance``, ``{"labels": [0, 1], "ratio": 0.9}``, ask that the share
    ``ratio`` of the samples carry one of these (true) labels. Among the first k additional samples, for
    every k and so at every level, their number is the whole number nearest to ``ratio``·k; of the
    base samples likewise. ``additional_seed`` draws the additional samples anew while the base samples stay
    those of ``data_seed``. ``noise_moments``: ``"channel"`` or ``"global"`` (:func:`noise_inputs`).
    ``label_noise``: this share of the additional samples (of ``dataset_type`` ``data``) has a wrong label
    (:mod:`volume_lib.problems.label_noise`). ``test_size`` keeps that many test samples, the same ones for
    every seed.

    Raises InputError when more samples are asked for than there are, or levels do not increase.
    """
    asked = DataSettings.checked(**settings)
    levels, additional_seed = asked.dataset_quantities, asked.additional_seed
    check_seed("data_seed", data_seed)
    data = problem.checked_data(root)
    generator = torch.Generator().manual_seed(data_seed)
    order = torch.randperm(len(data.x_train), generator=generator)
    base = _take(
        order, data.y_train, asked.base_data_size, asked.base_imbalance, "base_data_size", "base_imbalance"
    )
    x_base, y_base = data.x_train[base], data.y_train[base]
    if additional_seed is not None:
        generator = torch.Generator().manual_seed(additional_seed)
        order = torch.randperm(len(data.x_train), generator=generator)
    if asked.dataset_type == "noise":
        x_additional = noise_inputs(data.x_train, levels[-1], generator, asked.noise_moments)
        y_like = data.y_train[:1].repeat_interleave(levels[-1], dim=0)
        if kind_of(data.y_train) != "classes":  # drawn from all, as nothing else says what a target can be
            y_like = data.y_train[torch.randint(len(data.y_train), (levels[-1],), generator=generator)]
        y_additional = problem.random_labels(y_like, generator)
    else:
        # the samples that are left, in the order of the seed
        rest = order[~torch.isin(order, base)]
        names = ("dataset_quantities", "additional_imbalance")
        chosen = _take(rest, data.y_train, levels[-1], asked.additional_imbalance, *names)
        x_additional, y_additional = data.x_train[chosen], data.y_train[chosen]
        if asked.dataset_type == "poison":
            y_additional = problem.wrong_labels(y_additional, generator)
    test = _test_samples(len(data.x_test), asked.test_size)
    dataset = Dataset(
        x_base, y_base, x_additional, y_additional, data.x_test[test], data.y_test[test],
        dataset_quantities=levels, dataset_type=asked.dataset_type, problem=problem.name, data_seed=data_seed,
    )  # fmt: skip
    return with_label_noise(problem, dataset, asked.label_noise)


def noise_inputs(x: Tensor, size: int, generator: torch.Generator, moments: str = "channel") -> Tensor:
    """(size, ...) independent noise with the mean and variance of ``x`` (N, ...).

    Floating-point inputs: normal, with the moments of each index of dimension 1 (an image's channel, a
    vector's entry); with ``moments="global"`` those of all entries together. Whole numbers
    (tokens): each drawn from all the entries of ``x``, with replacement.
    """
    if moments not in get_args(NoiseMoments):
        raise InputError(f"noise_moments {moments!r}: must be one of {', '.join(get_args(NoiseMoments))}")
    shape = (size, *x.shape[1:])
    if not x.is_floating_point():
        entries = x.flatten()
        return entries[torch.randint(len(entries), shape, generator=generator)]
    others = [d for d in range(x.ndim) if d != 1 or moments == "global"]
    std, mean = torch.std_mean(x, dim=others, keepdim=True, correction=0)
    return torch.randn(shape, generator=generator, dtype=x.dtype).mul_(std).add_(mean)


def _take(
    order: Tensor, y: Tensor, size: int, imbalance: Imbalance | None, size_name: str, name: str
) -> Tensor:
    """The first ``size`` indices of ``order``, rearranged so that the labels keep to ``imbalance``."""
    if size > len(order):
        raise InputError(f"{size_name}: {size:,} samples asked for, {len(order):,} are there")
    if imbalance is None:
        return order[:size]
    labels, ratio = _check_imbalance(imbalance, y, name)
    counts = torch.floor(ratio * torch.arange(size + 1, dtype=torch.float64) + 0.5).long()
    is_target_turn = counts.diff() > 0
    is_target = torch.isin(y[order], labels)
    targets, others = order[is_target], order[~is_target]
    wanted = int(counts[-1])
    for have, want, what in ((targets, wanted, "with"), (others, size - wanted, "without")):
        if want > len(have):
            raise InputError(
                f"{name}: ratio {ratio:g} of {size:,} samples needs {want:,} {what} the labels "
                f"{labels.tolist()}, and {len(have):,} are there"
            )
    taken = torch.empty(size, dtype=order.dtype)
    taken[is_target_turn], taken[~is_target_turn] = targets[:wanted], others[: size - wanted]
    return taken


def _check_imbalance(imbalance: Imbalance, y: Tensor, name: str) -> tuple[Tensor, float]:
    if y.ndim > 1:
        raise InputError(
            f"{name}: needs one label for each sample; these targets have shape {tuple(y.shape)}"
        )
    labels, ratio = imbalance.labels, imbalance.ratio
    known = y.unique()
    if not set(labels) <= set(known.tolist()):
        raise InputError(f"{name}: labels {labels} must be some of {known.tolist()}")
    return torch.tensor(labels), float(ratio)


def _test_samples(available: int, test_size: int | None) -> Tensor | slice:
    if test_size is None:
        return slice(None)
    if not 0 < test_size <= available:
        raise InputError(f"test_size {test_size}: must lie between 1 and {available:,}")
    # shuffled: the first half of some test sets (MNIST's) is easier than the second
    return torch.randperm(available, generator=torch.Generator().manual_seed(0))[:test_size]
