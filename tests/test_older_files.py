"""Files of older notebooks: their keys, their names, their folders, with contents of this suite's own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.problems import get_problem
from volume_lib.storage import older
from volume_lib.volume.diagnostics import grid_resolution

# ---- models and data


def sequential(inner: list[nn.Module], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": value for name, value in nn.Sequential(*inner).state_dict().items()}


def write_models(folder: Path, model_class: str, state: dict, x_shape: tuple, *, names=("additional_0",)):
    """``models_and_data`` as the older notebooks left it: no problem, no arguments, no seeds."""
    folder.mkdir(parents=True)
    data = {
        **{f"x_{part}": torch.randn(n, *x_shape) for part, n in (("base_train", 4), ("additional", 3))},
        "y_base_train": torch.tensor([0, 1, 1, 0]), "y_additional": torch.tensor([1, 0, 1]),
        "x_test": torch.randn(5, *x_shape), "y_test": torch.tensor([0, 1, 0, 1, 1]),
        "dataset_quantities": [0, 3], "dataset_type": "data",
    }  # fmt: skip
    torch.save(data, folder / "dataset.pt")
    for name in names:
        key, _, value = name.rpartition("_")
        content = {
            "state_dict": state, "train_loss": [0.5, 0.1], "test_loss": [0.6, 0.3], "train_accs": [0.5, 1.0],
            "test_accs": [0.5, 0.8], "additional_data": int(value) if key == "additional" else 0,
            "dataset_type": "data", "model_class": model_class,
        }  # fmt: skip
        if key != "additional":
            content["batch_size"] = int(value)
        torch.save(content, folder / f"model_{name}.pt")
    return data


def test_a_swiss_roll_network_under_its_old_class_and_layer_names(tmp_path):
    torch.manual_seed(1)
    layers = [nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)]
    folder = tmp_path / "model_3_data_13" / "models_and_data"
    names = ("additional_0", "additional_3")
    data = write_models(folder, "SwissMLP", sequential(layers, "model"), (2,), names=names)
    models, dataset = storage.load_models_and_data(folder)
    assert dataset.problem == "swiss_roll" and dataset.data_seed == 13
    assert [m.value for m in models] == [0, 3] and models[0].model_seed == 3
    assert models[0].model_kwargs == {"input_dim": 2, "hidden_dims": [6, 5], "output_dim": 1}
    torch.testing.assert_close(models[0].model(data["x_test"]), nn.Sequential(*layers)(data["x_test"]))


def test_a_convolutional_network_of_several_dense_layers(tmp_path):
    torch.manual_seed(2)
    convolutions = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    convolutions += [nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Linear(5 * 8 * 8, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 10)]
    state = sequential(convolutions, "conv_layers") | sequential(dense, "fc_layers")
    data = write_models(tmp_path / "models_and_data", "CIFAR10_CNN", state, (3, 32, 32))
    (trained,), dataset = storage.load_models_and_data(tmp_path / "models_and_data")
    assert dataset.problem == "cifar10" and trained.model_class == "CNN"
    kwargs = trained.model_kwargs
    assert kwargs["channels"] == [4, 5] and kwargs["hidden_dims"] == [7, 6] and kwargs["image_size"] == 32
    x = data["x_test"]
    expected = nn.Sequential(*dense)(nn.Sequential(*convolutions)(x).flatten(1))
    torch.testing.assert_close(trained.model(x), expected)


def test_models_of_several_batch_sizes(tmp_path):
    state = sequential([nn.Linear(784, 3), nn.ReLU(), nn.Linear(3, 10)], "model")
    folder = tmp_path / "models_and_data"
    write_models(folder, "MNIST_MLP", state, (1, 28, 28), names=("batch_1000", "batch_200"))
    models, dataset = storage.load_models_and_data(folder)
    assert dataset.problem == "mnist"
    assert [(m.key, m.value) for m in models] == [("batch_size", 200), ("batch_size", 1000)]
    assert "batch_size" not in models[0].settings and models[0].additional_data == 0


def test_what_shapes_and_names_do_not_tell_is_asked_for(tmp_path):
    state = sequential([nn.Linear(784, 3), nn.ReLU(), nn.Linear(3, 10)], "model")
    folder = tmp_path / "models_and_data"
    write_models(folder, "StandardMLP", state, (1, 28, 28))
    with pytest.raises(InputError, match=r"dataset\.pt.*1×28×28.*StandardMLP.*pass problem="):
        storage.load_models_and_data(folder)
    (trained,), dataset = storage.load_models_and_data(folder, problem="fashion_mnist")
    assert dataset.problem == "fashion_mnist" and trained.problem == "fashion_mnist"
    assert trained.model_kwargs["hidden_dims"] == [3]


def test_a_network_that_is_no_chain_of_layers_is_refused_in_one_line(tmp_path):
    state = sequential([nn.Linear(784, 3), nn.Linear(4, 10)], "model")
    write_models(tmp_path / "models_and_data", "MNIST_MLP", state, (1, 28, 28))
    with pytest.raises(InputError, match="MNIST_MLP"):
        storage.load_models_and_data(tmp_path / "models_and_data")
    mnist = get_problem("mnist")
    assert older.network({"a.weight": torch.ones(2, 3)}, mnist) is None  # no bias
    big = {"c.weight": torch.ones(2, 1, 5, 5), "c.bias": torch.ones(2)}
    big |= {"d.weight": torch.ones(10, 392), "d.bias": torch.ones(10)}
    assert older.network(big, mnist) is None  # 5×5 kernels
    assert older.network({}, mnist) is None


def test_a_convolutional_network_written_with_one_hidden_dim_loads_as_it_was(tmp_path):
    problem = get_problem("mnist")
    model = problem.build_model({"channels": [2], "hidden_dims": [3]}, 0, "CNN")
    names = {"layers.0": "hidden", "layers.1": "output"}
    state = {
        f"{names.get(name.rpartition('.')[0], name.rpartition('.')[0])}.{name.rpartition('.')[2]}": value
        for name, value in model.state_dict().items()
    }
    assert "hidden.weight" in state
    folder = tmp_path / "models_and_data"
    data = write_models(folder, "CNN", state, (1, 28, 28))
    content = torch.load(folder / "model_additional_0.pt")
    old = problem.full_model_kwargs({"channels": [2]}, "CNN")
    del old["hidden_dims"]
    content |= {"model_kwargs": {**old, "hidden_dim": 3}, "problem": "mnist", "model_seed": 0}
    content["key"] = "additional"
    torch.save(content, folder / "model_additional_0.pt")
    (trained,), _ = storage.load_models_and_data(folder, problem="mnist")
    assert trained.model_kwargs == problem.full_model_kwargs({"channels": [2], "hidden_dims": [3]}, "CNN")
    assert torch.equal(trained.model(data["x_test"]), model(data["x_test"]))


# ---- test accuracies


def test_final_test_accuracies_are_test_accuracies(tmp_path):
    np.savez(tmp_path / "test_accuracies.npz", dataset_sizes=[60, 600], final_test_accuracies=[0.6, 0.85])
    sizes, accuracies = storage.load_test_accuracies(tmp_path)
    assert sizes.tolist() == [60, 600] and accuracies.tolist() == [0.6, 0.85]


# ---- what the spacing of an older grid leaves open


def test_a_grids_spacing_is_read_off_the_largest_radii():
    n, rng = 200_000, np.random.default_rng(0)
    norms = math.sqrt(n) * (1 + rng.standard_normal(60) / math.sqrt(2 * n))
    grid = np.linspace(0, 1, 100) ** 2
    radii = np.concatenate([grid[23] * norms[:3], grid[22] * norms[3:30], grid[21] * norms[30:]])
    exact = n * math.log(grid[23] / grid[22])
    # the norms within each group average to sqrt(n): the error is that of their means
    assert grid_resolution(radii, n) == pytest.approx(exact, abs=4 * n * math.sqrt(1 / 3 / (2 * n)))
    assert math.isnan(grid_resolution(grid[23] * norms, n))  # one group: no step is seen
    assert math.isnan(grid_resolution([], n)) and math.isnan(grid_resolution([0.0, 0.0], n))
