import itertools
import json
import math
import warnings
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volume_lib import volume
from volume_lib.errors import InputError
from volume_lib.records import Sweep
from volume_lib.thresholds import each_threshold
from volume_lib.volume import diagnostics

RADIUS = st.floats(1e-3, 1e3)
RADII = st.lists(RADIUS, min_size=1, max_size=20).map(np.array)
DIMENSION = st.integers(1, 10**6)


def make_sweep(rays, *, level=0, n=3, seeds=None, norms=None, **metadata):
    """A sweep from (coefficients, loss) or (coefficients, loss, accs), one per direction."""
    seeds = range(len(rays)) if seeds is None else seeds
    norms = [1.0] * len(rays) if norms is None else norms
    results = [
        {
            "coefficients": np.asarray(ray[0], dtype=float),
            "loss": np.asarray(ray[1], dtype=float),
            "accs": np.asarray(ray[2] if len(ray) > 2 else np.ones(len(ray[0])), dtype=float),
            "perturbation_seed": seed,
            "perturbation_norm": norm,
        }
        for ray, seed, norm in zip(rays, seeds, norms, strict=True)
    ]
    fields = {
        "additional_data": 0,
        "dataset_type": "data",
        "base_dataset_size": 60,
        "test_loss": 0.5,
        "test_accs": 0.9,
        "train_loss": 0.01,
        "state_dict": {},
        "scaling": "none",
        "log_det_scaling": 0.0,
        "search": "crossing",
        "loss_thresholds": [0.1],
        "acc_threshold": None,
    }
    return Sweep(results, model_trained_data=level, num_params=n, value=level, **{**fields, **metadata})


def sweep_of_radii(radii, **kwargs):
    """Radii without a bracket to speak of: the loss is 0 just below each and 1 at it."""
    return make_sweep([([0, r * (1 - 1e-9), r], [0, 0, 1]) for r in radii], **kwargs)


# --- radii -------------------------------------------------------------------------------------------


def test_radius_is_the_first_coefficient_above_times_the_norm():
    sweep = make_sweep(
        [
            ([0, 1, 2, 3], [0.0, 0.05, 0.2, 0.05]),  # an excursion: the first crossing counts
            ([0, 1, 2, 3], [0.0, 0.1, 0.1, 0.2]),  # equal to the threshold is not above it
            ([0, 1, 2], [0.0, math.nan, 0.0]),
            ([0, 1, 2], [0.0, 0.0, math.inf]),
            ([0, 1, 2, 5], [0.0, 0.0, 0.0, 0.09]),  # never
            ([0, 1, 2], [0.3, 0.0, 0.0]),  # above to begin with
        ],
        norms=[10, 1, 1, 2, 3, 1],
        seeds=[4, 5, 6, 7, 8, 9],
    )
    radii = volume.threshold_radii(sweep, 0.1)
    assert radii.radius.tolist() == [20, 3, 1, 4, 15, 0]
    assert radii.lower.tolist() == [10, 2, 0, 2, 15, 0]
    assert radii.censored.tolist() == [False, False, False, False, True, False]
    assert radii.seeds.tolist() == [4, 5, 6, 7, 8, 9]


def test_accuracy_radius_is_the_first_coefficient_below():
    rays = [
        ([0, 1, 2, 3], [0, 0, 0, 0], accs) for accs in ([1, 0.9, 0.8, 0.9], [1, 0.9, math.nan, 1], [1] * 4)
    ]
    radii = volume.threshold_radii(make_sweep(rays), acc_threshold=0.9)
    assert radii.radius.tolist() == [2, 2, 3]
    assert radii.censored.tolist() == [False, False, True]


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_impossible_loss_thresholds_are_refused(bad):
    with pytest.raises(InputError, match="loss_threshold must be a positive number"):
        volume.threshold_radii(sweep_of_radii([1.0]), bad)


@pytest.mark.parametrize("bad", [0, 1.5, math.nan])
def test_impossible_accuracy_thresholds_are_refused(bad):
    with pytest.raises(InputError, match=r"acc_threshold.* must (be|lie in) "):
        volume.estimate_volumes([sweep_of_radii([1.0])], 0.1, acc_threshold=bad)


@given(
    losses=st.lists(st.floats(0.001, 1), min_size=2, max_size=30),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
)
def test_a_higher_threshold_never_gives_a_smaller_radius(losses, low, high):
    low, high = sorted((low, high))
    losses = [0.0, *np.maximum.accumulate(losses)]
    sweep = make_sweep([(range(len(losses)), losses)])
    assert volume.threshold_radii(sweep, low).radius <= volume.threshold_radii(sweep, high).radius


