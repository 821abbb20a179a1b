"""The analysis against an experiment whose every number is known in closed form."""

from __future__ import annotations

import csv
import itertools
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import synthetic_experiment as known
from hypothesis import given
from hypothesis import strategies as st

from volume_lib import analysis, plots, storage
from volume_lib.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        known.write_run(tmp_path / "low_data" / "base", seed)
    return tmp_path / "low_data" / "base"


def test_the_table_holds_what_the_files_say(folder):
    experiment = analysis.load_experiment(folder)
    assert experiment.runs == ["model_0_data_10", "model_1_data_11", "model_2_data_12"]
    assert experiment.name == "low_data/base"
    assert experiment.landscapes == experiment.minima == list(known.LEVELS)
    assert len(experiment.table) == 3 * 15 and not experiment.left_out and not experiment.notes
    for row in experiment.table:
        seed, minimum, landscape = (int(row[c]) for c in ("model_seed", "minimum", "landscape"))
        volume = known.log_volume(seed, minimum, landscape)
        assert row["data_seed"] == seed + 10
        assert row["log_exp_r_n"] == pytest.approx(volume, rel=1e-15)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((volume - 3, volume + 1))
        assert row["log_volume"] == pytest.approx(volume - 100)
        assert row["test_loss"] == pytest.approx(known.test_loss_value(seed, minimum))
        assert row["test_acc"] == pytest.approx(1 - known.test_loss_value(seed, minimum))
        assert row["train_size"] == known.BASE + minimum and row["landscape_size"] == known.BASE + landscape
        expected = known.cutoff(minimum)
        assert row["cutoff"] == (expected if expected <= max(known.LEVELS) else math.inf)
    assert experiment.minima_sizes.tolist() == [known.BASE + m for m in known.LEVELS]


def test_summary_has_a_row_for_each_run_landscape_and_minimum(folder):
    experiment = analysis.load_experiment(folder)
    path = analysis.write_summary(experiment)
    assert path == folder / "analysis" / "summary.csv"
    rows = list(csv.DictReader(path.open()))
    assert list(rows[0]) == [name for name in analysis.COLUMNS if not name.startswith("log_mass")]
    keys = {(r["run"], int(r["landscape"]), int(r["minimum"])) for r in rows}
    assert len(rows) == len(keys) == 45
    for text, row in zip(rows, experiment.table, strict=True):
        assert float(text["log_exp_r_n"]) == row["log_exp_r_n"]
        assert text["resolution"] == ""  # these results do not say


def test_partial_and_damaged_runs_are_named_and_left_out(folder):
    shutil.rmtree(folder / "model_0_data_10" / "data_140")
    path = storage.results_path(folder / "model_1_data_11", "data", 0, 0.1)
    short = known.results(1, 0, known.LEVELS[:-1])
    storage.save_results(path, short)
    known.write_run(folder, 5)
    (storage.results_path(folder / "model_5_data_15", "data", 40, 0.1)).write_text("{ half a fi")
    (folder / "model_8_data_18").mkdir()
    experiment = analysis.load_experiment(folder)
    assert experiment.runs == ["model_2_data_12"]
    assert experiment.left_out["model_0_data_10"] == "partial, lacks landscape 140"
    assert experiment.left_out["model_1_data_11"] == "partial, lacks minimum 940 in landscape 0"
    assert "results.json" in experiment.left_out["model_5_data_15"]
    assert "no results.json" in experiment.left_out["model_8_data_18"]
    for run in experiment.left_out:
        assert run in experiment.describe()


def test_missing_cutoffs_and_accuracies_are_noted_and_cost_no_run(tmp_path):
    run = known.write_run(tmp_path, 0)
    (run / "cutoffs" / "cutoffs.json").unlink()
    (run / "test_accuracies.npz").unlink()
    for path in run.glob("*/*/results.json"):
        told = storage.load_results(path)
        for key in ("base_dataset_size", "test_acc_values"):
            del told[key]
        storage.save_results(path, told)
    experiment = analysis.load_experiment(tmp_path)
    assert (
        "cutoffs.json" in experiment.notes[run.name] and "test_accuracies.npz" in experiment.notes[run.name]
    )
    assert np.isnan(experiment.table["cutoff"]).all() and np.isnan(experiment.table["test_acc"]).all()
    assert not experiment.counts_training_data and experiment.minima_sizes.tolist() == list(known.LEVELS)


