"""Measure one model: its volume in the loss landscape of some data, without files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from volume_lib.devices import resolve_device
from volume_lib.errors import InputError
from volume_lib.measuring.record import Volume, volumes_of
from volume_lib.measuring.source import Source
from volume_lib.parameters import Choice
from volume_lib.problems.losses import PerSample
from volume_lib.progress import Bar, quiet
from volume_lib.records import Sweep
from volume_lib.sweep.evaluator import budget_of
from volume_lib.sweep.section import PerturbSettings
from volume_lib.sweep.settings import SweepSettings


def measure(
    model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    loss: str | PerSample = "cross_entropy",
    threshold: float | Sequence[float] = 0.1,
    rise: float | Sequence[float] | None = None,
    directions: int = 500,
    parameters: Choice | None = None,
    landscapes: Sequence[int] | None = None,
    accuracy: str | Callable | None = None,
    acc_threshold: float | None = None,
    scaling: str = "filter",
    seed: int = 0,
    max_coefficient: float | None = None,
    build: Callable[[], nn.Module] | None = None,
    xrtol_rest: float | None = None,
    device: str = "auto",
    memory_budget: float | None = None,
    progress: bool = True,
) -> Volume:
    """The volume of the region around a trained model in which its loss stays below a threshold.

    Nothing of the caller's changes: model, mode, gradients, random states and data are left as they are. The
    model is measured as in ``eval()``, in float32 or better.

    Args:
        model: any network with its trained weights.
        x: N samples along the first axis: a tensor or array, also a memory-mapped one; a tuple (then
            ``model(*x)``) or mapping (``model(**x)``) of them; or a map-style ``Dataset`` of ``(x, y)``.
        y: their targets, of any shape; None where the loss needs none.
        loss: ``"cross_entropy"``, ``"mse"``, ``"bce"`` (on logits), ``"kl"`` (of the outputs from the model's
            own, without targets), see :mod:`volume_lib.problems.losses`; or a function ``(outputs, y) →
            (N,)``. Of outputs with ``.logits`` these are meant.
        threshold: mean losses at which the region ends, one or several.
        rise: instead of ``threshold``, so much above the model's own mean loss in each landscape.
        directions: random directions, with the seeds ``seed``, ``seed + 1``, …
        parameters: which parameters move: names, patterns (``"*.lora_*"``) or a predicate of ``(name,
            parameter)``; default those with ``requires_grad``. All others stay where they are.
        landscapes: increasing numbers of samples: a volume is measured over the first 60, the first 600 …
            samples, all along the same rays. Default: all samples.
        accuracy: ``"auto"`` (what goes with the loss) or a function ``(outputs, y) → (N,)``, 0 to 1.
        acc_threshold: also measure the region in which the accuracy stays at this or above.
        scaling: ``"filter"``, ``"none"`` or ``"curvature"`` (see :mod:`volume_lib.rays.scaling`).
        max_coefficient: how far along a ray to look, default 1,000; a direction that has not crossed by then
            is censored, and the volume a lower bound.
        build: makes a fresh model of the same kind: the widths of ``log_mass_rays`` are then those of its
            initialisation, as in the workflow. Default: each module's own ``reset_parameters``, which is the
            same where the network sets nothing of its own; the two differ by their draws.
        xrtol_rest: how precise the radii of directions are that no estimate can depend on; default a
            relative 1e-3; 1e-6 solves all alike (:mod:`volume_lib.search.carriers`).
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` …
        memory_budget: bytes for directions and what goes with them; default a quarter of what is free.
            Samples that are mapped from a file do not count: they are read in chunks.
        progress: whether to show a bar.

    Returns:
        The :class:`Volume` of the first threshold in the largest landscape; ``.at(…)`` has the others.

    Raises:
        InputError: an argument is impossible, or model, data and loss do not fit; before long work starts.

    >>> from torch import nn
    >>> model = nn.Linear(1, 1, bias=False)
    >>> nn.init.zeros_(model.weight).requires_grad
    True
    >>> x = y = torch.ones(1, 1)      # the loss (w − 1)² is below 4 for −1 < w < 3, a "volume" of 4
    >>> volume = measure(model, x, y, loss="mse", threshold=4, scaling="none", progress=False)
    >>> bool(abs(np.exp(volume.log_volume) - 4) < 0.3)
    True
    """
    _check_counts(model, directions)
    target = resolve_device(device)
    budget = budget_of(memory_budget, target)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        given = Source(model, x, y, loss, accuracy, acc_threshold, parameters, target, budget, build)
        sizes = _sizes(landscapes, len(given.x))
        rises = None if rise is None else _numbers(rise, "rise")
        if rises and threshold != 0.1:
            raise InputError("threshold and rise: give one of them")
        thresholds = _numbers(threshold, "threshold")

        def settings(loss_thresholds: Sequence[float]) -> SweepSettings:
            asked = PerturbSettings.checked(
                num_directions=directions, loss_thresholds=list(loss_thresholds), acc_threshold=acc_threshold,
                scaling=scaling, perturbation_seed=seed, max_coefficient=max_coefficient,
                xrtol_rest=xrtol_rest,
            )  # fmt: skip
            return SweepSettings.of(asked)

        settings(rises or thresholds)
        given.ask(() if rises else thresholds)
        if rises is None:
            asked = {size: [("threshold", value, value) for value in thresholds] for size in sizes}
            groups = [sizes]
        else:  # every landscape has thresholds of its own
            own = given.own_losses(sizes)
            asked = {size: [("rise", value, own[size] + value) for value in rises] for size in sizes}
            groups = [[size] for size in sizes]
        total = directions * sum(group[-1] for group in groups)
        sweeps = []
        with (
            quiet(not progress),
            Bar(total=total, unit="sample·ray", unit_scale=True, desc=type(model).__name__) as bar,
        ):
            for group in groups:
                chosen = settings([value for *_, value in asked[group[0]]])
                sweeps += given.sweep(group, sizes, chosen, budget, bar)
    family = [
        volume for sweep in sweeps for volume in volumes_of(sweep, asked[sweep_size(sweep)], given.facts)
    ]
    for volume in family:
        volume.family, volume.source = family, given
    _warn_if_empty(family)
    return next(volume for volume in family if volume.landscape == sizes[-1])


def sweep_size(sweep: Sweep) -> int:
    """Samples of a sweep's landscape."""
    return sweep.base_dataset_size + sweep.additional_data


def _check_counts(model: Any, directions: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"model: must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(directions, int) or isinstance(directions, bool) or directions < 1:
        raise InputError(f"directions must be a whole number, 1 or more; got {directions!r}")


def _numbers(values: float | Sequence[float], name: str) -> list[float]:
    given = list(values) if isinstance(values, Sequence | np.ndarray) else [values]
    try:
        if any(isinstance(value, bool | np.bool_) for value in given):
            raise TypeError
        numbers = [float(value) for value in given]
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: must be a number or several; got {values!r}") from error
    if not numbers or not all(0 < value < np.inf for value in numbers) or len(set(numbers)) < len(numbers):
        raise InputError(f"{name}: must be positive numbers, each once; got {values!r}")
    return numbers


def _sizes(landscapes: Sequence[int] | None, available: int) -> list[int]:
    sizes = [available] if landscapes is None else list(landscapes)
    whole = all(isinstance(size, int | np.integer) and not isinstance(size, bool) for size in sizes)
    if not sizes or not whole or sizes != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] > available:
        raise InputError(
            f"landscapes: must be numbers of samples that increase within 1..{available}; got {landscapes}"
        )
    return [int(size) for size in sizes]


def _warn_if_empty(family: list[Volume]) -> None:
    for volume in family:
        if volume.criterion == "loss" and not volume.radii.radius.any():
            warnings.warn(
                f"the model's own loss over {volume.landscape:,} samples, {volume.loss:.4g}, is above the "
                f"threshold {volume.threshold:g}: no volume; rise= sets thresholds above its own loss",
                stacklevel=3,
            )