@given(
    small=st.lists(st.floats(0.001, 1), min_size=10, max_size=10),
    extra=st.lists(st.floats(0, 1), min_size=10, max_size=10),
    threshold=st.floats(0.01, 0.9),
)
def test_a_landscape_whose_loss_is_nowhere_lower_never_gives_a_larger_radius(small, extra, threshold):
    small = [0.0, *np.maximum.accumulate(small)]
    large = [0.0, *np.maximum.accumulate(np.array(small[1:]) + np.maximum.accumulate(extra))]
    radii = [
        volume.threshold_radii(make_sweep([(range(11), loss)]), threshold).radius for loss in (small, large)
    ]
    assert radii[1] <= radii[0]


# --- log mean of powers ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 17])
def test_log_mean_power_against_exact_arithmetic(n):
    radii = np.random.default_rng(n).uniform(0.1, 3.0, 50)
    exact = math.fsum(float(Fraction(r) ** n) for r in radii.tolist()) / len(radii)
    assert volume.log_mean_power(radii, n) == pytest.approx(math.log(exact), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-3, 0.5])
def test_log_mean_power_against_mpmath_in_a_million_dimensions(spread):
    n = 10**6
    radii = np.exp(np.random.default_rng(0).normal(3.0, spread, 40))
    with mpmath.workdps(60):
        powers = [mpmath.mpf(r) ** n for r in radii.tolist()]
        exact = float(mpmath.log(mpmath.fsum(powers) / len(powers)))
    assert volume.log_mean_power(radii, n) == pytest.approx(exact, rel=1e-14)


def test_log_volume_against_mpmath_in_a_million_dimensions():
    n, radius, log_det = 10**6, 700.0, -123456.789
    with mpmath.workdps(40):
        exact = (
            n * mpmath.log(radius) + mpmath.log(mpmath.pi) * n / 2 - mpmath.loggamma(mpmath.mpf(n) / 2 + 1)
        )
    value = volume.log_volume(volume.log_mean_power(np.array([radius]), n), n, log_det)
    assert value == pytest.approx(float(exact) + log_det, rel=1e-14)


def test_ball_volumes_that_everyone_knows():
    assert math.exp(volume.log_ball_volume(1)) == pytest.approx(2)
    assert math.exp(volume.log_ball_volume(2)) == pytest.approx(math.pi)
    assert math.exp(volume.log_ball_volume(3)) == pytest.approx(4 / 3 * math.pi)


def test_zero_radii_give_minus_infinity_alone_and_count_as_zero_among_others():
    assert volume.log_mean_power(np.zeros(3), 5) == -math.inf
    assert volume.log_mean_power(np.array([0.0, 2.0]), 5) == pytest.approx(math.log(2**5 / 2))


@given(radii=RADII, n=DIMENSION, factor=st.floats(1e-3, 1e3))
def test_scaling_all_radii_scales_the_mean_by_n_log_of_the_factor(radii, n, factor):
    change = volume.log_mean_power(radii * factor, n) - volume.log_mean_power(radii, n)
    # What the rounding of a·r and of log r costs, n-fold.
    assert change == pytest.approx(n * math.log(factor), abs=n * 1e-14 + 1e-12)


@given(radii=RADII, n=DIMENSION, share=st.floats(0, 1))
def test_a_smaller_radius_never_raises_the_mean(radii, n, share):
    more = np.append(radii, radii.min() * share)
    assert volume.log_mean_power(more, n) <= volume.log_mean_power(radii, n) + n * 1e-15 + 1e-12


@given(radii=RADII, n=DIMENSION)
def test_the_mean_lies_between_what_the_largest_radius_alone_and_all_equal_would_give(radii, n):
    value, largest = volume.log_mean_power(radii, n), n * math.log(radii.max())
    rounding = abs(largest) * 1e-14 + 1e-12
    assert largest - math.log(len(radii)) - rounding <= value <= largest + rounding


# --- diagnostics -------------------------------------------------------------------------------------