def test_thresholds_are_told_apart(folder):
    known.write_run(folder, 0, threshold=0.05)
    assert analysis.load_experiment(folder).loss_threshold == 0.1  # three runs against one
    assert analysis.load_experiment(folder, 0.05).runs == ["model_0_data_10"]
    with pytest.raises(InputError, match=r"loss_threshold 0\.2, only at 0\.05, 0\.1"):
        analysis.load_experiment(folder, 0.2)


def test_a_folder_without_runs_or_results_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="no run folders"):
        analysis.load_experiment(tmp_path)
    (tmp_path / "model_0_data_0").mkdir()
    with pytest.raises(InputError, match=r"no run has a results\.json"):
        analysis.load_experiment(tmp_path)


def test_batch_sizes_are_told_apart_by_their_key(tmp_path):
    for seed in range(2):
        values = {"key": "batch_size", "key_values": [512, 8, 64]}
        storage.save_results(
            storage.results_path(tmp_path / f"model_{seed}_data_0", "data", 0, 0.1),
            known.results(seed, 0, [0, 0, 0]) | values | {"log_exp_r_n_values": [3.0, 1.0, 2.0]},
        )
    experiment = analysis.load_experiment(tmp_path)
    assert experiment.key == "batch_size" and experiment.minima == [8, 64, 512]
    assert experiment.matrix("log_exp_r_n", 0)[0].tolist() == [1.0, 2.0, 3.0]
    assert not experiment.counts_training_data
    ax = plots.volume_against_data(experiment)
    assert ax.get_xlabel() == "batch size"


def test_poison_needs_to_be_chosen_where_both_kinds_lie_in_a_run(folder):
    path = storage.results_path(folder / "model_0_data_10", "poison", 0, 0.1)
    storage.save_results(path, known.results(0, 0, [0, 40], dataset_type="poison"))
    with pytest.raises(InputError, match="data, poison"):
        analysis.load_experiment(folder)
    experiment = analysis.load_experiment(folder, dataset_type="poison")
    assert experiment.runs == ["model_0_data_10"]
    assert plots.volume_against_data(experiment).get_xlabel() == "poisoned samples added"


def test_mean_and_spread_against_numpy():
    values = np.array([[1.0, -np.inf, np.nan], [2.0, 4.0, np.nan], [6.0, 5.0, np.nan]])
    centre, low, high = analysis.mean_and_spread(values)
    assert centre.tolist()[:2] == [3.0, 4.5] and np.isnan(centre[2])
    assert (
        high[0] - centre[0] == pytest.approx(np.std([1, 2, 6], ddof=1)) == pytest.approx(centre[0] - low[0])
    )
    centre, low, high = analysis.mean_and_spread(values, "quartiles")
    assert centre.tolist()[:2] == [2.0, 4.0] and low[1] == -np.inf and high[1] == 4.5
    assert (low[0], high[0]) == tuple(np.quantile([1, 2, 6], [0.25, 0.75])) == (1.5, 4.0)
    assert np.isneginf(analysis.mean_and_spread(np.full((3, 1), -np.inf))[0][0])
    with pytest.raises(InputError, match="quartiles"):
        analysis.mean_and_spread(values, "iqr")


@given(
    slope=st.floats(-100, 100),
    intercepts=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 100_000), min_size=3, max_size=6, unique=True),
)
def test_an_exact_power_law_is_recovered(slope, intercepts, sizes):
    volumes = np.array([[a + slope * math.log(s) for s in sizes] for a in intercepts])
    fit = analysis.fit_power_law(sizes, volumes)
    spread = math.log(max(sizes) / min(sizes))
    assert fit.exponent == pytest.approx(slope, abs=1e-8 / spread + 1e-9)
    assert np.abs(fit.residuals).max() < 1e-7
    assert fit.predict(np.array(sizes, float)) == pytest.approx(volumes.mean(axis=0), abs=1e-6)


def test_power_law_interval_is_student_s_over_seeds():
    sizes = np.array([10.0, 100.0, 1000.0])
    slopes = np.array([-3.0, -4.0, -5.0])
    fit = analysis.fit_power_law(sizes, slopes[:, None] * np.log(sizes) + 7)
    # Table value of t at 97.5 % with 2 degrees of freedom: 4.302653.
    assert fit.interval == pytest.approx(
        (-4 - 4.302653 / math.sqrt(3), -4 + 4.302653 / math.sqrt(3)), rel=1e-6
    )
    assert fit.exponents == pytest.approx(slopes) and fit.r_squared == pytest.approx(1)


