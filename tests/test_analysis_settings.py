"""How an experiment is analysed: what is given, else its own settings, else the defaults."""

from __future__ import annotations

import pytest
import synthetic_experiment as known

from volume_lib import analysis, storage
from volume_lib.errors import InputError

LEVELS = (0, 40, 140)
YAML = """
problem: mnist
runs: {model_seeds: [0, 1], data_seeds: [10, 11]}
train: {base_data_size: 60, dataset_quantities: [0, 40, 140]}
perturb: {num_directions: 100, loss_thresholds: [0.02, 0.1]}
analysis: {loss_threshold: 0.1, spread: quartiles, compare_with: ../other}
"""


@pytest.fixture
def folder(tmp_path):
    """Both runs at both thresholds; the smaller one would be taken without experiment.yaml."""
    folder = tmp_path / "low_data" / "base"
    for seed in range(2):
        for threshold in (0.1, 0.02):
            known.write_run(folder, seed, LEVELS, threshold)
    (folder / "experiment.yaml").write_text(YAML)
    return folder


def test_the_experiments_own_settings_are_the_default(folder):
    chosen = analysis.choose(folder)
    assert chosen.experiment.loss_threshold == 0.1 and chosen.spread == "quartiles"
    assert (chosen.landscape, chosen.quantity) == (0, "log_exp_r_n")
    assert chosen.compare_with.resolve() == folder.parent / "other"
    assert chosen.others == ()
    assert chosen.path("ranks", "png") == folder / "analysis" / "ranks.png"
    told = chosen.describe()
    assert "loss_threshold = 0.1 (experiment.yaml)" in told and "landscape = +0 (default)" in told
    assert "dataset_type = data (experiment.yaml)" in told


@pytest.mark.parametrize(
    "given, name",
    [
        ({"loss_threshold": 0.02}, "ranks_loss_0.02"),
        ({"landscape": 40, "spread": "sd"}, "ranks_landscape_40_sd"),
        ({"quantity": "log_volume"}, "ranks_log_volume"),
        ({"failed": "leave out"}, "ranks_failed_leave_out"),
        ({"colour": "test_acc"}, "ranks_colour_test_acc"),
        ({"compare_with": "elsewhere/there"}, "ranks_against_elsewhere_there"),
        ({"loss_threshold": 0.1, "spread": "quartiles", "landscape": 0, "dataset_type": "data"}, "ranks"),
    ],
)
def test_other_settings_have_other_names(folder, given, name):
    chosen = analysis.choose(folder, **given)
    assert chosen.path("ranks", "png").name == f"{name}.png"
    assert ("(given)" in chosen.describe()) and (("own settings" in chosen.describe()) == (name != "ranks"))


def test_without_a_file_of_its_own_the_threshold_of_most_runs_is_its_own(folder):
    (folder / "experiment.yaml").unlink()
    assert analysis.choose(folder).experiment.loss_threshold == 0.02
    assert analysis.choose(folder, loss_threshold=0.02).others == ()
    assert analysis.choose(folder, loss_threshold=0.1).others == ("loss_0.1",)
    assert analysis.choose(folder).other() is None


def test_the_other_experiment_is_loaded_at_the_same_threshold(folder):
    for seed in range(2):
        known.write_run(folder.parent / "other", seed, LEVELS, 0.02)
    with pytest.raises(InputError, match=r"no results at loss_threshold 0\.1, only at 0\.02"):
        analysis.choose(folder).other()
    other = analysis.choose(folder, loss_threshold=0.02).other()
    assert other.name == "low_data/other" and other.loss_threshold == 0.02


def test_what_colours_the_minima_is_a_setting(folder):
    assert analysis.choose(folder).colour is None
    (folder / "experiment.yaml").write_text(YAML.replace("spread:", "colour: test_acc, spread:"))
    chosen = analysis.choose(folder)
    assert chosen.colour == "test_acc" and chosen.others == ()
    assert "colour = test_acc (experiment.yaml)" in chosen.describe()
    assert analysis.choose(folder, colour="train_loss").others == ("colour_train_loss",)
    for path in folder.glob("*/*/loss_*/results.json"):
        content = storage.load_results(path)
        content.pop("test_acc_values")
        storage.save_results(path, content)
    for path in folder.glob("*/test_accuracies.npz"):
        path.unlink()
    with pytest.raises(
        InputError, match=r"colour test_acc: no run of .* says it; Test Accuracy\.ipynb"
    ) as line:
        analysis.choose(folder)
    assert "\n" not in str(line.value)
    with pytest.raises(InputError, match="colour weight: one of test_acc, test_loss, train_loss"):
        analysis.choose(folder, colour="weight")


def test_what_cannot_be_chosen_is_one_line(folder):
    with pytest.raises(InputError, match=r"landscape 7: .*has 0, 40, 140"):
        analysis.choose(folder, landscape=7)
    with pytest.raises(InputError, match="one of loss_threshold"):
        analysis.choose(folder, threshold=0.1)