def test_effective_directions():
    log_weights = np.log([1.0, 2.0, 3.0, 4.0])
    assert diagnostics.effective_directions(log_weights + 5e5) == pytest.approx(100 / 30, rel=1e-9)
    assert diagnostics.effective_directions(np.zeros(7)) == pytest.approx(7)
    assert diagnostics.effective_directions(np.full(3, 6_907_755.3)) == pytest.approx(3, rel=1e-14)
    assert diagnostics.effective_directions(np.array([0.0, -1e6, -math.inf])) == 1
    assert diagnostics.effective_directions(np.full(3, -math.inf)) == 0


@given(radii=RADII, n=DIMENSION)
def test_effective_directions_lie_between_one_and_all(radii, n):
    assert 1 - 1e-9 <= diagnostics.effective_directions(n * np.log(radii)) <= len(radii) * (1 + 1e-9)


def test_bootstrap_is_the_percentile_interval_of_resampled_means():
    weights = np.random.default_rng(1).uniform(1, 2, 200)
    low, high = diagnostics.bootstrap_interval(np.log(weights), 4000, np.random.default_rng(0))
    standard_error = weights.std() / math.sqrt(200)
    assert math.exp(low) == pytest.approx(weights.mean() - 1.96 * standard_error, abs=0.15 * standard_error)
    assert math.exp(high) == pytest.approx(weights.mean() + 1.96 * standard_error, abs=0.15 * standard_error)


def test_bootstrap_is_seeded_and_the_same_in_chunks(monkeypatch):
    log_weights = np.random.default_rng(1).normal(0, 1000, 300)
    whole = diagnostics.bootstrap_interval(log_weights, 500, np.random.default_rng(3))
    monkeypatch.setattr(diagnostics, "_CHUNK_ELEMENTS", 1000)
    assert diagnostics.bootstrap_interval(log_weights, 500, np.random.default_rng(3)) == whole
    assert diagnostics.bootstrap_interval(log_weights, 500, np.random.default_rng(4)) != whole


def test_bootstrap_with_zero_volumes():
    generator = np.random.default_rng(0)
    assert diagnostics.bootstrap_interval(np.full(5, -math.inf), 100, generator) == (-math.inf, -math.inf)
    low, high = diagnostics.bootstrap_interval(np.array([-math.inf, -math.inf, 0.0]), 1000, generator)
    assert low == -math.inf
    assert high == pytest.approx(0.0)  # all three resampled from the one that is not zero


def test_a_grids_resolution_is_n_log_of_its_spacing_ratio():
    n, grid = 235_146, np.linspace(0, 1, 100) ** 2
    loss = np.where(grid >= grid[40], 1.0, 0.0)
    results = volume.estimate_volumes([make_sweep([(grid, loss)] * 4, n=n)], 0.1)
    assert results["log_exp_r_n_resolution"] == [pytest.approx(n * 2 * math.log(40 / 39), rel=1e-9)]


def test_resolution_is_weighted_as_the_mean_is():
    radius, lower, n = np.array([2.0, 1.0]), np.array([1.9, 0.5]), 3
    expected = (8 * 3 * math.log(2 / 1.9) + 1 * 3 * math.log(2)) / 9
    assert diagnostics.resolution(radius, lower, n) == pytest.approx(expected)
    # Without weight, an open bracket is no matter; with weight, it leaves everything open.
    assert diagnostics.resolution(np.array([2.0, 1e-9]), np.array([2.0, 0.0]), 1000) == 0
    assert diagnostics.resolution(np.array([2.0, 2.0]), np.array([2.0, 0.0]), 1000) == math.inf
    assert diagnostics.resolution(np.zeros(2), np.zeros(2), 1000) == 0


@given(coefficient=st.integers(1, 99), n=DIMENSION)
def test_true_radius_lies_within_the_resolution(coefficient, n):
    grid = np.linspace(0, 1, 100) ** 2
    crossing = 0.5 * (grid[coefficient] + grid[coefficient - 1])
    radii = volume.threshold_radii(make_sweep([(grid, np.where(grid > crossing, 1.0, 0.0))]), 0.1)
    value = volume.log_mean_power(radii.radius, n)
    assert value - diagnostics.resolution(radii.radius, radii.lower, n) <= n * math.log(crossing) <= value


def all_subsets(log_weights, size):
    """Both rank probabilities by enumeration of every subset."""

    def order(columns):
        means = np.logaddexp.reduce(log_weights[:, list(columns)], axis=1)
        return int(means.argmax()), tuple(means.argsort())

    everything = order(range(log_weights.shape[1]))
    found = [order(subset) for subset in itertools.combinations(range(log_weights.shape[1]), size)]
    return [np.mean([f[i] == everything[i] for f in found]) for i in (0, 1)]