def test_power_law_leaves_out_what_has_no_volume_or_no_size():
    sizes = [0, 10, 100, 1000]
    volumes = np.array([[5.0, -np.log(10), -np.log(100), -np.inf], [np.nan] * 3 + [1.0]])
    fit = analysis.fit_power_law(sizes, volumes)
    assert fit.exponent == pytest.approx(-1) and len(fit.exponents) == 1
    assert np.isnan(fit.residuals[0]).tolist() == [True, False, False, True]
    with pytest.raises(InputError, match="power law"):
        analysis.fit_power_law([1, 2], np.array([[np.nan, 1.0]]))


def test_one_run_gets_the_interval_of_its_own_residuals():
    x = np.log([1.0, 2.0, 4.0, 8.0])
    y = 3 * x + np.array([0.1, -0.1, -0.1, 0.1])
    fit = analysis.fit_power_law([1, 2, 4, 8], y[None])
    slope_error = math.sqrt(0.04 / 2 / np.sum((x - x.mean()) ** 2))
    assert fit.interval[1] - fit.exponent == pytest.approx(4.302653 * slope_error, rel=1e-6)


def test_rank_agreement_of_known_orders(folder):
    experiment = analysis.load_experiment(folder)
    # Volume and test loss fall together with data; volume and data are opposite.
    assert analysis.rank_agreement(experiment, 0).per_run.tolist() == pytest.approx([1, 1, 1])
    against_data = analysis.rank_agreement(experiment, 0, "trained_data", method="kendall")
    assert against_data.mean == pytest.approx(-1) and against_data.interval == pytest.approx((-1, -1))
    assert math.isnan(analysis.rank_agreement(experiment, 440).mean)  # two minima have no rank correlation
    with pytest.raises(InputError, match="spearman"):
        analysis.rank_agreement(experiment, 0, method="pearson")


def test_rank_agreement_by_counting_pairs(folder):
    path = storage.results_path(folder / "model_0_data_10", "data", 0, 0.1)
    changed = known.results(0, 0, known.LEVELS) | {"log_exp_r_n_values": [5.0, 9.0, 1.0, -math.inf, 3.0]}
    storage.save_results(path, changed)
    experiment = analysis.load_experiment(folder)
    volume, loss = [5.0, 9.0, 1.0, 3.0], [5, 4, 3, 1]  # the one without a volume has no rank
    signs = [
        np.sign(a - b) * np.sign(c - d)
        for (a, c), (b, d) in itertools.combinations(zip(volume, loss, strict=True), 2)
    ]
    tau = analysis.rank_agreement(experiment, 0, method="kendall").per_run[0]
    assert tau == pytest.approx(sum(signs) / 6)
    ranks = np.array([3, 4, 1, 2]) - np.array([4, 3, 2, 1])
    rho = analysis.rank_agreement(experiment, 0).per_run[0]
    assert rho == pytest.approx(1 - 6 * np.sum(ranks**2) / (4 * 15))


def test_agreement_interval_spans_the_seeds(folder):
    path = storage.results_path(folder / "model_0_data_10", "data", 0, 0.1)
    upside_down = known.results(0, 0, known.LEVELS)
    upside_down["log_exp_r_n_values"].reverse()
    storage.save_results(path, upside_down)
    agreement = analysis.rank_agreement(analysis.load_experiment(folder), 0)
    assert agreement.mean == pytest.approx(1 / 3)
    assert agreement.interval == pytest.approx((-1, 1))  # of three seeds, 1 in 27 resamples is all the first


def test_compare_pairs_the_seeds_that_both_have(folder, monkeypatch):
    plain, jitter = known.log_volume, {0: 39, 1: 40, 2: 41}
    monkeypatch.setattr(known, "log_volume", lambda seed, *a: plain(seed, *a) + jitter[seed])
    sam = folder.parent / "sam"
    for seed in range(3):
        known.write_run(sam, seed, levels=known.LEVELS[:4])
    comparison = analysis.compare(analysis.load_experiment(folder), analysis.load_experiment(sam))
    assert comparison.names == ("low_data/base", "low_data/sam") and comparison.landscape == 0
    assert comparison.minima == list(known.LEVELS[:4]) and not comparison.per_parameter and comparison.paired
    # Seeds are 50 apart, their differences 1: t at 97.5 % with 2 degrees of freedom is 4.302653.
    assert comparison.difference == pytest.approx([40.0] * 4)
    assert comparison.interval[:, 1] - 40 == pytest.approx([4.302653 / math.sqrt(3)] * 4)


