"""What the files of older sweeps lack, found again from the models and from the directions' seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.parameters import flatten, moved_names, moved_shapes
from volume_lib.problems.base import Problem
from volume_lib.problems.registry import get_problem
from volume_lib.progress import Bar
from volume_lib.rays.directions import draw, norms
from volume_lib.rays.moments import Moments
from volume_lib.rays.reference import fresh_models, init_widths
from volume_lib.rays.scaling import compute_scale, log_det
from volume_lib.records import Sweep, TrainedModel
from volume_lib.storage.weights import weights_digest

_ALIKE = 1e-5
"""Relative difference of the norm that a file has of a direction and that of the one drawn again."""


def completed(sweeps: Mapping[int, Sequence[Sweep]], run_dir: str | Path = ".") -> dict[int, list[Sweep]]:
    """Sweeps by landscape with what the log mass by rays is read from, which older files lack.

    Files that have it are handed back as they are, and so are those whose models are not there any more, or
    are others. Nothing is evaluated; directions are drawn again.
    """
    every = {level: list(some) for level, some in sweeps.items()}
    lacking = [sweep for some in every.values() for sweep in some if not sweep.moved]
    if not lacking:
        return every
    models: dict[str, TrainedModel] = {}
    problem = None
    with suppress(InputError):
        loaded, dataset = storage.load_models_and_data(Path(run_dir) / storage.MODELS_AND_DATA)
        problem = get_problem(dataset.problem)
        models = {weights_digest(trained.model.state_dict()): trained for trained in loaded}
    if problem is None:
        return every
    with Bar(total=len(lacking), desc="directions of older files", unit="sweep", leave=False) as bar:
        for level, some in every.items():
            for i, sweep in enumerate(some):
                trained = models.get(weights_digest(sweep.state_dict))
                if not sweep.moved and trained is not None:
                    every[level][i] = with_moments(problem, trained, sweep)
                    bar.update(1)
    return every


def with_moments(problem: Problem, trained: TrainedModel, sweep: Sweep) -> Sweep:
    """``sweep`` with each ray's moments and the widths at initialisation, drawn again from their seeds.

    ``trained`` is the sweep's own minimum. A sweep that has them is handed back as it is, as is one whose
    scaling (``curvature``, or that of another version) or directions cannot be found again.
    """
    if sweep.moved or sweep.scaling == "curvature":
        return sweep
    model, n = trained.model, sweep.num_params
    scale, rays = compute_scale(sweep.scaling, model), sweep.wiggle_results
    determinant = log_det(scale)
    known = not math.isnan(sweep.log_det_scaling)
    if len(scale) != n or (
        known and not math.isclose(determinant, sweep.log_det_scaling, rel_tol=1e-6, abs_tol=1e-3)
    ):
        return sweep
    moments = Moments(flatten(model), scale, [shape.numel() for shape in moved_shapes(model).values()])
    found = []
    for ray in rays:
        direction = draw(ray["perturbation_seed"], n)[None]
        if not math.isclose(float(norms(direction)), ray["perturbation_norm"], rel_tol=_ALIKE):
            return sweep  # of a version that drew them in another way
        slopes, bends = moments(direction)[0]
        found.append({**ray, "slopes": slopes, "bends": bends})
    return replace(
        sweep,
        wiggle_results=found,
        moved=moved_names(model),
        init_widths=init_widths(model, fresh_models(problem, trained)),
    )