def test_rank_probabilities_against_all_subsets():
    log_weights = np.random.default_rng(5).normal(0, 2, (3, 8))
    sizes = [1, 3, 6, 8]
    largest, order = diagnostics.rank_probabilities(log_weights, sizes, draws=20_000)
    for i, size in enumerate(sizes):
        exact = all_subsets(log_weights, size)
        assert largest[i] == pytest.approx(exact[0], abs=0.015)
        assert order[i] == pytest.approx(exact[1], abs=0.015)
    assert (largest[-1], order[-1]) == (1, 1)


def test_rank_probabilities_by_the_largest_radius_against_all_subsets():
    log_weights = np.random.default_rng(6).normal(0, 2, (3, 7))

    def order(columns):
        tops = log_weights[:, list(columns)].max(axis=1)
        return int(tops.argmax()), tuple(tops.argsort())

    largest, orders = diagnostics.rank_probabilities(log_weights, [2, 7], by_largest=True, draws=20_000)
    found = [order(subset) for subset in itertools.combinations(range(7), 2)]
    everything = order(range(7))
    assert largest[0] == pytest.approx(np.mean([f[0] == everything[0] for f in found]), abs=0.015)
    assert orders[0] == pytest.approx(np.mean([f[1] == everything[1] for f in found]), abs=0.015)
    assert (largest[1], orders[1]) == (1, 1)


def test_the_largest_volume_may_have_the_least_data_though_the_order_does_not_follow_it():
    volumes, levels = [3.0, 1.0, 2.0], [0, 10, 50]
    assert diagnostics.largest_is_least_data(volumes, levels)
    assert not diagnostics.volume_follows_data(volumes, levels)
    # published: volumes by batch size 100, 1000, 200, 3000, 500, 6000; the largest is that of 500
    assert not diagnostics.largest_is_least_data([6.52, 6.26, 6.53, 6.25, 6.77, 5.97], [1, 10, 2, 30, 5, 60])
    assert not diagnostics.largest_is_least_data([3.0, 3.0], [0, 10])  # shared
    assert diagnostics.largest_is_least_data([3.0, 3.0, 1.0], [0, 0, 10])
    assert not diagnostics.largest_is_least_data([-math.inf, -math.inf], [0, 10])


def test_rank_probabilities_with_ties_and_chunks(monkeypatch):
    log_weights = [np.full(6, -math.inf), np.full(6, -math.inf), np.arange(6.0)]
    assert diagnostics.rank_probabilities(log_weights, [1, 6]) == ([1, 1], [1, 1])
    log_weights = np.random.default_rng(5).normal(0, 2, (3, 8))
    whole = diagnostics.rank_probabilities(log_weights, [2, 5])
    monkeypatch.setattr(diagnostics, "_CHUNK_ELEMENTS", 100)
    assert diagnostics.rank_probabilities(log_weights, [2, 5]) == whole


def test_default_subset_sizes():
    assert diagnostics.subset_sizes(500) == [1, 2, 5, 10, 20, 50, 100, 200, 500]
    assert diagnostics.subset_sizes(30) == [1, 2, 5, 10, 20, 30]
    assert diagnostics.subset_sizes(1) == [1]
    with pytest.raises(InputError, match="subset_sizes must be whole numbers from 1 to 10, not 11"):
        diagnostics.subset_sizes(10, [5, 11])


def test_ranks_have_one_for_the_largest_and_share_ties():
    assert diagnostics.ranks([3.0, 9.0, 3.0, 1.0]) == [2.5, 1, 2.5, 4]
    assert diagnostics.ranks([-math.inf, 0.0, -math.inf]) == [2.5, 1, 2.5]


def test_volume_follows_data():
    assert diagnostics.volume_follows_data([3.0, 2.0, 1.0], [0, 10, 50])
    assert diagnostics.volume_follows_data([1.0, 3.0, 2.0], [50, 0, 10])
    assert not diagnostics.volume_follows_data([3.0, 1.0, 2.0], [0, 10, 50])
    assert not diagnostics.volume_follows_data([3.0, -math.inf, -math.inf], [0, 10, 50])
    assert diagnostics.volume_follows_data([3.0, 2.0], [0, 0])


