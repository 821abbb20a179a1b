"""The experiments that come with the project: files that are read without a complaint."""

from __future__ import annotations

from pathlib import Path

import pytest

from volume_lib.experiment import read_experiment
from volume_lib.problems import get_problem, problem_names

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
FOLDERS = sorted(path.parent for path in EXPERIMENTS.glob("*/*/experiment.yaml"))


def test_every_condition_of_the_study_has_one():
    conditions = {folder.parent.name for folder in FOLDERS}
    assert conditions == {
        "low_data", "poison", "noise", "sam", "imbalanced_classes", "batch_size", "grokking"
    }  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_the_file_names_a_known_problem_whose_model_can_be_built(folder):
    experiment = read_experiment(folder)
    assert experiment.problem in problem_names()
    kwargs = dict(experiment.model)
    model_class = kwargs.pop("model_class", None)
    model = get_problem(experiment.problem).build_model(kwargs, 0, model_class)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1000


def test_the_published_mnist_setting():
    experiment = read_experiment(EXPERIMENTS / "low_data" / "mnist")
    train, perturb = experiment.train, experiment.perturb
    assert (train.base_data_size, train.epochs, train.batch_size) == (60, 500, 1000)
    assert list(train.dataset_quantities) == [0, 540, 1940, 5940, 19940, 59940]
    assert perturb.num_directions == 500 and list(perturb.loss_thresholds) == [0.02, 0.05, 0.1]
