"""What the repository keeps of its experiments: summaries, cutoffs and quoted numbers come from its files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from volume_lib import analysis, storage
from volume_lib.cutoffs import zero_volume_level
from volume_lib.experiment.file import read_experiment

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SUMMARIES = sorted(EXPERIMENTS.glob("*/*/analysis/summary.csv"))
CURVES = sorted(EXPERIMENTS.glob("*/*/model_*/cutoffs/cutoffs.json"))
MNIST = EXPERIMENTS / "low_data" / "mnist"


def name(path: Path) -> str:
    return "-".join(path.relative_to(EXPERIMENTS).parts[1:3])


@pytest.mark.parametrize("path", SUMMARIES, ids=name)
def test_a_shipped_summary_is_what_the_shipped_results_say(path, tmp_path):
    folder = path.parent.parent
    experiment = analysis.load_experiment(folder, read_experiment(folder).analysis.loss_threshold)
    again = analysis.write_summary(experiment, tmp_path / "summary.csv")
    assert again.read_text() == path.read_text()


@pytest.mark.parametrize("path", SUMMARIES, ids=name)
def test_a_shipped_table_of_stability_is_what_the_shipped_results_say(path, tmp_path):
    folder, kept = path.parent.parent, path.with_name("rank_stability.csv").read_text()
    experiment = analysis.load_experiment(folder, read_experiment(folder).analysis.loss_threshold)
    assert analysis.write_stability(experiment, tmp_path / "rank_stability.csv").read_text() == kept
    numbers = [number for line in kept.splitlines()[1:] for number in line.split(",")]
    assert all(len(number.partition(".")[2]) <= 6 for number in numbers)


def test_there_are_shipped_summaries_and_curves():
    assert len(SUMMARIES) >= 2 and len(CURVES) >= 13


@pytest.mark.parametrize("path", CURVES, ids=name)
def test_shipped_curves_cover_all_samples_and_know_which(path):
    run = path.parent.parent
    last = read_experiment(run.parent).train.dataset_quantities[-1]
    for key, entry in storage.load_cutoffs(run).items():
        samples, curve = np.array(entry["samples"]), np.array(entry["loss_curve"])
        assert samples[0] == 1 and samples[-1] == entry["base_train_size"] + last, key
        assert (np.diff(samples) > 0).all()
        # a running mean of losses, of which none is negative: their sum never falls …
        sums = samples * curve
        assert (np.diff(sums) >= -1e-12 * sums.max()).all()
        # … and between neighbours it grows by the loss of one sample, which was computed in float32
        steps = np.diff(sums)[np.diff(samples) == 1]
        assert np.abs(steps.astype(np.float32) - steps).max() < 1e-15 * (1 + sums.max())


def test_shipped_curves_say_where_each_mnist_minimum_ends():
    """The cutoffs of the summary at 0.1, and no cutoff within a landscape where a minimum has a volume."""
    cutoffs = {
        run.name: [zero_volume_level(entry, 0.1) for entry in storage.load_cutoffs(run).values()]
        for run in storage.list_runs(MNIST)
    }
    assert cutoffs == {
        "model_0_data_10": [2, 619, 2330, 7781, 30492, None],
        "model_1_data_11": [2, 611, 2394, 7920, 30216, None],
        "model_2_data_12": [4, 628, 2301, 7794, 32834, None],
    }
    for run in storage.list_runs(MNIST):
        for threshold in (0.02, 0.05, 0.1):
            for key, entry in storage.load_cutoffs(run).items():
                level = zero_volume_level(entry, threshold)
                assert level is None or level > int(key.removeprefix("Model_"))


def test_a_shipped_curve_ends_at_the_training_loss_where_all_its_samples_were_trained_on():
    run = MNIST / "model_0_data_10"
    losses = storage.load_results(storage.results_path(run, "data", 0, 0.1))["train_loss_values"]
    curves = storage.load_cutoffs(run)
    first, last = curves["Model_0"], curves["Model_59940"]
    assert first["loss_curve"][first["samples"].index(60)] == pytest.approx(losses[0], rel=1e-6)
    assert last["loss_curve"][-1] == pytest.approx(losses[-1], rel=1e-3)


def test_every_number_of_the_mnist_text_follows_from_the_shipped_files():
    text = (MNIST / "README.md").read_text(encoding="utf-8").split("<!-- written by tables.py -->")[0]
    told = " ".join(text.split())
    by_threshold = {t: analysis.load_experiment(MNIST, t) for t in (0.02, 0.05, 0.1)}
    values = {t: e.matrix("log_exp_r_n", 0) for t, e in by_threshold.items()}
    at = by_threshold[0.1]
    study = json.loads((MNIST / "study.json").read_text())
    seconds = [sum(steps.values()) for steps in study["seconds"].values()]
    sweeps = sum(steps["perturb"] for steps in study["seconds"].values())
    assert f"Three seeds took {sum(seconds) / 60:.0f} minutes" in told
    assert f"the sweeps {sweeps / 60:.0f} of them" in told
    assert all((v.argmax(axis=1) == 0).all() for v in values.values())  # "in every seed, at every threshold"
    assert (np.diff(values[0.1], axis=1) < 0).all()
    fall = (values[0.1][:, 0] - values[0.1][:, -1]).mean()
    assert f"by {round(fall, -3):,.0f} nats from 60 to 60,000 samples" in told
    for threshold in (0.02, 0.05):  # "seed 1/11 has the minima of 6,000 and 20,000 the other way round"
        rising = np.argwhere(np.diff(values[threshold], axis=1) > 0).tolist()
        assert rising == [[1, 3]]
    accuracies = at.matrix("test_acc", 0)
    assert f"({accuracies[:, -1].min():.4f} to {accuracies[:, -1].max():.4f})" in told
    published = [0.6335, 0.8699, 0.9092, 0.9416, 0.9667, 0.9762]
    assert (published < accuracies.mean(axis=0)).all()  # "below their mean at all six sizes"
    laws = [analysis.fit_power_law(at.minima_sizes, v) for v in values.values()]
    fits = [law.r_squared for law in laws]
    assert f"(R² {min(fits):.2f} to {max(fits):.2f}; residuals of about" in told
    spreads = [np.nanstd(law.residuals) for law in laws]
    assert "about 9,000 nats, beyond the resolution of 0.2" in told
    assert all(7_500 < spread < 10_500 for spread in spreads)
    assert {f"{r:.1f}" for r in at.matrix("resolution", 0).ravel()} <= {"0.1", "0.2"}
    radius = [law.exponent / at.table["num_params"][0] for law in laws]
    assert "size to the −0.08 to −0.09" in told and {f"{r:.2f}" for r in radius} == {"-0.08", "-0.09"}
    grid, crossing = (study["grid_against_crossing"][k] for k in ("grid", "crossing"))
    excess = np.subtract(grid["log_exp_r_n_values"], crossing["log_exp_r_n_values"])
    assert f"by {round(excess.min(), -2):,.0f} to {round(excess.max(), -3):,.0f} nats" in told
    low, high = (round(f(grid["log_exp_r_n_resolution"]), -3) for f in (min, max))
    assert f"its resolution is {low:,.0f} to {high:,.0f}" in told
    assert grid["log_exp_r_n_ranks"] == crossing["log_exp_r_n_ranks"]  # "it did not change a rank"
    assert (at.table["effective_directions"] < 1.05).all()


def test_the_sizes_that_shipped_texts_quote_are_those_of_the_networks():
    for folder, quoted in {"mnist": "235,146", "swiss_roll": "4,353"}.items():
        path = EXPERIMENTS / "low_data" / folder
        rows = list(csv.DictReader((path / "analysis" / "summary.csv").open()))
        assert {f"{float(row['num_params']):,.0f}" for row in rows} == {quoted}
        assert quoted in (path / "README.md").read_text()
        assert not any(math.isnan(float(row["log_exp_r_n"])) for row in rows)


def test_what_the_first_page_says_of_log_masses_stands_in_their_file():
    folder = EXPERIMENTS / "low_data" / "mnist_mass"
    found = storage.load_masses(storage.mass_path(folder / "model_0_data_10", "data", 0, 0.1))
    rays, intervals = found["log_mass_rays_values"], np.array(found["log_mass_intervals"])
    curves = found["same_region"][1:]
    own = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    for told in (own, " ".join((EXPERIMENTS.parent / "README.md").read_text(encoding="utf-8").split())):
        assert f"{max(rays) - min(rays):,.0f} nats" in told and "0.019" in told
    assert intervals[:, 0].max() < intervals[:, 1].min() and found["converged"] == [False] * 4
    assert all(curve["joined"] and curve["with"] == 0 and not curve["bends"] for curve in curves)
    assert 0.018 < max(curve["highest"] for curve in curves) <= 0.019
    assert f"between {-intervals.max():,.0f} and {-intervals.min():,.0f} nats" in own
    masses = found["log_mass_values"]
    assert f"between −{-min(masses):,.0f} and −{-max(masses):,.0f}" in own
    assert intervals.min() > np.max(found["log_mass_rays_ci"])


def test_swiss_roll_minima_of_one_landscape_are_told_apart_by_rays_alone():
    """What the text of low_data/swiss_roll_mass concludes from its tables."""
    folder = EXPERIMENTS / "low_data" / "swiss_roll_mass"
    experiment = analysis.load_experiment(folder, 0.1)
    shared, own = analysis.mass_orders(experiment, 0), analysis.mass_orders(experiment, None)
    assert [(order.pairs, order.apart) for order in shared] == [(15, 0)] * 2
    assert [(order.apart, order.same) for order in own] == [(3, 3), (1, 1)]
    low, high = (experiment.matrix(f"log_mass_{end}", 0) for end in ("low", "high"))
    told = (folder / "README.md").read_text(encoding="utf-8")
    assert f"at {low.min():,.0f} to {high.max():,.0f} nats" in told
    assert (low > experiment.matrix("log_mass_rays_high", 0)).all()
    curves = [curve for found in experiment.masses[0] for curve in found["same_region"][1:]]
    assert all(curve["joined"] and curve["with"] == 0 and curve["bends"] == 1 for curve in curves)
    assert 0.087 < max(curve["highest"] for curve in curves) <= 0.088
