"""Published results.json, laid out as they are published: our tables hold the published numbers.

``published_results.json`` says where its numbers are from. They are cited facts; whatever is computed here
from them is compared with what was published beside them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from volume_lib import analysis, plots
from volume_lib.analysis.loading import load_experiment
from volume_lib.errors import InputError
from volume_lib.experiment.file import read_experiment
from volume_lib.problems import get_problem
from volume_lib.volume import diagnostics

ROOT = Path(__file__).parents[1]
PUBLISHED = json.loads((Path(__file__).parent / "published_results.json").read_text())
PUBLISHED.pop("source")
CONDITIONS = json.loads((Path(__file__).parent / "published_conditions.json").read_text())
CONDITIONS.pop("source")
VARY = {"batch_size": "batch_size", "grokking": "epochs"}
LEVELS = [0, 450, 1950, 4950, 19950, 49950]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "low data CNN"
    for place, content in PUBLISHED.items():
        path = folder / place / "loss_0.02" / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content, indent=2))
    return folder


def test_every_published_number_is_in_the_table_digit_for_digit(folder):
    experiment = load_experiment(folder, base_size=50)
    assert experiment.runs == ["model_0_data_10", "model_2_data_12"] and experiment.key == "additional"
    assert experiment.loss_threshold == 0.02 and not experiment.left_out and experiment.minima == LEVELS
    pairs = {name: f"{name}_values" for name in ("log_exp_r_n", "test_loss", "train_loss")}
    compared = 0
    for place, content in PUBLISHED.items():
        run, _, landscape = place.partition("/data_")
        for i, level in enumerate(content["model_data_levels"]):
            (row,) = experiment.rows(run=run, landscape=int(landscape), minimum=level)
            assert row["num_params"] == content["num_params"] and row["trained_data"] == level
            assert (row["train_size"], row["landscape_size"]) == (50 + level, 50 + int(landscape))
            for column, key in pairs.items():
                assert repr(float(row[column])) == repr(content[key][i])
                compared += 1
    assert compared == 66


@pytest.mark.parametrize("place", PUBLISHED)
def test_ranks_and_orders_are_the_published_ones(place):
    content = PUBLISHED[place]
    volumes, losses = content["log_exp_r_n_values"], content["test_loss_values"]
    levels = content["model_data_levels"]
    assert diagnostics.ordering_violations(volumes, losses) == content["loss_ordering_violations"]
    assert diagnostics.largest_is_least_data(volumes, levels) is content["loss_predicts_minimas"]
    assert diagnostics.ranks(volumes) == content["log_exp_r_n_ranks"]
    assert diagnostics.ranks(losses) == content["test_loss_ranks"]
    # theirs counts from the most data, as ours
    assert diagnostics.ranks(levels) == content["data_level_ranks"]


def test_the_mean_is_that_of_fifty_directions():
    """Of the fifty directions the largest carries the mean: log E[rⁿ] is n·log r − log 50, to the digit."""
    n, places = 1276234, 0
    for content in PUBLISHED.values():
        for value, (first, second) in zip(content["log_exp_r_n_values"], content["top_r_vals"], strict=True):
            assert n * math.log(first / second) > 40  # nothing below adds a digit
            assert n * math.log(first) - math.log(50) == pytest.approx(value, rel=0, abs=2e-9)
            places += 1
    assert places == 22


def test_what_the_files_leave_open_is_said_and_nothing_is_made_of_it(folder):
    experiment = load_experiment(folder)
    assert any("give base_size" in remark for remark in experiment.remarks)
    assert any("−Infinity for every minimum" in remark for remark in experiment.remarks)
    assert not experiment.has("log_exp_r_n_acc") and not experiment.has("log_volume")


def test_the_order_of_volumes_and_test_losses_of_two_published_runs(folder):
    """Spearman's ρ by hand: 1 − 6 Σ d² / (m³ − m), from the published ranks."""
    experiment = load_experiment(folder, base_size=50)
    for landscape in (0, 450):
        by_hand = []
        for run in ("model_0_data_10", "model_2_data_12"):
            content = PUBLISHED[f"{run}/data_{landscape}"]
            m = len(content["test_loss_ranks"])
            d = np.subtract(content["test_loss_ranks"], content["log_exp_r_n_ranks"])
            by_hand.append(1 - 6 * float(d @ d) / (m**3 - m))
        found = analysis.rank_agreement(experiment, landscape, "test_loss")
        assert found.mean == pytest.approx(np.mean(by_hand))
    law = analysis.scaling_law(experiment, 0)
    sizes = np.log(50 + np.array(LEVELS))
    slopes = []
    for run in ("model_0_data_10", "model_2_data_12"):
        content = PUBLISHED[f"{run}/data_0"]
        order = np.argsort(content["model_data_levels"])
        slopes.append(np.polyfit(sizes, np.array(content["log_exp_r_n_values"])[order], 1)[0])
    assert law.exponent == pytest.approx(np.mean(slopes), rel=1e-9)
    assert plots.volume_against_data(experiment).get_xlabel()


