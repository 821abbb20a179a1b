"""Files of older notebooks: their keys, their names, their folders, with contents of this suite's own."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from older_experiment import LEVELS, by_data, write_cutoffs, write_experiment, write_results
from torch import nn

from volume_lib import analysis, plots, storage
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
    assert "batch_size" not in models[0].settings and models[0].level == 0


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


# ---- results of a whole experiment


@pytest.fixture
def low_data(tmp_path):
    """Three runs of an older low-data experiment: 20 base samples, which only cutoffs.json says."""
    return write_experiment(tmp_path / "low data")


def test_an_older_experiment_reads_digit_for_digit(low_data):
    experiment = analysis.load_experiment(low_data)
    assert experiment.key == "additional" and experiment.minima == experiment.landscapes == LEVELS
    assert experiment.minima_sizes.tolist() == [20, 50, 350]
    expected = [[by_data(seed, m) for m in LEVELS] for seed in range(3)]
    assert experiment.matrix("log_exp_r_n", 0).tolist() == expected
    assert experiment.matrix("test_loss", 0)[1].tolist() == [2.0, 2 / 31, 2 / 331]
    assert experiment.matrix("test_acc", 0)[1].tolist() == pytest.approx([0.61, 0.71, 0.81])
    for landscape in (None, analysis.OWN):
        fit = analysis.scaling_law(experiment, landscape)
        assert fit.exponent == pytest.approx(-7, abs=1e-9) and fit.left_out == []
    table = analysis.write_summary(experiment).read_text()
    assert repr(by_data(2, 330)) in table


@pytest.mark.parametrize("key, values", [("batch_size", [100, 200, 6000]), ("epochs", [250, 4000])])
def test_values_that_belong_to_no_landscape_are_no_amounts_of_data(tmp_path, key, values):
    """A batch-size or grokking study: one landscape of +0, no key; its values were taken for samples."""
    for seed in range(2):
        run = tmp_path / f"model_{seed}_data_{seed + 10}"
        write_results(run, 0, values, [50.0 + seed - math.log(v) for v in values])
        write_cutoffs(run, [0], 6000)
    experiment = analysis.load_experiment(tmp_path)
    assert experiment.key == "unknown" and not experiment.counts_training_data
    assert experiment.minima_sizes.tolist() == values
    assert set(experiment.table["train_size"]) == {6000}
    assert "give key, as 'batch_size'" in experiment.describe()
    with pytest.raises(InputError, match="needs minima that differ in data"):
        analysis.scaling_law(experiment)
    told = analysis.load_experiment(tmp_path, key=key)
    assert told.key == key and not told.remarks[:-1]
    with pytest.raises(InputError, match=f"differ in {key}"):
        analysis.scaling_law(told)
    assert plots.volume_against_data(told).get_xlabel() == plots.data_label(key)
    assert "values" in plots.volume_against_data(experiment).get_xlabel()


def test_a_key_that_the_files_contradict_is_refused(low_data):
    path = write_results(low_data / "model_0_data_10", 0, LEVELS, [3.0, 2.0, 1.0], key="additional")
    with pytest.raises(InputError, match="key 'epochs', but the files say that additional varies"):
        analysis.load_experiment(low_data, key="epochs")
    path.write_text(path.read_text().replace('"key": "additional"', '"key": "epochs"'))
    write_results(low_data / "model_1_data_11", 0, LEVELS, [3.0, 2.0, 1.0], key="additional")
    with pytest.raises(InputError, match="additional and epochs"):
        analysis.load_experiment(low_data)


def test_without_the_base_samples_there_is_no_power_law(low_data):
    for path in low_data.glob("*/cutoffs/cutoffs.json"):
        path.unlink()
    experiment = analysis.load_experiment(low_data)
    assert experiment.minima_sizes.tolist() == LEVELS and "give base_size" in experiment.describe()
    with pytest.raises(InputError, match="base_size"):
        analysis.scaling_law(experiment)
    told = analysis.load_experiment(low_data, base_size=20)
    assert analysis.scaling_law(told).exponent == pytest.approx(-7, abs=1e-9)
    assert told.landscape_sizes.tolist() == [20, 50, 350]


def test_a_base_size_that_the_files_contradict_is_refused_and_an_odd_run_is_named(low_data):
    with pytest.raises(InputError, match="base_size 50, but the files say 20"):
        analysis.load_experiment(low_data, base_size=50)
    path = low_data / "model_2_data_12" / "cutoffs" / "cutoffs.json"
    path.write_text(path.read_text().replace('"base_train_size": 20', '"base_train_size": 60'))
    experiment = analysis.load_experiment(low_data)
    assert experiment.left_out == {"model_2_data_12": "its base data are 60 samples, those of the others 20"}


def test_landscapes_at_the_top_of_an_experiment_are_a_run(low_data):
    for landscape in LEVELS:
        levels = [m for m in LEVELS if m >= landscape]
        write_results(low_data, landscape, levels, [by_data(5, m) for m in levels])
    write_cutoffs(low_data, LEVELS, 20)
    experiment = analysis.load_experiment(low_data)
    assert experiment.runs[0] == "low data" and len(experiment.runs) == 4
    assert experiment.matrix("log_exp_r_n", 0)[0].tolist() == [by_data(5, m) for m in LEVELS]
    alone = analysis.load_experiment(low_data / "model_1_data_11")
    assert alone.runs == ["model_1_data_11"]
    assert (alone.table["model_seed"][0], alone.table["data_seed"][0]) == (1, 11)


def test_a_threshold_written_with_a_point_is_the_same_threshold(tmp_path):
    write_results(tmp_path / "model_0_data_0", 0, [0, 3], [2.0, 1.0], threshold="loss_1.0")
    write_results(tmp_path / "model_1_data_1", 0, [0, 3], [2.5, 1.0], threshold="loss_1")
    for threshold in (1, 1.0, None):
        assert len(analysis.load_experiment(tmp_path, threshold).runs) == 2


def test_no_crossing_is_no_missing_volume(low_data):
    """−Infinity for a network well below the threshold: older notebooks left uncrossed directions out."""
    run = low_data / "model_0_data_10"
    write_results(run, 0, LEVELS, [-math.inf, by_data(0, 30), -math.inf], train_loss_values=[0.01, 0.01, 0.4])
    experiment = analysis.load_experiment(low_data)
    values = experiment.matrix("log_exp_r_n", 0)[0]
    assert math.isnan(values[0]) and values[1] == by_data(0, 30) and values[2] == -math.inf
    assert "no direction crossed the threshold" in experiment.notes[run.name]
    # the volumes by accuracy are −Infinity throughout: nothing is told, and nothing is drawn as no volume
    assert np.isnan(experiment.table["log_exp_r_n_acc"]).all()
    assert any("accuracy" in remark for remark in experiment.remarks)


def test_the_uncertainty_figure_shows_the_grids_spacing(low_data):
    experiment = analysis.load_experiment(low_data)
    # radii of 20 and 19.99, then 18 and 17.99: one step of the grid, times 100,000 parameters
    spacing = 1e5 * (math.log(20 * 19.99) - math.log(18 * 17.99)) / 2
    assert experiment.matrix("resolution", 0).ravel() == pytest.approx([spacing] * 9)
    ax = plots.uncertainty(experiment)
    (line,) = [line for line in ax.lines if line.get_label().startswith("coefficient spacing")]
    assert line.get_ydata() == pytest.approx([spacing] * 3)


def test_a_run_under_two_names_and_seeds_of_other_levels_are_named(low_data):
    shutil.copytree(low_data / "model_0_data_10", low_data / "model_7_data_17")
    for landscape in (0, 30):
        shutil.rmtree(low_data / "model_2_data_12" / f"data_{landscape}")
        levels = [m for m in (0, 30) if m >= landscape]
        write_results(low_data / "model_2_data_12", landscape, levels, [1.0 + m for m in levels])
    shutil.rmtree(low_data / "model_2_data_12" / "data_330")
    experiment = analysis.load_experiment(low_data)
    assert "the same numbers as model_0_data_10" in experiment.notes["model_7_data_17"]
    assert "never had the minima 330, which others have" in experiment.notes["model_2_data_12"]