def test_compare_other_seeds_by_welch(folder):
    other = folder.parent / "other"
    for seed in (10, 11, 12):
        known.write_run(other, seed)
    comparison = analysis.compare(analysis.load_experiment(folder), analysis.load_experiment(other))
    assert not comparison.paired and comparison.difference == pytest.approx([500.0] * 5)
    # Equal variances of 50² and three runs each: 4 degrees of freedom, t = 2.776445.
    assert comparison.interval[:, 1] - 500 == pytest.approx([2.776445 * 50 * math.sqrt(2 / 3)] * 5)


def test_compare_networks_of_different_size_per_parameter(folder, monkeypatch):
    monkeypatch.setattr(known, "N", 4000)
    large = folder.parent / "large"
    known.write_run(large, 0)
    comparison = analysis.compare(analysis.load_experiment(folder), analysis.load_experiment(large))
    assert comparison.per_parameter
    assert comparison.first[0, 0] == pytest.approx(known.log_volume(0, 0, 0) / 1000)
    assert comparison.second[0, 0] == pytest.approx(known.log_volume(0, 0, 0) / 4000)
    assert "per parameter" in plots.compare(comparison).get_ylabel()


def test_a_comparison_in_words_has_no_nan(folder):
    path = storage.results_path(folder / "model_0_data_10", "data", 0, 0.1)
    changed = known.results(0, 0, known.LEVELS)
    changed["log_exp_r_n_values"][1] = -math.inf
    storage.save_results(path, changed)
    one = folder.parent / "one"
    known.write_run(one, 0)
    alone = analysis.load_experiment(one)
    lines = analysis.compare(analysis.load_experiment(folder), alone).describe().split("\n")
    assert "one run" not in lines[0] and len(lines) == 6 and "nan" not in "".join(lines)
    assert lines[1].endswith("-50, one run: no interval")  # seed 0 against the mean of seeds 0, 1, 2
    storage.save_results(storage.results_path(one / "model_0_data_10", "data", 0, 0.1), changed)
    lines = analysis.compare(analysis.load_experiment(folder), analysis.load_experiment(one)).describe()
    assert "no volume in" in lines and "nan" not in lines


def test_failed_networks_count_by_the_rule_that_is_chosen(folder):
    path = storage.results_path(folder / "model_0_data_10", "data", 0, 0.1)
    changed = known.results(0, 0, known.LEVELS)
    changed["log_exp_r_n_values"][4] = -math.inf
    storage.save_results(path, changed)
    for level in known.LEVELS:  # the network of 940 samples of this run ended at a loss of 0.25
        own = storage.results_path(folder / "model_0_data_10", "data", level, 0.1)
        content = storage.load_results(own)
        content["train_loss_values"][-1] = 0.25
        storage.save_results(own, content)
    plain = analysis.load_experiment(folder)
    assert plain.failures == [("model_0_data_10", 940)] and "model_0_data_10: 940" in plain.describe()
    assert plain.matrix("log_exp_r_n", 0)[0, 4] == -math.inf
    left = analysis.load_experiment(folder, failed="leave out").matrix("log_exp_r_n", 0)
    assert math.isnan(left[0, 4]) and np.isfinite(left).sum() == 14
    least = analysis.load_experiment(folder, failed="least volume").matrix("log_exp_r_n", 0)
    assert least[0, 4] == known.log_volume(0, 440, 0)  # the least of all networks that did not fail
    with pytest.raises(InputError, match="leave out, least volume"):
        analysis.load_experiment(folder, failed="drop")


def test_the_law_in_each_minimums_own_landscape(folder):
    experiment = analysis.load_experiment(folder)
    own = analysis.scaling_law(experiment, analysis.OWN)
    assert own.exponent == pytest.approx(-40) and own.residuals == pytest.approx(0, abs=1e-9)
    assert own.interval == pytest.approx((-40, -40))
    assert analysis.scaling_law(experiment, 0).exponent == pytest.approx(-30)
    assert experiment.own_landscapes("log_exp_r_n")[1, 2] == known.log_volume(1, 140, 140)
    assert experiment.of_minima("test_loss")[2].tolist() == [
        known.test_loss_value(2, m) for m in known.LEVELS
    ]


