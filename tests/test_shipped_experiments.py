"""The experiments that come with the project: files that are read without a complaint."""

from __future__ import annotations

from pathlib import Path

import pytest

from volume_lib.experiment.file import read_experiment
from volume_lib.problems import get_problem, is_shipped
from volume_lib.problems.image_folder import ImageFolder

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
FOLDERS = sorted(path.parent for path in EXPERIMENTS.glob("*/*/experiment.yaml"))


@pytest.fixture(autouse=True)
def ten_classes(monkeypatch):
    """A folder of images knows its classes only where it lies."""
    monkeypatch.setattr(ImageFolder, "class_names", tuple("0123456789"))


def test_every_condition_of_the_study_has_one():
    conditions = {folder.parent.name for folder in FOLDERS}
    assert conditions == {
        "low_data", "poison", "noise", "sam", "imbalanced_classes", "batch_size", "grokking"
    }  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_the_file_names_a_known_problem_whose_model_can_be_built(folder):
    experiment = read_experiment(folder)
    assert is_shipped(experiment.problem)
    kwargs = dict(experiment.model)
    model_class = kwargs.pop("model_class", None)
    model = get_problem(experiment.problem).build_model(kwargs, 0, model_class)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1000


def published(name):
    experiment = read_experiment(EXPERIMENTS / name)
    return experiment, experiment.train


def test_the_published_mnist_setting():
    experiment, train = published("low_data/mnist")
    assert (train.base_data_size, train.epochs, train.batch_size) == (60, 500, 1000)
    assert train.dataset_quantities == [0, 540, 1940, 5940, 19940, 59940]
    assert experiment.model == {"hidden_dims": [256, 128]}
    assert experiment.perturb.num_directions == 500
    assert experiment.perturb.loss_thresholds == [0.02, 0.05, 0.1]


def test_the_published_batch_sizes():
    experiment, train = published("batch_size/mnist")
    assert (train.vary, train.values) == ("batch_size", [100, 200, 500, 1000, 6000])
    assert (train.base_data_size, train.dataset_quantities) == (6000, [0])
    assert experiment.model == {"hidden_dims": [256, 128]}


def test_the_published_cifar_settings():
    experiment, train = published("low_data/cifar10")
    assert (train.base_data_size, train.epochs) == (50, 200)
    assert train.dataset_quantities == [0, 450, 1950, 4950, 19950, 49950]
    poison, poisoned = published("poison/cifar10")
    assert (poisoned.base_data_size, poisoned.dataset_type, poisoned.epochs) == (5000, "poison", 200)
    assert experiment.model == poison.model == {"hidden_dims": [512, 256]}


def test_only_the_conditions_that_ask_for_them_have_sam_and_imbalance():
    for folder in FOLDERS:
        train, condition = read_experiment(folder).train, folder.parent.name
        assert (train.sam_rho > 0) == (condition == "sam")
        imbalances = (train.additional_imbalance, train.base_imbalance)
        assert any(imbalances) == (condition == "imbalanced_classes") and not all(imbalances)
        kind = condition if condition in ("poison", "noise") else "data"
        assert train.dataset_type == kind


def test_the_published_settings_beside_the_first_ones():
    experiment, train = published("batch_size/mnist_published")
    assert train.values == [100, 200, 500, 1000, 3000, 6000] and train.base_data_size == 6000
    assert experiment.perturb.loss_thresholds == [0.002, 0.005, 0.01]
    experiment, train = published("low_data/modular_arithmetic")
    pairs = [train.base_data_size + level for level in train.dataset_quantities]
    assert [round(100 * count / 97**2) for count in pairs] == [2, 5, 10, 20, 30, 35, 40, 50, 60, 70]
    for share in (29, 30, 31, 32):
        experiment, train = published(f"grokking/modular_97_{share}")
        assert round(100 * train.base_data_size / 97**2, 1) == share
        assert experiment.problem == get_problem(experiment.problem).name
    sizes = {"low_data/cifar10_cnn": 1_276_234, "low_data/shakespeare_large": 10_745_088}
    sizes |= {"low_data/modular_arithmetic": 73_097, "low_data/swiss_roll_published": 4_353}
    for name, count in sizes.items():
        experiment, _ = published(name)
        kwargs = dict(experiment.model)
        model_class = kwargs.pop("model_class", None)
        model = get_problem(experiment.problem).build_model(kwargs, 0, model_class)
        assert sum(parameter.numel() for parameter in model.parameters()) == count
        assert f"{count:,}" in (EXPERIMENTS / name / "README.md").read_text()
    assert published("low_data/mnist_unscaled")[0].perturb.scaling == "none"
    for base in (5000, 6000, 10_000):
        assert published(f"poison/mnist_{base}")[1].base_data_size == base


PUBLISHED = {
    "low_data": [
        *("cifar10", "cifar10_cnn", "fashion_mnist", "mnist", "mnist_cnn", "mnist_unscaled", "svhn"),
        *("modular_arithmetic", "shakespeare_large", "swiss_roll_published"),
    ],
    "poison": ["cifar10", "mnist_5000", "mnist_6000", "mnist_10000"],
    "sam": ["cifar10", "mnist"],
    "imbalanced_classes": ["cifar10", "cifar10_to_balanced", "mnist", "mnist_to_balanced"],
    "batch_size": ["mnist_published"],
    "grokking": [f"modular_97_{share}" for share in (29, 30, 31, 32)],
}


@pytest.mark.parametrize("name", [f"{kind}/{one}" for kind, names in PUBLISHED.items() for one in names])
def test_each_published_condition_says_what_is_published_about_it(name):
    assert "ublished" in (EXPERIMENTS / name / "README.md").read_text(encoding="utf-8")