def test_the_published_networks_have_the_published_numbers_of_parameters():
    cnn = {"channels": [32, 64, 128], "hidden_dims": [512, 256]}
    model = get_problem("cifar10").build_model(cnn, 0, "CNN")
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED["model_0_data_10/data_0"]["num_params"]


def test_the_published_transformer_has_the_published_number_of_parameters():
    asked = read_experiment(ROOT / "experiments" / "low_data" / "shakespeare_large")
    model = get_problem(asked.problem).build_model(asked.model, 0)
    count = sum(p.numel() for p in model.parameters())
    assert round(count / 1e6, 1) == 10.7
    width, layers, context, letters = 384, 6, 256, 65  # each block: 12 width² of weights, two norms of width
    assert count == (letters + context) * width + layers * (12 * width**2 + 2 * width) + width


# ---- the other conditions of the study


def write_condition(condition, folder):
    content = dict(CONDITIONS[condition])
    run, *place = Path(content.pop("path")).parts[-3:]
    target = folder.joinpath(run, *place, "results.json")
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps(content, indent=2))
    return content, run, float(place[-1].removeprefix("loss_"))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_condition_reads_digit_for_digit(condition, tmp_path):
    content, run, threshold = write_condition(condition, tmp_path)
    key = VARY.get(condition)
    experiment = load_experiment(tmp_path, key=key)
    assert experiment.runs == [run] and experiment.loss_threshold == threshold
    assert experiment.key == (key or "additional")
    assert experiment.dataset_type == content["dataset_type"]
    assert experiment.minima == sorted(content["model_data_levels"])
    for i, level in enumerate(content["model_data_levels"]):
        (row,) = experiment.rows(run=run, landscape=0, minimum=level)
        assert row["num_params"] == content["num_params"]
        for column in ("log_exp_r_n", "test_loss", "train_loss"):
            assert repr(float(row[column])) == repr(content[f"{column}_values"][i])
    failed = [
        v
        for v, loss in zip(content["model_data_levels"], content["train_loss_values"], strict=True)
        if loss > threshold
    ]
    assert sorted(value for _, value in experiment.failures) == sorted(failed)
    ranks = diagnostics.ranks(content["log_exp_r_n_values"])
    finite = np.isfinite(content["log_exp_r_n_values"])
    assert np.array(ranks)[finite].tolist() == np.array(content["log_exp_r_n_ranks"])[finite].tolist()
    assert diagnostics.ranks(content["test_loss_values"]) == content["test_loss_ranks"]
    assert diagnostics.ranks(content["model_data_levels"]) == content["data_level_ranks"]
    volumes, levels = content["log_exp_r_n_values"], content["model_data_levels"]
    assert diagnostics.largest_is_least_data(volumes, levels) is content["loss_predicts_minimas"]


@pytest.mark.parametrize("condition", VARY)
def test_where_no_data_vary_the_key_is_asked_for(condition, tmp_path):
    write_condition(condition, tmp_path)
    experiment = load_experiment(tmp_path)
    assert experiment.key == "unknown" and "give key, as 'batch_size'" in experiment.describe()
    with pytest.raises(InputError, match="needs minima that differ in data"):
        analysis.scaling_law(experiment)


def test_published_cutoffs_say_the_base_samples_and_where_a_minimum_ends(tmp_path):
    """Their entries hold ``indices``, the numbers of samples of their losses."""
    write_condition("imbalance", tmp_path)
    curve = [1e-4, 2e-4, 0.01, 0.04, 0.06, 0.09]
    entry = {"additional_data": 0, "base_train_size": 1500, "indices": [1, 1500, 1700, 1800, 1900, 2000]}
    path = tmp_path / "model_2_data_12" / "cutoffs" / "cutoffs.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"Model_0": entry | {"loss_curve": curve}}))
    experiment = load_experiment(tmp_path)
    assert experiment.minima_sizes.tolist() == [1500, 2000, 3000, 6000, 10_000]
    assert experiment.rows(minimum=0)["cutoff"].tolist() == [400]