def test_reliability_of_the_order_averaged_over_runs(folder):
    path = storage.results_path(folder / "model_0_data_10", "data", 0, 0.1)
    more = {"subset_sizes": [1, 10], "radii_rank_probabilities": [0.8, 1.0]}
    more |= {"radii_rank_probabilities_full": [0.5, 1.0]}
    storage.save_results(path, known.results(0, 0, known.LEVELS, **more))
    found = analysis.mean_stability(analysis.load_experiment(folder), 0)
    assert set(found) == {"largest", "order"}  # by the largest radius nothing is said
    sizes, shares = found["largest"]
    assert sizes.tolist() == [1, 10]
    assert shares.mean(axis=0) == pytest.approx([(0.8 + 0.5 + 0.5) / 3, (1.0 + 0.9 + 0.9) / 3])
    assert found["order"][1][:, 0].tolist() == [0.5, 0.2, 0.2]


def test_the_table_of_rank_stability_by_hand(folder):
    """Runs 0 and 1 fall with data; run 2 swaps the first two minima: ρ = 1 − 6·2/(5·24) = 0.9 with each."""
    said = {
        "subset_sizes": [1, 10, 100],
        "largest_radius_rank_probabilities": [0.96, 0.94, 1.0],  # it dips: 1 is not enough
        "largest_radius_rank_probabilities_full": [0.97, 0.96, 1.0],
    }
    for seed in range(3):
        share = 0.94 + 0.02 * seed  # mean 0.96 at ten directions
        more = said | {"radii_rank_probabilities": [0.5, share, 1.0]}
        more |= {"radii_rank_probabilities_full": [0.2, 0.7, 1.0]}
        content = known.results(seed, 0, known.LEVELS, **more)
        if seed == 2:
            volumes = content["log_exp_r_n_values"]
            volumes[0], volumes[1] = volumes[1], volumes[0]
        storage.save_results(
            storage.results_path(folder / f"model_{seed}_data_{seed + 10}", "data", 0, 0.1), content
        )
    experiment = analysis.load_experiment(folder)
    first, second, *_, last = analysis.rank_stability(experiment)
    assert (first.landscape, first.minima, first.runs) == (0, 5, 3)
    assert first.agreement == pytest.approx((1 + 0.9 + 0.9) / 3)
    assert (first.largest, first.same_largest) == (0, pytest.approx(2 / 3))
    assert (first.directions, first.subset) == (100, 10)
    assert (first.directions_largest, first.directions_order) == (10, math.inf)
    assert (first.directions_largest_by_radius, first.directions_order_by_radius) == (math.inf, 1)
    assert second.agreement == 1 and (second.largest, second.same_largest) == (40, 1)
    assert second.directions_largest == math.inf and math.isnan(second.directions_order_by_radius)
    assert last.landscape == 440 and last.minima == 2 and math.isnan(last.agreement)  # two have no order
    row = analysis.stability_table([first]).rows[0]
    assert row == ("+0", "3", "0.933", "0", "67%", "100", "10", "> 10", "> 10", "1")
    with analysis.write_stability(experiment).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and list(rows[0]) == list(analysis.RankStability._fields)
    assert rows[0]["directions_order"] == "inf" and rows[1]["directions_order_by_radius"] == ""


def test_compare_says_why_it_cannot(folder):
    experiment = analysis.load_experiment(folder)
    with pytest.raises(InputError, match="landscape 7"):
        analysis.compare(experiment, experiment, landscape=7)


def test_a_hundred_runs_of_six_landscapes_and_six_minima_take_seconds(tmp_path):
    levels = (0, 540, 1940, 2940, 3940, 5940)
    template = known.write_run(tmp_path / "source", 0, levels)
    for seed in range(100):
        shutil.copytree(template, tmp_path / "many" / f"model_{seed}_data_{seed}")
    start = time.perf_counter()
    experiment = analysis.load_experiment(tmp_path / "many")
    analysis.write_summary(experiment)
    for landscape in experiment.landscapes:
        analysis.rank_agreement(experiment, landscape)
    analysis.fit_power_law(experiment.minima_sizes, experiment.matrix("log_exp_r_n", 0))
    assert len(experiment.table) == 100 * 21
    assert time.perf_counter() - start < 60


