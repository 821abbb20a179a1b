"""The sweep: every minimum, along every direction, in every landscape that it belongs to.

One ``.npz`` file for each pair of a minimum and a landscape (the format is :mod:`volume_lib.storage`'s).
The work goes minimum by minimum, since one pass serves all of its landscapes, and direction by direction,
drawn again from their seeds whenever they are needed: only what the files hold grows with their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from volume_lib import storage
from volume_lib.devices import resolve_device, torch_defaults
from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.provenance import level_digest, problem_digest
from volume_lib.progress import Bar
from volume_lib.rays.directions import draw_batch, norms
from volume_lib.rays.fast import FastRays
from volume_lib.rays.losses import PlainRays
from volume_lib.rays.scaling import compute_scale, log_det
from volume_lib.records import Dataset, Sweep, TrainedModel
from volume_lib.search.crossings import Crossing, Grid
from volume_lib.search.points import Packed, Points, Target, bracket
from volume_lib.search.prediction import History
from volume_lib.section import takes
from volume_lib.sweep.check import check_models, storable
from volume_lib.sweep.section import PerturbSettings
from volume_lib.sweep.settings import SweepSettings

FIRST_BATCH, LARGEST_BATCH = 8, 256
"""Directions solved together: few at first, to learn from them, then as many as memory allows."""


@torch_defaults()
@takes(PerturbSettings)
def run_sweep(
    problem: Problem,
    models: Sequence[TrainedModel],
    dataset: Dataset,
    run_dir: str | Path = ".",
    *,
    search: str | Crossing | Grid | None = None,
    **settings: Any,
) -> list[Path]:
    """Evaluate all models along random rays in all landscapes and write one file for each pair.

    A model whose files are all there, written with the same settings from the same weights, samples and loss,
    is passed over: an interrupted sweep resumes at the first model that is not complete. Files of older
    versions do not name samples and loss: there the loss of the minimum itself must agree.

    Args:
        problem: gives the per-sample loss and accuracy.
        models: the minima; ``dataset``: their data.
        run_dir: the run's folder; files go to ``<run_dir>/<dataset_type>_<level>/``.
        num_directions: directions (500), with seeds ``perturbation_seed, perturbation_seed + 1, …``; the
            same for every model.
        loss_thresholds: losses whose first crossing is searched on every ray (0.1).
        acc_threshold: if given, the first coefficient with an accuracy below it is searched too.
        search: ``"crossing"`` (solve, to a relative 1e-6), ``"grid"`` (the plain procedure: 100
            coefficients), or a :class:`Crossing` or :class:`Grid` of your own.
        scaling: ``"filter"``, ``"none"`` or ``"curvature"`` (see :mod:`volume_lib.rays.scaling`).
        landscape_levels: landscapes to evaluate; default all ``dataset_quantities``.
        all_pairs: also evaluate models in landscapes of more data than they were trained on.
        max_coefficient: the largest coefficient tried; default 1 for the grid, 1000 for the crossing search.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …
        memory_budget: bytes for directions and their intermediate results; default a quarter of what is free.

    All but the first four are :class:`~volume_lib.sweep.section.PerturbSettings`, with its defaults.

    Returns:
        The paths of all files, in the order of models and landscapes.

    Raises:
        InputError: an argument is impossible; nothing has been computed or written then.
    """
    if isinstance(search, str):
        settings["search"], search = search, None
    asked = PerturbSettings.checked(**settings)
    wanted = SweepSettings.of(asked, search)
    device = resolve_device(asked.device)
    plan = _plan([storable(trained) for trained in models], dataset, asked.landscape_levels, asked.all_pairs)
    fresh = [
        trained
        for trained, own in plan
        if not all(path.exists() for path in _files(run_dir, dataset, trained, own))
    ]
    check_models(problem, fresh, dataset, wanted.loss_thresholds, device)
    loss_digest = problem_digest(problem)
    digests = {level: level_digest(dataset, level) for level in sorted({lv for _, own in plan for lv in own})}
    paths = []
    with _progress(plan, dataset, len(wanted.seeds)) as bar:
        for trained, own in plan:
            files = _files(run_dir, dataset, trained, own)
            bar.set_description(f"{trained.key} {trained.value}")
            made_from = {level: (digests[level], loss_digest) for level in own}
            if _are_done(files, wanted, problem, trained, dataset, made_from):
                bar.skip(len(wanted.seeds) * (dataset.base_data_size + own[-1]))
                told = "there already"
            else:
                if all(trained is not other for other in fresh):
                    check_models(problem, [trained], dataset, wanted.loss_thresholds, device)
                sweeps = sweep_model(problem, trained, dataset, own, wanted, device, asked.memory_budget, bar)
                for path, sweep in zip(files, sweeps, strict=True):
                    sweep.samples_digest, sweep.problem_digest = made_from[sweep.additional_data]
                    storage.save_sweep(path, sweep)
                told = f"{len(wanted.seeds):,} directions"
            where = "1 landscape" if len(own) == 1 else f"{len(own)} landscapes"
            bar.say(f"{trained.key} {trained.value}: {told}, in {where}")
            paths += files
    return paths


def _files(run_dir: str | Path, dataset: Dataset, trained: TrainedModel, levels: Sequence[int]) -> list[Path]:
    return [
        storage.sweep_path(run_dir, dataset.dataset_type, level, trained.key, trained.value)
        for level in levels
    ]


def levels_of(trained: TrainedModel, levels: Sequence[int], all_pairs: bool = False) -> list[int]:
    """The landscapes that a model belongs to: of no more additional data than it was trained on."""
    return [level for level in levels if all_pairs or level <= trained.additional_data]


def _plan(
    models: Sequence[TrainedModel], dataset: Dataset, wanted: Sequence[int] | None, all_pairs: bool
) -> list[tuple[TrainedModel, list[int]]]:
    """Each model with its landscapes, increasing; those with none left out."""
    levels = sorted({int(level) for level in (dataset.dataset_quantities if wanted is None else wanted)})
    available = len(dataset.x_additional)
    if not levels or levels[0] < 0 or levels[-1] > available:
        raise InputError(
            f"landscape_levels must lie within 0..{available} (the additional samples); got {wanted}"
        )
    plan = [(trained, levels_of(trained, levels, all_pairs)) for trained in models]
    plan = [(trained, own) for trained, own in plan if own]
    if not plan:
        raise InputError(
            f"landscape_levels {levels}: no model was trained on that little data; pass all_pairs=True to "
            "evaluate models in landscapes larger than their own"
        )
    return plan


def sweep_model(
    problem: Problem,
    trained: TrainedModel,
    dataset: Dataset,
    levels: Sequence[int],
    settings: SweepSettings,
    device: torch.device,
    memory_budget: float | None = None,
    bar: Bar | None = None,
) -> Iterator[Sweep]:
    """Sweep one model through its landscapes; yields one :class:`Sweep` for each level, in order.

    The records are yielded one by one, so that only one is ever in memory beside the raw numbers.
    """
    rays, limit = open_rays(problem, trained, dataset, levels, settings, device, memory_budget)
    traces, all_norms = walk(rays, limit, settings, bar)
    scale = rays.scale
    del rays  # its loaded directions make room for the records
    for level, trace in zip(levels, traces, strict=True):
        yield _record(problem, trained, dataset, level, settings, scale, trace, all_norms)
        trace.clear()


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
    own = dataset.upto(min(trained.additional_data, len(dataset.x_additional)))
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


def walk(
    rays: PlainRays | FastRays, limit: int, settings: SweepSettings, bar: Bar | None = None
) -> tuple[list[list[Packed]], list[float]]:
    """Trace all directions, ``limit`` at a time.

    Returns:
        ``(traces, norms)``: for each landscape the rays of every batch; and the norms of the unscaled
        directions.
    """
    traces: list[list[Packed]] = [[] for _ in rays.sizes]
    all_norms: list[float] = []
    history = History()
    for seeds in _batches(settings.seeds, limit):
        directions = draw_batch(seeds, len(rays.theta))
        rays.load(directions)
        batch_norms = norms(directions).numpy()
        points = settings.search.trace(rays, settings.targets, history)
        for k, landscape in enumerate(points):
            traces[k].append(landscape.packed())
        all_norms += batch_norms.tolist()
        if bar is not None:
            bar.update(len(seeds) * rays.sizes[-1])
            bar.set_postfix_str(_spread(points[-1], settings.targets[0], batch_norms))
    return traces, all_norms


def ray_records(trace: list[Packed], seeds: range, all_norms: list[float]) -> list[dict[str, Any]]:
    """One landscape's rays, as :func:`walk` traced them, as :class:`~volume_lib.records.Sweep` holds them."""
    points = (ray for batch in trace for ray in batch.rays())
    return [
        {
            "loss": loss,
            "coefficients": coefficients,
            "accs": accs,
            "perturbation_seed": seed,
            "perturbation_norm": norm,
        }
        for (coefficients, loss, accs), seed, norm in zip(points, seeds, all_norms, strict=True)
    ]


