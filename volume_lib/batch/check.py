"""Does what an experiment asks for exist? Its model and its data set are built before anything runs."""

from __future__ import annotations

from volume_lib.errors import InputError
from volume_lib.experiment.file import FILE_NAME, Experiment
from volume_lib.experiment.sections import DATASET_ARGUMENTS


def check_against_data(experiment: Experiment) -> None:
    """Build the first run's model and data set, so that what cannot be is told before anything runs."""
    from volume_lib.problems.registry import get_problem  # with torch, which takes seconds to import
    from volume_lib.problems.splits import make_dataset
    from volume_lib.training.plan import Plan

    path = experiment.folder / FILE_NAME
    train = experiment.parameters("train", experiment.run_seeds[0])
    try:
        problem = get_problem(experiment.problem, experiment.folder)
        arguments = dict(experiment.model)
        problem.build_model(arguments, train["model_seed"], arguments.pop("model_class", None))
        Plan(problem, experiment.model, experiment.train).check()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    problem.checked_data()  # a missing data set speaks for itself
    try:
        make_dataset(problem, **{name: train[name] for name in DATASET_ARGUMENTS})
    except InputError as error:
        raise InputError(f"{path}: train.{error}") from error
