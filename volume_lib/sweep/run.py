"""The sweep: every minimum, along every direction, in every landscape that it belongs to.

One ``.npz`` file for each pair of a minimum and a landscape (the format is :mod:`volume_lib.storage`'s).
The work goes minimum by minimum, since one pass serves all of its landscapes, and direction by direction,
drawn again from their seeds whenever they are needed: only what the files hold grows with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from volume_lib import storage
from volume_lib.devices import resolve_device, torch_defaults
from volume_lib.errors import InputError
from volume_lib.parameters import moved_names
from volume_lib.problems.base import Problem
from volume_lib.problems.label_noise import check_landscapes
from volume_lib.problems.provenance import level_digest, problem_digest
from volume_lib.progress import Bar
from volume_lib.rays.reference import fresh_models, init_widths
from volume_lib.rays.scaling import log_det
from volume_lib.records import Dataset, Sweep, TrainedModel
from volume_lib.search.crossings import Crossing, Grid
from volume_lib.section import takes
from volume_lib.sweep.check import check_models, storable
from volume_lib.sweep.done import are_done, batches_made_from
from volume_lib.sweep.evaluator import open_rays
from volume_lib.sweep.section import PerturbSettings
from volume_lib.sweep.settings import SweepSettings
from volume_lib.sweep.walk import Keep, walk


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
    is passed over, and of a model that was interrupted the batches of directions that were done: what is lost
    is the batch in hand. Files of older versions do not name samples and loss: there the loss of the minimum
    itself must agree.

    Args:
        problem: gives the per-sample loss and accuracy.
        models: the minima; ``dataset``: their data.
        run_dir: the run's folder; files go to ``<run_dir>/<dataset_type>_<level>/``.
        num_directions: directions (500), with seeds ``perturbation_seed, perturbation_seed + 1, …``; the
            same for every model.
        loss_thresholds: losses whose first crossing is searched on every ray (0.1).
        acc_threshold: if given, the first coefficient with an accuracy below it is searched too.
        search: ``"crossing"`` (solve, to a relative 1e-6 where a mean can depend on it), ``"grid"`` (the
            plain procedure: 100 coefficients), or a :class:`Crossing` or :class:`Grid` of your own.
        scaling: ``"filter"``, ``"none"`` or ``"curvature"`` (see :mod:`volume_lib.rays.scaling`).
        landscape_levels: landscapes to evaluate; default all ``dataset_quantities``.
        all_pairs: also evaluate models in landscapes of more data than they were trained on.
        max_coefficient: the largest coefficient tried; default 1 for the grid, 1000 for the crossing search.
        xrtol_rest: the relative width of the brackets of rays that cannot carry a mean (see
            :mod:`volume_lib.search.carriers`); default 1e-3; 1e-6 solves all alike.
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
    check_landscapes(models, asked.landscape_levels)
    work = _landscapes_of(
        [storable(trained) for trained in models], dataset, asked.landscape_levels, asked.all_pairs
    )
    fresh = [
        trained
        for trained, own in work
        if not all(path.exists() for path in _files(run_dir, dataset, trained, own))
    ]
    check_models(problem, fresh, dataset, wanted.loss_thresholds, device)
    loss_digest = problem_digest(problem)
    digests = {level: level_digest(dataset, level) for level in sorted({lv for _, own in work for lv in own})}
    paths = []
    with _progress(work, dataset, len(wanted.seeds)) as bar:
        for trained, own in work:
            files = _files(run_dir, dataset, trained, own)
            bar.set_description(f"{trained.key} {trained.value}")
            made_from = {level: (digests[level], loss_digest) for level in own}
            partials = storage.partial_dir(run_dir, dataset.dataset_type, trained.key, trained.value)
            if are_done(files, wanted, problem, trained, dataset, made_from):
                bar.skip(len(wanted.seeds) * (dataset.base_data_size + own[-1]))
                told = "there already"
            else:
                if all(trained is not other for other in fresh):
                    check_models(problem, [trained], dataset, wanted.loss_thresholds, device)
                keep = Keep(partials, batches_made_from(wanted, trained, made_from, device))
                sweeps = sweep_model(
                    problem, trained, dataset, own, wanted, device, asked.memory_budget, bar, keep
                )
                for path, sweep in zip(files, sweeps, strict=True):
                    sweep.samples_digest, sweep.problem_digest = made_from[sweep.additional_data]
                    storage.save_sweep(path, sweep)
                told = f"{len(wanted.seeds):,} directions"
            storage.remove_partials(partials)
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
    return [level for level in levels if all_pairs or level <= trained.level]


def _landscapes_of(
    models: Sequence[TrainedModel], dataset: Dataset, wanted: Sequence[int] | None, all_pairs: bool
) -> list[tuple[TrainedModel, list[int]]]:
    """Each model with its landscapes, increasing; those with none left out."""
    levels = sorted({int(level) for level in (dataset.dataset_quantities if wanted is None else wanted)})
    available = len(dataset.x_additional)
    if not levels or levels[0] < 0 or levels[-1] > available:
        raise InputError(
            f"landscape_levels must lie within 0..{available} (the additional samples); got {wanted}"
        )
    work = [(trained, levels_of(trained, levels, all_pairs)) for trained in models]
    work = [(trained, own) for trained, own in work if own]
    if not work:
        raise InputError(
            f"landscape_levels {levels}: no model was trained on that little data; pass all_pairs=True to "
            "evaluate models in landscapes larger than their own"
        )
    return work


def sweep_model(
    problem: Problem,
    trained: TrainedModel,
    dataset: Dataset,
    levels: Sequence[int],
    settings: SweepSettings,
    device: torch.device,
    memory_budget: float | None = None,
    bar: Bar | None = None,
    keep: Keep | None = None,
) -> Iterator[Sweep]:
    """Sweep one model through its landscapes; yields one :class:`Sweep` for each level, in order.

    The records are yielded one by one, so that only one is ever in memory beside the raw numbers.
    """
    rays, limit = open_rays(problem, trained, dataset, levels, settings, device, memory_budget)
    walked = walk(rays, limit, settings, bar, keep)
    scale, widths = rays.scale, init_widths(trained.model, fresh_models(problem, trained))
    del rays  # its loaded directions make room for the records
    for k, level in enumerate(levels):
        records = walked.records(k, settings.seeds)
        yield _record(problem, trained, dataset, level, settings, scale, widths, records)


def _record(
    problem: Problem,
    trained: TrainedModel,
    dataset: Dataset,
    level: int,
    settings: SweepSettings,
    scale: Tensor,
    widths: list[float],
    records: list[dict[str, Any]],
) -> Sweep:
    return Sweep(
        wiggle_results=records,
        additional_data=level,
        model_trained_data=trained.level,
        dataset_type=dataset.dataset_type,
        base_dataset_size=dataset.base_data_size,
        test_loss=trained.test_loss[-1],
        test_accs=trained.test_accs[-1],
        train_loss=trained.train_loss[-1],
        num_params=len(scale),
        state_dict=storage.arrays_of(trained.model),
        moved=moved_names(trained.model),
        init_widths=widths,
        scaling=settings.scaling,
        log_det_scaling=log_det(scale),
        search=settings.search.name,
        loss_thresholds=sorted(settings.loss_thresholds),
        acc_threshold=settings.acc_threshold,
        key=trained.key,
        value=trained.value,
        loss_unit=problem.loss_unit,
    )


def _progress(work: Sequence[tuple[TrainedModel, list[int]]], dataset: Dataset, num_directions: int) -> Bar:
    """A bar whose unit is one ray through one sample: what the time is proportional to."""
    total = sum(num_directions * (dataset.base_data_size + levels[-1]) for _, levels in work)
    return Bar(total=total, unit="sample·ray", unit_scale=True)