def _record(
    problem: Problem,
    trained: TrainedModel,
    dataset: Dataset,
    level: int,
    settings: SweepSettings,
    scale: Tensor,
    trace: list[Packed],
    all_norms: list[float],
) -> Sweep:
    return Sweep(
        wiggle_results=ray_records(trace, settings.seeds, all_norms),
        additional_data=level,
        model_trained_data=trained.additional_data,
        dataset_type=dataset.dataset_type,
        base_dataset_size=dataset.base_data_size,
        test_loss=trained.test_loss[-1],
        test_accs=trained.test_accs[-1],
        train_loss=trained.train_loss[-1],
        num_params=len(scale),
        state_dict=storage.arrays_of(trained.model),
        scaling=settings.scaling,
        log_det_scaling=log_det(scale),
        search=settings.search.name,
        loss_thresholds=sorted(settings.loss_thresholds),
        acc_threshold=settings.acc_threshold,
        key=trained.key,
        value=trained.value,
        loss_unit=problem.loss_unit,
    )


def budget_of(memory_budget: float | None, device: torch.device) -> float:
    """Bytes that a sweep may take: as many as are given, else a quarter of what is free."""
    if memory_budget is not None:
        return memory_budget
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return free / 4


def _batches(seeds: range, limit: int) -> Iterator[range]:
    start, size = 0, FIRST_BATCH
    while start < len(seeds):
        size = min(size, limit)
        yield seeds[start : start + size]
        start, size = start + size, size * 4