def test_the_shipped_swiss_roll_is_complete_and_says_what_its_summary_says(tmp_path):
    folder = Path(__file__).resolve().parents[1] / "experiments" / "low_data" / "swiss_roll"
    experiment = analysis.load_experiment(folder)
    assert len(experiment.runs) == 10 and not experiment.left_out and not experiment.notes
    assert experiment.landscapes == experiment.minima == [0, 20, 70, 190, 490, 1990]
    again = analysis.write_summary(experiment, tmp_path / "summary.csv")
    assert again.read_text() == (folder / "analysis" / "summary.csv").read_text()
    # In the landscape of 10 samples: the minimum found there is the largest, volumes fall with data as far as
    # networks still memorise, test losses fall throughout.
    volumes = analysis.mean_and_spread(experiment.matrix("log_exp_r_n", 0))[0]
    assert volumes.argmax() == 0 and (np.diff(volumes[:4]) < 0).all()
    assert (np.diff(np.log(experiment.matrix("test_loss", 0)).mean(axis=0)) < 0).all()


def test_log_masses_by_rays_and_by_integration_stand_beside_the_volumes(folder):
    """Of one run with both, one without any, one whose masses are of other weights."""
    minima = list(known.LEVELS)
    for seed in (0, 2):
        mine = [f"{seed}{m}" for m in minima]
        rays = [-1000.0 - m for m in minima]
        more = {
            "key_values": minima, "weights_digests": mine, "log_mass_rays_values": rays,
            "log_mass_rays_ci": [[v - 5, v + 2] for v in rays],
            "log_mass_rays_effective_directions": [1.5] * 5, "log_mass_reference": "init",
        }  # fmt: skip
        run = folder / f"model_{seed}_data_{seed + 10}"
        storage.save_results(
            storage.results_path(run, "data", 0, 0.1), known.results(seed, 0, minima, **more)
        )
        masses = {
            "key_values": minima, "model_data_levels": minima, "log_mass_values": [-50.0 - m for m in minima],
            "weights_digests": mine if seed == 0 else ["other"] * 5,
            "log_mass_intervals": [[-60.0 - m, -40.0 - m] for m in minima],
            "forward_values": [0.0] * 5, "backward_values": [0.0] * 5, "converged": [True] * 5,
            "reasons": [""] * 5, "log_mass_rays_values": rays, "log_mass_rays_ci": more["log_mass_rays_ci"],
            "log_mass_rays_effective_directions": [1.5] * 5, "records": [{}] * 5, "key": "additional",
            "dataset_type": "data", "loss_landscape_data_param": 0, "base_dataset_size": known.BASE,
            "num_params": known.N, "loss_threshold": 0.1, "reference": "init", "region": "visible",
            "samples_digest": "",
        }  # fmt: skip
        storage.save_masses(storage.mass_path(run, "data", 0, 0.1), masses)
    experiment = analysis.load_experiment(folder)
    assert "other weights" in experiment.notes["model_2_data_12"] and len(experiment.masses[0]) == 1
    found = experiment.matrix("log_mass_rays", 0)
    assert (
        found[0].tolist() == found[2].tolist() == [-1000.0 - m for m in minima] and np.isnan(found[1]).all()
    )
    assert experiment.matrix("log_mass_high", 0)[0].tolist() == [-40.0 - m for m in minima]
    assert np.isnan(experiment.matrix("log_mass", 0)[1:]).all()
    with analysis.write_summary(experiment).open() as file:
        first = next(csv.DictReader(file))
    assert list(first) == list(analysis.COLUMNS) and float(first["log_mass_rays_low"]) == -1005.0
    (order,) = analysis.mass_orders(experiment, 0)  # intervals of ± 10 about what falls as rays do
    far = sum(abs(a - b) > 20 for i, a in enumerate(minima) for b in minima[i + 1 :])
    assert order.agreement == pytest.approx(1) and order.spread_rays == order.spread == max(minima)
    assert (order.run, order.pairs, order.apart, order.same) == ("model_0_data_10", 10, far, far)
    assert analysis.mass_table(experiment, 0).rows[1][1:] == (
        "3", "-1,040", "-1,040 … -1,040", "1.5", "-90", "-100 … -80",
    )  # fmt: skip
