"""The evaluator of rays that a sweep's search wants, within the memory that it may take."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch
from torch import Tensor, nn

from volume_lib.problems.base import Problem
from volume_lib.rays.fast import FastRays
from volume_lib.rays.losses import PlainRays
from volume_lib.rays.scaling import compute_scale
from volume_lib.records import Dataset, TrainedModel
from volume_lib.search.crossings import Grid
from volume_lib.sweep.settings import SweepSettings
from volume_lib.sweep.walk import LARGEST_BATCH


def open_rays(
    problem: Problem,
    trained: TrainedModel,
    dataset: Dataset,
    levels: Sequence[int],
    settings: SweepSettings,
    device: torch.device,
    memory_budget: float | None = None,
) -> tuple[PlainRays | FastRays, int]:
    """The evaluator that the search wants, and how many directions may be loaded into it together."""
    x, y = dataset.upto(levels[-1])
    sizes = [dataset.base_data_size + level for level in levels]
    own = dataset.upto(min(trained.level, len(dataset.x_additional)))
    return rays_of(problem, trained.model, (x, y), sizes, settings, device, memory_budget, own)


def rays_of(
    problem: Problem,
    model: nn.Module,
    samples: tuple[Tensor, Tensor],
    sizes: Sequence[int],
    settings: SweepSettings,
    device: torch.device,
    memory_budget: float | None = None,
    own: tuple[Tensor, Tensor] | None = None,
) -> tuple[PlainRays | FastRays, int]:
    """:func:`open_rays` of any network: ``samples`` are inputs and targets of the largest of the nested
    landscapes ``sizes``; ``own`` those that a scaling by curvature is to fit, if other than these."""
    x, y = samples
    scale = compute_scale(settings.scaling, model, problem, *(own or samples))
    budget = budget_of(memory_budget, device)
    if isinstance(settings.search, Grid):
        rays = PlainRays(problem, model, x, y, sizes, scale, device, settings.loss_thresholds)
        return rays, min(LARGEST_BATCH, 1 + int(budget // (8 * len(scale))))
    rays = FastRays(problem, model, x, y, sizes, scale, device, budget, thresholds=settings.loss_thresholds)
    return rays, min(LARGEST_BATCH, rays.max_rows)


def budget_of(memory_budget: float | None, device: torch.device) -> float:
    """Bytes that a sweep may take: as many as are given, else a quarter of what is free."""
    if memory_budget is not None:
        return memory_budget
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return free / 4