def test_ordering_violations():
    assert diagnostics.ordering_violations([3.0, 2.0, 1.0], [0.1, 0.2, 0.3]) == 0
    assert diagnostics.ordering_violations([3.0, 2.0, 1.0], [0.3, 0.2, 0.1]) == 2
    assert diagnostics.ordering_violations([2.0, 3.0, 1.0], [0.3, 0.2, 0.1]) == 1
    assert diagnostics.ordering_violations([2.0, 2.0, 1.0], [0.3, 0.2, 0.4]) == 0  # a tie has no order


# --- results.json ------------------------------------------------------------------------------------

SPEC_KEYS = {
    "test_loss_values", "log_exp_r_n_values", "model_data_levels", "loss_landscape_data_param",
    "train_loss_values", "num_params", "dataset_type", "top_r_vals", "top_r_val_seeds",
    "loss_predicts_minimas", "loss_ordering_violations", "test_loss_ranks", "log_exp_r_n_ranks",
    "data_level_ranks", "test_acc_values", "loss_threshold", "num_directions", "num_censored",
    "log_volume_values", "log_exp_r_n_ci", "log_exp_r_n_resolution", "effective_directions",
    "subset_sizes", "radii_rank_probabilities", "radii_rank_probabilities_full",
}  # fmt: skip
ACC_KEYS = {
    "log_exp_r_n_acc_values", "accuracy_predicts_minimas", "accuracy_ordering_violations",
    "log_exp_r_n_acc_ranks",
}  # fmt: skip


def test_results_hold_every_key_in_the_order_of_the_levels():
    generator = np.random.default_rng(0)
    radii = {level: generator.uniform(low, low + 1, 12) for level, low in ((540, 2.0), (0, 3.0), (1940, 1.0))}
    sweeps = [
        sweep_of_radii(r, level=level, n=4, log_det_scaling=-0.001 * level, test_loss=1 / (1 + level))
        for level, r in radii.items()
    ]
    results = volume.estimate_volumes(sweeps, 0.1, top_k=3)
    assert set(results) >= SPEC_KEYS
    assert not ACC_KEYS & set(results)
    assert results["model_data_levels"] == results["key_values"] == [0, 540, 1940]
    assert results["largest_volume_has_least_data"] is results["loss_predicts_minimas"] is True
    assert volume.estimate_volumes(sweeps, 0.1, top_k=None)["top_r_vals"][1] == sorted(radii[540])[::-1]
    for i, level in enumerate((0, 540, 1940)):
        assert results["mean_radius_values"][i] == pytest.approx(radii[level].mean(), rel=1e-12)
        assert results["median_radius_values"][i] == pytest.approx(np.median(radii[level]), rel=1e-12)
        exact = math.log(np.mean(radii[level] ** 4))
        assert results["log_exp_r_n_values"][i] == pytest.approx(exact, rel=1e-12)
        assert results["log_volume_values"][i] == pytest.approx(
            exact + math.log(math.pi**2 / 2) - 0.001 * level, rel=1e-12
        )
        low, high = results["log_exp_r_n_ci"][i]
        assert low < exact < high
        assert results["test_loss_values"][i] == 1 / (1 + level)
    assert results["data_level_ranks"] == [3, 2, 1]
    assert results["test_loss_ranks"] == results["log_exp_r_n_ranks"] == [1, 2, 3]
    assert results["loss_predicts_minimas"] is True
    assert results["loss_ordering_violations"] == 2
    assert results["num_directions"] == 12
    assert results["subset_sizes"] == [1, 2, 5, 10, 12]
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_the_same_seed_gives_the_same_results_and_the_order_of_sweeps_does_not_matter():
    generator = np.random.default_rng(0)
    sweeps = [sweep_of_radii(generator.uniform(1, 2, 30), level=level) for level in (0, 10, 20)]
    results = volume.estimate_volumes(sweeps, 0.1)
    assert volume.estimate_volumes(sweeps[::-1], 0.1) == results
    assert volume.estimate_volumes(sweeps, 0.1, seed=1) != results


def test_top_radii_pair_up_with_their_directions():
    rays = [([0, 1, r], [0, 0, 1]) for r in (2.0, 7.0, 3.0, 5.0)]
    rays[1] = ([0, 1, 7], [0, 0, 0])  # never crossed: kept at its largest radius, shifts nothing
    sweep = make_sweep(rays, seeds=[100, 101, 102, 103])
    results = volume.estimate_volumes([sweep], 0.1, top_k=3)
    assert results["top_r_vals"] == [[7, 5, 3]]
    assert results["top_r_val_seeds"] == [[101, 103, 102]]
    assert results["num_censored"] == [1]
    assert results["log_exp_r_n_values"] == [pytest.approx(math.log((8 + 343 + 27 + 125) / 4))]
    assert len(volume.estimate_volumes([sweep], 0.1, top_k=10)["top_r_vals"][0]) == 4


