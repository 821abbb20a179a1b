"""Every shipped experiment, reduced: its data, its training, its sweep and its volumes.

Problems whose files are not there train on a stand-in of the same shape, random images.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.experiment import read_experiment
from volume_lib.problems import data_root, get_problem
from volume_lib.problems.images import ImageProblem
from volume_lib.problems.modular_arithmetic import ModularArithmeticSquared
from volume_lib.records import Data
from volume_lib.splits import make_dataset
from volume_lib.sweep import run_sweep
from volume_lib.training import train_models
from volume_lib.volume import estimate_volumes

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
FOLDERS = sorted(path.parent for path in EXPERIMENTS.glob("*/*/experiment.yaml"))
EXPECTED = {
    *(f"low_data/{name}" for name in ("swiss_roll", "mnist", "mnist_cnn", "mnist_large", "fashion_mnist")),
    *(f"low_data/{name}" for name in ("cifar10", "svhn", "shakespeare")),
    *("poison/swiss_roll", "poison/mnist", "poison/cifar10", "noise/mnist", "sam/swiss_roll", "sam/mnist"),
    *("imbalanced_classes/mnist", "batch_size/mnist", "grokking/modular_arithmetic"),
}


def test_every_condition_is_there_and_described():
    names = {f"{folder.parent.name}/{folder.name}" for folder in FOLDERS}
    assert names >= EXPECTED
    for folder in FOLDERS:
        title, empty, *lines = (folder / "README.md").read_text().rstrip().split("\n")
        assert title.startswith("# ") and not empty and (len(lines) == 3 or not lines[3])
        assert lines[2] == f"`python -m volume_lib run {folder.relative_to(EXPERIMENTS.parent)}`"


def stand_in(problem, size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * size, *problem.shape, generator=generator)
    y = torch.arange(2 * size) % problem.num_classes
    return Data(x[:size], y[:size], x[size:], y[size:])


def no_network(*args, **kwargs):
    raise OSError("no network")


@pytest.fixture(scope="module")
def loaded():
    """Each problem's data, loaded once, a few thousand samples of it; nothing is downloaded."""
    found = {}

    def load(problem):
        if problem.name not in found:
            try:
                data = problem.load()
            except InputError:
                if not isinstance(problem, ImageProblem):
                    pytest.skip(f"{problem.name} is not in {data_root()}")
                data = stand_in(problem, 500)
            parts = [data.x_train[:3000], data.y_train[:3000], data.x_test[:100], data.y_test[:100]]
            if problem.sample_kind == "sequences":
                parts = [part[:, :16] for part in parts]
            found[problem.name] = Data(*parts)
        return found[problem.name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", no_network)
        yield load


def reduced(train):
    """The section with a handful of samples and epochs; what makes its condition stays."""
    train = dict(train)
    train["base_data_size"] = 20
    train["dataset_quantities"] = [10 * i for i in range(min(3, len(train["dataset_quantities"])))]
    train["test_size"] = 30
    train["batch_size"] = min(train["batch_size"], 16)
    train["epochs"] = 3
    train["target_train_loss"] = None
    if train["vary"] is not None:
        train["values"] = list(range(1, min(3, len(train["values"])) + 1))
    return train


DATA_KEYS = ("base_data_size", "dataset_quantities", "dataset_type", "test_size")
DATA_KEYS += ("base_imbalance", "additional_imbalance", "data_seed")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_reduced_run_gives_volumes(folder, loaded, tmp_path, monkeypatch):
    experiment = read_experiment(folder)
    train = reduced(experiment.parameters("train", experiment.run_seeds[0]))
    problem = get_problem(train.pop("problem"), folder)
    data = loaded(problem)
    monkeypatch.setattr(problem, "load", lambda root=None: data)
    dataset = make_dataset(problem, **{key: train.pop(key) for key in DATA_KEYS})
    models = train_models(problem, dataset, folder=tmp_path / "models_and_data", **train)
    expected = train["values"] if train["vary"] else dataset.dataset_quantities
    assert [m.value for m in models] == list(expected)
    # the samples and settings are the condition's
    if dataset.dataset_type == "poison":
        clean = {tuple(x.flatten().tolist()): int(y) for x, y in zip(data.x_train, data.y_train, strict=True)}
        found = zip(dataset.x_additional, dataset.y_additional, strict=True)
        assert all(clean[tuple(x.flatten().tolist())] != y for x, y in found)
    assert all((m.settings["sam_rho"] > 0) == (folder.parent.name == "sam") for m in models)
    # every model of the files, in every landscape
    untrained = problem.build_model(models[0].model_kwargs, 99, models[0].model_class)
    with torch.no_grad():
        threshold = 3 * float(problem.loss(untrained(dataset.x_test), dataset.y_test)) + 1
    again, dataset = storage.load_models_and_data(tmp_path / "models_and_data")
    run_sweep(problem, again, dataset, tmp_path, num_directions=2, loss_thresholds=[threshold])
    for level, paths in storage.list_sweeps(tmp_path).items():
        results = estimate_volumes([storage.load_sweep(path) for path in paths], threshold, bootstrap=10)
        assert results["loss_landscape_data_param"] == level
        assert all(value is not None for value in results["log_exp_r_n_values"])
        assert results["num_params"] == sum(p.numel() for p in models[0].model.parameters())


class SmallTable(ModularArithmeticSquared):
    modulus = 31


def test_grokking_knows_its_pairs_long_before_it_generalises_and_its_volume_grows(tmp_path):
    """The shipped experiment on a smaller table: minutes become seconds."""
    problem = SmallTable()
    train = read_experiment(EXPERIMENTS / "grokking" / "modular_arithmetic").train
    dataset = make_dataset(problem, base_data_size=540, dataset_quantities=[0], data_seed=10)
    lengths = train_models(
        problem, dataset, folder=tmp_path / "models_and_data", model={"hidden_dims": [128]}, model_seed=0,
        optimizer=train.optimizer, learning_rate=train.learning_rate, weight_decay=train.weight_decay,
        batch_size=540, epochs=600, vary="epochs", values=[80, 150, 300, 600],
    )  # fmt: skip
    last = lengths[-1]
    knows = next(i for i, accuracy in enumerate(last.train_accs) if accuracy == 1)
    generalises = next(i for i, accuracy in enumerate(last.test_accs) if accuracy > 0.95)
    assert generalises > 3 * knows
    assert lengths[0].train_accs[-1] == 1 and lengths[0].test_accs[-1] < 0.2
    assert last.test_accs[-1] > 0.99
    run_sweep(problem, lengths, dataset, tmp_path, num_directions=10, loss_thresholds=[0.5])
    sweeps = [storage.load_sweep(path) for path in storage.list_sweeps(tmp_path)[0]]
    results = estimate_volumes(sweeps, 0.5, bootstrap=10)
    assert results["key"] == "epochs" and results["key_values"] == [80, 150, 300, 600]
    for key in ("log_exp_r_n_values", "log_volume_values"):
        assert results[key] == sorted(results[key])
