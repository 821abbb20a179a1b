"""Models trained elsewhere become models of a run: ``python -m volume_lib import``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volume_lib import storage
from volume_lib.batch.folders import alone
from volume_lib.errors import InputError
from volume_lib.experiment.file import (
    Experiment,
    RunSeeds,
    experiment_file,
    parse_experiment,
    read_experiment,
)
from volume_lib.experiment.sections import DATASET_ARGUMENTS


def import_checkpoints(
    folder: str | Path,
    checkpoints: Mapping[int, str | Path],
    *,
    problem: str | None = None,
    model: Mapping[str, Any] | None = None,
    run: int | None = None,
) -> list[Path]:
    """Save ``checkpoints`` (level → file of weights) as the models of a run, evaluated and marked.

    Where ``folder`` has no experiment.yaml, one is written for ``problem``, its ``model`` arguments and these
    levels. ``run``: the position of the run where there are several. Returns the models' paths. Raises
    InputError for what does not fit; a model that is there is never replaced.
    """
    from volume_lib.problems.registry import get_problem  # with torch, which takes seconds to import
    from volume_lib.problems.splits import make_dataset
    from volume_lib.training.imports import import_models
    from volume_lib.training.plan import Plan

    files = {level: _found(path) for level, path in checkpoints.items()}
    path = experiment_file(folder)
    is_new = not path.exists()
    experiment = _new(path, problem, model or {}, sorted(files)) if is_new else read_experiment(folder)
    if problem is not None and problem != experiment.problem:
        raise InputError(f"--problem {problem}: {path} says {experiment.problem}")
    seeds = _choose(experiment, run)
    train = experiment.parameters("train", seeds)
    place = experiment.folder / seeds.name
    chosen = get_problem(experiment.problem, experiment.folder)
    try:
        dataset = make_dataset(chosen, **{name: train[name] for name in DATASET_ARGUMENTS})
        plan = Plan(chosen, train["model"], experiment.train)
        plan.check()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    experiment.folder.mkdir(parents=True, exist_ok=True)
    with alone(experiment, "import"):
        made = import_models(plan, dataset, seeds.model_seed, files, place / storage.MODELS_AND_DATA)
        if not (place / storage.MODELS_AND_DATA / "dataset.pt").exists():
            storage.save_dataset(place / storage.MODELS_AND_DATA, dataset)
        if is_new:
            storage.write_bytes(path, _text(problem, model or {}, sorted(files)).encode())
    return made


def _found(path: str | Path) -> Path:
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise InputError(f"--checkpoint {path}: does not exist")
    return path


def _choose(experiment: Experiment, run: int | None) -> RunSeeds:
    runs = experiment.run_seeds
    if run is None and len(runs) > 1:
        raise InputError(f"--run: the experiment has {len(runs)} runs; say which, 0 to {len(runs) - 1}")
    if not 0 <= (run or 0) < len(runs):
        raise InputError(f"--run {run}: the experiment has {len(runs)} runs, 0 to {len(runs) - 1}")
    return runs[run or 0]


def _text(problem: str | None, model: Mapping[str, Any], levels: list[int]) -> str:
    import yaml

    given = yaml.safe_dump(dict(model), default_flow_style=True, width=1000).strip()
    return (
        "# Models trained elsewhere, imported with: python -m volume_lib import\n"
        f"problem: {problem}\nmodel: {given}\n"
        "# base samples, and the levels: how many more each model was trained on\n"
        f"train: {{base_data_size: 10, dataset_quantities: {levels}}}\n"
        "perturb: {num_directions: 500, loss_thresholds: [0.1]}\n"
    )


def _new(path: Path, problem: str | None, model: Mapping[str, Any], levels: list[int]) -> Experiment:
    if problem is None:
        raise InputError(f"{path}: does not exist; give --problem NAME to begin an experiment there")
    return parse_experiment(_text(problem, model, levels), path)
