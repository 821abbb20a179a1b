"""Studies in which something else than the amount of data varies: any number of the training or network."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import torch

from volume_lib import analysis, plots, storage
from volume_lib.analysis.loading import load_experiment
from volume_lib.cutoffs import loss_against_data
from volume_lib.errors import InputError
from volume_lib.experiment.file import parse_experiment
from volume_lib.problems import get_problem
from volume_lib.problems.splits import make_dataset
from volume_lib.sweep.run import run_sweep
from volume_lib.training.runs import train_models
from volume_lib.volume.estimate import estimate_volumes

PROBLEM = get_problem("swiss_roll")
USUAL = {"model_seed": 0, "epochs": 12, "batch_size": 8, "target_train_loss": None}


def data(**changes):
    sizes = {"base_data_size": 20, "dataset_quantities": [0], "data_seed": 1, "test_size": 50}
    return make_dataset(PROBLEM, **sizes | changes)


def train(folder, **changes):
    return train_models(PROBLEM, data(), folder=folder, **{"model": {"hidden_dims": [6]}} | USUAL | changes)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("vary", "values", "names"),
    [
        ("learning_rate", [1e-05, 0.001, 0.02], ["1e-05", "0.001", "0.02"]),
        ("sam_rho", [0, 0.05, 0.2], ["0", "0.05", "0.2"]),
        ("weight_decay", [0.0, 0.1, 1.0], ["0", "0.1", "1"]),
        ("batch_size", [5, 20], ["5", "20"]),
    ],
)
def test_each_model_is_that_of_a_training_with_its_value(tmp_path, vary, values, names):
    models = train(tmp_path / "all", vary=vary, values=values)
    there = sorted(path.name for path in (tmp_path / "all").glob("model_*"))
    assert there == sorted(f"model_{vary}_{name}.pt" for name in names)
    for value, trained in zip(values, models, strict=True):
        (alone,) = train(tmp_path / f"{value}", **{vary: value})
        torch.testing.assert_close(weights(trained.model), weights(alone.model), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights(models[0].model), weights(models[-1].model), atol=1e-4)
    loaded, _ = storage.load_models_and_data(tmp_path / "all", PROBLEM)
    assert [(m.key, m.value) for m in loaded] == [(vary, value) for value in values]
    assert all(vary not in m.settings for m in loaded)


def test_a_target_of_the_loss_varies(tmp_path):
    ends = {"vary": "target_train_loss", "values": [0.2, 0.5], "epochs": 3000, "learning_rate": 0.02}
    tight, loose = train(tmp_path, **ends, model={"hidden_dims": [30]})
    assert tight.train_loss[-1] <= 0.2 < loose.train_loss[-1] <= 0.5
    assert len(tight.train_loss) > len(loose.train_loss)


def test_what_is_there_is_not_trained_again_and_a_new_value_is(tmp_path):
    train(tmp_path, vary="learning_rate", values=[0.001, 0.01])
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("model_*")}
    train(tmp_path, vary="learning_rate", values=[0.001, 0.005, 0.01])
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("model_*")}
    assert after.items() > before.items() and len(after) == 3


# ---- widths: networks of several sizes, from training to the analysis

WIDTHS = [3, 5, 9]


@pytest.fixture(scope="module")
def widths(tmp_path_factory):
    """Two runs that vary the width, trained, swept, measured."""
    folder = tmp_path_factory.mktemp("widths")
    for seed in (0, 1):
        run = folder / f"model_{seed}_data_1"
        models = train(
            run / "models_and_data", model_seed=seed, vary="model.hidden_dims", values=WIDTHS,
            model={"hidden_dims": [4, 4]}, epochs=150, learning_rate=0.02,
        )  # fmt: skip
        run_sweep(PROBLEM, models, data(), run, num_directions=15, loss_thresholds=[0.9])
        sweeps = [storage.load_sweep(path) for path in storage.list_sweeps(run)[0]]
        storage.save_results(storage.results_path(run, "data", 0, 0.9), estimate_volumes(sweeps, 0.9))
    return folder


def test_every_width_has_its_own_number_of_parameters(widths):
    run = widths / "model_0_data_1"
    models, _ = storage.load_models_and_data(run / "models_and_data", PROBLEM)
    outputs = models[0].model_kwargs["output_dim"]
    sizes = [3 * w + (w + 1) * w + (w + 1) * outputs for w in WIDTHS]
    assert [m.model_kwargs["hidden_dims"] for m in models] == [[w, w] for w in WIDTHS]
    assert [len(weights(m.model)) for m in models] == sizes
    names = [path.name for path in storage.list_sweeps(run)[0]]
    assert names == [f"hidden_dims_{w}.npz" for w in WIDTHS]
    results = storage.load_results(storage.results_path(run, "data", 0, 0.9))
    assert results["num_params_values"] == sizes and results["key_values"] == WIDTHS
    # from the radii alone: log of the mean of r^n, and the determinant and ball of that n
    for i, n in enumerate(sizes):
        sweep = storage.load_sweep(storage.sweep_path(run, "data", 0, "hidden_dims", WIDTHS[i]))
        from volume_lib.volume.radii import threshold_radii

        r = threshold_radii(sweep, 0.9).radius
        expected = math.log(np.mean((r / r.max()) ** n)) + n * math.log(r.max())
        assert results["log_exp_r_n_values"][i] == pytest.approx(expected, rel=1e-9)
        ball = n / 2 * math.log(math.pi) - math.lgamma(n / 2 + 1)
        assert results["log_volume_values"][i] == pytest.approx(expected + ball + sweep.log_det_scaling)


def test_the_analysis_follows_in_tables_words_and_axes(widths):
    experiment = load_experiment(widths)
    assert experiment.key == "hidden_dims" and experiment.minima == WIDTHS and len(experiment.runs) == 2
    assert "minima, hidden dims: 3, 5, 9" in experiment.describe()
    assert len(set(experiment.table["num_params"])) == 3
    ax = plots.volume_against_data(experiment)
    assert ax.get_xlabel() == "width of the hidden layers"
    with pytest.raises(InputError, match="these differ in hidden_dims"):
        analysis.scaling_law(experiment)


def test_values_that_are_no_whole_numbers_go_all_the_way(tmp_path):
    values = [0.001, 0.02]
    run = tmp_path / "model_0_data_1"
    models = train(run / "models_and_data", vary="learning_rate", values=values, epochs=40)
    run_sweep(PROBLEM, models, data(), run, num_directions=5, loss_thresholds=[1.5])
    sweeps = [storage.load_sweep(path) for path in storage.list_sweeps(run)[0]]
    assert [s.value for s in sweeps] == values
    storage.save_results(storage.results_path(run, "data", 0, 1.5), estimate_volumes(sweeps, 1.5))
    storage.save_cutoffs(run, loss_against_data(PROBLEM, models, data()))
    experiment = load_experiment(tmp_path)
    assert experiment.key == "learning_rate" and experiment.minima == values
    assert not np.isnan(experiment.matrix("cutoff", 0)).any() and "cutoffs" not in experiment.describe()
    with open(analysis.write_summary(experiment)) as file:
        assert [row["minimum"] for row in csv.DictReader(file)] == ["0.001", "0.02"]
    ax = plots.volume_against_data(experiment)
    assert ax.get_xlabel() == "learning rate" and ax.get_xscale() == "log"
    known = {path.name for step in ("train", "perturb") for path in storage.list_outputs(run, step)}
    assert {"model_learning_rate_0.001.pt", "learning_rate_0.02.npz"} <= known  # so that they are cleaned up


# ---- experiment.yaml


def test_an_experiment_says_what_varies():
    text = "problem: swiss_roll\ntrain: {vary: sam_rho, values: [0.0, 0.05], sam_adaptive: false}"
    assert parse_experiment(text).parameters("train")["values"] == [0, 0.05]
    train = parse_experiment("problem: mnist\ntrain: {vary: model.hidden_dims, values: [16, 64]}").train
    assert train.key == "hidden_dims" and train.argument == "hidden_dims"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"vary": "optimizer", "values": [1]},
            "vary: 'optimizer' is no number that could vary; one of epochs",
        ),
        ({"vary": "learning_rat", "values": [1]}, 'did you mean "learning_rate"'),
        ({"vary": "learning_rate", "values": [0, 0.1]}, "values: learning_rate: 0 must be above 0"),
        ({"vary": "batch_size", "values": [0.5, 2]}, "values: batch_size: 0.5 must be a whole number"),
        ({"vary": "sam_rho", "values": [-1, 2]}, r"values\[0\]: -1 must be 0 or more"),
        ({"vary": "model.hidden_dim", "values": [2]}, 'no such argument .did you mean "hidden_dims"'),
        ({"vary": "model.hidden_dims", "values": [0, 2]}, "hidden_dims"),
        ({"vary": "model.hidden_dims", "values": [1.5]}, "hidden_dims"),
        ({"vary": "model.epochs", "values": [2]}, "vary: 'model.epochs' is no number"),
        (
            {"vary": "sam_rho", "values": [0, 0.1], "sam_adaptive": True},
            "values: sam_adaptive: needs a sam_rho",
        ),
    ],
)
def test_what_cannot_vary_is_one_line(tmp_path, given, line):
    with pytest.raises(InputError, match=line) as raised:
        train(tmp_path, **given)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())