def test_accuracy_variants_come_with_an_accuracy_threshold():
    rays = [([0, 1, 2, 3], [0, 1, 1, 1], [1, 1, 0.5, 0.5])] * 5
    other = [([0, 1, 2, 3], [0, 1, 1, 1], [1, 1, 1, 0.5])] * 5
    sweeps = [make_sweep(other, level=0, test_loss=0.1), make_sweep(rays, level=10, test_loss=0.2)]
    results = volume.estimate_volumes(sweeps, 0.1, acc_threshold=0.9)
    assert set(results) >= ACC_KEYS
    assert results["log_exp_r_n_acc_values"] == pytest.approx([3 * math.log(3), 3 * math.log(2)])
    assert results["log_exp_r_n_values"] == [0, 0]
    assert (results["accuracy_predicts_minimas"], results["loss_predicts_minimas"]) == (True, False)
    assert results["accuracy_ordering_violations"] == 0
    assert results["log_volume_acc_values"][1] == pytest.approx(math.log(4 / 3 * math.pi * 8))
    assert results["log_exp_r_n_acc_ranks"] == [1, 2]
    assert results["log_exp_r_n_ranks"] == [1.5, 1.5]


def test_files_without_the_determinant_have_no_log_volume():
    results = volume.estimate_volumes([sweep_of_radii([1.0, 2.0], log_det_scaling=math.nan)], 0.1)
    assert "log_volume_values" not in results
    assert results["log_exp_r_n_values"] == [pytest.approx(math.log(4.5))]


def test_a_minimum_above_the_threshold_has_no_volume_and_is_named():
    rays = [([0, 1], [0.7, 0.1])] * 3
    with pytest.warns(UserWarning, match=r"model additional 540 has a loss of 0\.7 in landscape data_0"):
        results = volume.estimate_volumes([sweep_of_radii([1, 1, 2]), make_sweep(rays, level=540)], 0.1)
    assert results["log_exp_r_n_values"][1] == results["log_volume_values"][1] == -math.inf
    assert results["log_exp_r_n_ci"][1] == [-math.inf, -math.inf]
    assert results["effective_directions"][1] == 0
    assert results["top_r_vals"][1] == [0, 0, 0]
    assert results["loss_predicts_minimas"]


def test_a_usual_minimum_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume.estimate_volumes([sweep_of_radii([1.0, 2.0])], 0.1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"additional_data": 540}, "same additional_data"),
        ({"dataset_type": "noise"}, "same dataset_type"),
        ({"scaling": "filter"}, "same scaling"),
        ({"n": 4}, "same num_params"),
        ({"level": 0}, "belong to the same minimum"),
    ],
)
def test_sweeps_that_do_not_belong_together_are_refused(other, message):
    sweeps = [sweep_of_radii([1.0, 2.0]), sweep_of_radii([1.0, 2.0], **{"level": 10, **other})]
    with pytest.raises(InputError, match=message):
        volume.estimate_volumes(sweeps, 0.1)


def test_differing_numbers_of_directions_and_empty_input_are_refused():
    with pytest.raises(InputError, match=r"same number of directions, these have \[1, 2\]"):
        volume.estimate_volumes([sweep_of_radii([1.0, 2.0]), sweep_of_radii([1.0], level=3)], 0.1)
    with pytest.raises(InputError, match="no sweeps"):
        volume.estimate_volumes([], 0.1)
    with pytest.raises(InputError, match="no directions"):
        volume.estimate_volumes([sweep_of_radii([])], 0.1)
    with pytest.raises(InputError, match="top_k: 0 must be 1 or more"):
        volume.estimate_volumes([sweep_of_radii([1.0])], 0.1, top_k=0)


@pytest.mark.parametrize("wrong", ["0.1", 0.1, None, [], [True], ["0.1"], [0.1, None], [math.nan], [0]])
def test_thresholds_that_are_none_are_told_before_the_first_is_used(wrong):
    with pytest.raises(InputError, match=r"loss_threshold"):
        each_threshold(wrong)
    assert each_threshold([0.1, 2]) == [0.1, 2]