def _spread(points: Points, target: Target, batch_norms: np.ndarray) -> str:
    """Threshold radii of the batch just done, in the largest landscape: median and range."""
    _, hi = bracket(points, np.arange(len(batch_norms)), target)
    radii = (hi * batch_norms)[np.isfinite(hi)]
    if not len(radii):
        return f"no ray crossed {target.value:g}"
    return f"radius at {target.value:g}: {np.median(radii):.4g} ({radii.min():.4g} to {radii.max():.4g})"


def _progress(plan, dataset: Dataset, num_directions: int) -> Bar:
    """A bar whose unit is one ray through one sample: what the time is proportional to."""
    total = sum(num_directions * (dataset.base_data_size + levels[-1]) for _, levels in plan)
    return Bar(total=total, unit="sample·ray", unit_scale=True)


def _are_done(
    paths: Sequence[Path],
    settings: SweepSettings,
    problem: Problem,
    trained: TrainedModel,
    dataset: Dataset,
    made_from: dict[int, tuple[str, str]],
) -> bool:
    """Whether a model's files are all there, made with these settings, weights, samples and loss."""
    if not all(path.exists() for path in paths):
        return False
    try:
        sweeps = [storage.load_sweep(path) for path in paths]
    except InputError:
        return False  # damaged, or not a sweep: written again
    for sweep, origin in zip(sweeps, made_from.values(), strict=True):
        said = (sweep.samples_digest, sweep.problem_digest)
        if not settings.wrote(sweep, trained) or any(
            a not in ("", b) for a, b in zip(said, origin, strict=True)
        ):
            return False
    if all(sweep.samples_digest and sweep.problem_digest for sweep in sweeps):
        return True
    losses = _losses_at_zero(problem, trained, dataset, list(made_from))
    return all(  # an older file does not say what made it
        math.isclose(sweep.wiggle_results[0]["loss"][0], loss, rel_tol=1e-3, abs_tol=1e-6)
        for sweep, loss in zip(sweeps, losses, strict=True)
    )


def _losses_at_zero(
    problem: Problem, trained: TrainedModel, dataset: Dataset, levels: Sequence[int], chunk: int = 1000
) -> list[float]:
    """The minimum's own loss in each landscape: what every ray of its files must begin with."""
    x, y = dataset.upto(max(levels))
    with torch.no_grad():
        parts = [
            problem.per_sample_loss(trained.model(x[i : i + chunk].clone()), y[i : i + chunk]).double()
            for i in range(0, len(x), chunk)
        ]
    losses = torch.cat(parts)
    return [losses[: dataset.base_data_size + level].mean().item() for level in levels]
