"""The estimate against exact volumes, along the path of a network: sweep → .npz → volumes."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from volume_lib import storage, volume
from volume_lib.errors import InputError
from volume_lib.problems.splits import make_dataset
from volume_lib.problems.swiss_roll import SwissRoll
from volume_lib.rays.directions import reproduce_direction
from volume_lib.rays.scaling import compute_scale
from volume_lib.records import TrainedModel
from volume_lib.search.crossings import Crossing
from volume_lib.sweep.run import run_sweep
from volume_lib.validation.bodies import (
    box,
    cross_polytope,
    ellipsoid,
    log_spectrum,
    quadratic_bowl,
    tilted_bowl,
)
from volume_lib.volume import diagnostics


def sweep_body(body, run_dir, *, directions, threshold, start=None, scaling="none", **settings):
    (path,) = run_sweep(
        body, [body.minimum(start)], body.dataset(), run_dir, num_directions=directions,
        loss_thresholds=[threshold], scaling=scaling, device="cpu", **settings,
    )  # fmt: skip
    return storage.load_sweep(path)


# --- the exact volumes -------------------------------------------------------------------------------


def test_bodies_that_everyone_knows():
    assert math.exp(quadratic_bowl([1.0, 1.0]).log_volume(2.0)) == pytest.approx(4 * math.pi, rel=1e-6)
    assert math.exp(quadratic_bowl([1.0, 4.0]).log_volume(2.0)) == pytest.approx(2 * math.pi, rel=1e-6)
    assert math.exp(box([1.0, 2.0, 3.0]).log_volume(0.5)) == pytest.approx(6, rel=1e-6)
    assert math.exp(cross_polytope([1.0, 1.0, 1.0]).log_volume(1.0)) == pytest.approx(8 / 6, rel=1e-6)


def test_the_axes_do_not_change_an_ellipsoids_volume():
    straight = quadratic_bowl(log_spectrum(5, 2))
    assert tilted_bowl(log_spectrum(5, 2)).log_volume(0.3) == pytest.approx(
        straight.log_volume(0.3), rel=1e-6
    )


@pytest.mark.parametrize("body", [quadratic_bowl([1.0, 9.0]), box([2.0, 0.5]), cross_polytope([2.0, 0.5])])
def test_volumes_by_counting_points(body):
    points = torch.rand(200_000, 2, generator=torch.Generator().manual_seed(0)) * 6 - 3
    inside = body.per_sample_loss(points * body.matrix, torch.zeros(1)) <= 0.7
    error = math.sqrt(inside.double().mean() / len(points)) * 36
    assert inside.double().mean() * 36 == pytest.approx(math.exp(body.log_volume(0.7)), abs=4 * error)


def test_bodies_without_a_volume_are_refused():
    with pytest.raises(InputError, match="spectrum must be positive"):
        quadratic_bowl([1.0, 0.0])
    with pytest.raises(InputError, match="invertible"):
        ellipsoid(np.ones((2, 2)))
    with pytest.raises(InputError, match="matrix must be"):
        ellipsoid(np.ones((2, 3)))


# --- exact where the coordinates make the body round ---------------------------------------------------


@pytest.mark.parametrize(
    ("n", "decades"),
    [*((n, decades) for n in (2, 10, 300, 10_000) for decades in (0, 3, 6)), (1_000_000, 6)],
)
def test_curvature_coordinates_give_a_bowls_volume_from_two_directions(tmp_path, n, decades):
    # At this threshold no logarithm of a volume comes so near to 0 that its relative error means nothing.
    bowl, threshold = quadratic_bowl(log_spectrum(n, decades)), 0.001
    sweep = sweep_body(bowl, tmp_path, directions=2, threshold=threshold, scaling="curvature")
    results = volume.estimate_volumes([sweep], threshold)
    exact = bowl.log_volume(threshold)
    assert results["log_volume_values"][0] == pytest.approx(exact, rel=1e-6)
    # What the search leaves open is what the estimate is off by, and always from above.
    error = results["log_volume_values"][0] - exact
    assert -1e-7 * n <= error <= results["log_exp_r_n_resolution"][0] + 1e-7 * n
    assert results["log_exp_r_n_resolution"][0] <= 2e-6 * n
    assert results["effective_directions"][0] == pytest.approx(2, rel=1e-2)


def test_without_them_a_wide_spectrum_is_a_lower_bound_and_says_so(tmp_path):
    bowl = quadratic_bowl(log_spectrum(1000, 3))
    sweep = sweep_body(bowl, tmp_path, directions=200, threshold=0.1)
    results = volume.estimate_volumes([sweep], 0.1)
    to_volume = results["log_volume_values"][0] - results["log_exp_r_n_values"][0]
    assert results["log_exp_r_n_ci"][0][1] + to_volume < bowl.log_volume(0.1) - 100
    assert results["effective_directions"][0] < 10


# --- inside the interval where the mean converges -------------------------------------------------------

GROUPS, DIRECTIONS = 200, 200
BODIES = {
    **{f"bowl {n}": (lambda n=n: quadratic_bowl(log_spectrum(n, 1))) for n in (2, 4, 6)},
    "box 6": lambda: box(np.linspace(1, 2, 6)),
    "cross-polytope 3": lambda: cross_polytope(np.linspace(1, 1.5, 3)),
    "cross-polytope 6": lambda: cross_polytope(np.linspace(1, 1.5, 6)),
    "tilted ellipsoid 6": lambda: tilted_bowl(log_spectrum(6, 1)),
}


@pytest.mark.parametrize("name", BODIES)
def test_the_exact_volume_lies_in_nine_of_ten_intervals(tmp_path, name):
    """200 seeds of 200 directions each, swept in one go: the ranges of their perturbation seeds touch."""
    body, threshold = BODIES[name](), 0.3
    sweep = sweep_body(
        body, tmp_path, directions=GROUPS * DIRECTIONS, threshold=threshold, search=Crossing(xrtol=1e-4)
    )
    exact = body.log_volume(threshold) - volume.log_ball_volume(body.n)
    log_powers = body.n * np.log(volume.threshold_radii(sweep, threshold).radius).reshape(GROUPS, -1)
    intervals = [
        diagnostics.bootstrap_interval(group, 500, np.random.default_rng(seed))
        for seed, group in enumerate(log_powers)
    ]
    inside = sum(low <= exact <= high for low, high in intervals)
    assert inside >= 0.9 * GROUPS
    # And the intervals are worth having: all directions together hit the volume to a few per cent.
    assert volume.log_mean_power(np.exp(log_powers.ravel() / body.n), body.n) == pytest.approx(
        exact, abs=0.05
    )


def test_a_convex_body_has_the_same_volume_from_any_point_inside(tmp_path):
    body, threshold = box([1.0, 2.0, 3.0]), 0.5
    sweep = sweep_body(body, tmp_path, directions=6000, threshold=threshold, start=[0.2, -0.3, 0.4])
    results = volume.estimate_volumes([sweep], threshold, subset_sizes=[1])
    to_volume = results["log_volume_values"][0] - results["log_exp_r_n_values"][0]
    low, high = results["log_exp_r_n_ci"][0]
    assert low + to_volume <= body.log_volume(threshold) <= high + to_volume
    assert high - low < 0.15


@pytest.mark.parametrize("scaling", ["filter", "curvature"])
def test_scaled_coordinates_give_the_volume_of_a_tilted_ellipsoid(tmp_path, scaling):
    body, threshold = ellipsoid(tilted_bowl(log_spectrum(4, 2)).matrix * torch.tensor([1, 5, 0.2, 1])), 0.3
    sweep = sweep_body(body, tmp_path, directions=8000, threshold=threshold, scaling=scaling)
    results = volume.estimate_volumes([sweep], threshold, subset_sizes=[1])
    to_volume = results["log_volume_values"][0] - results["log_exp_r_n_values"][0]
    low, high = results["log_exp_r_n_ci"][0]
    assert low + to_volume <= body.log_volume(threshold) <= high + to_volume


# --- along the same path: the other keys -----------------------------------------------------------------


def test_an_accuracy_threshold_finds_the_same_radii(tmp_path):
    body, threshold = box([1.0, 2.0]), 0.3  # the accuracy is exp(−loss)
    sweep = sweep_body(body, tmp_path, directions=50, threshold=threshold, acc_threshold=math.exp(-threshold))
    results = volume.estimate_volumes([sweep], threshold, acc_threshold=math.exp(-threshold))
    assert results["log_exp_r_n_acc_values"] == pytest.approx(results["log_exp_r_n_values"], abs=1e-5)
    assert results["log_volume_acc_values"] == pytest.approx(results["log_volume_values"], abs=1e-5)


def test_the_top_seeds_give_their_directions_back(tmp_path):
    body, threshold = quadratic_bowl(log_spectrum(6, 2)), 0.3
    sweep = sweep_body(
        body, tmp_path, directions=40, threshold=threshold, perturbation_seed=1000, scaling="curvature"
    )
    results = volume.estimate_volumes([sweep], threshold, top_k=5)
    model = body.minimum().model
    scale = compute_scale("curvature", model, body, *body.dataset().upto(0))
    assert results["top_r_vals"][0] == sorted(results["top_r_vals"][0], reverse=True)
    for radius, seed in zip(results["top_r_vals"][0], results["top_r_val_seeds"][0], strict=True):
        assert 1000 <= seed < 1040
        direction = reproduce_direction(seed, model)["weight"]
        weight = radius / direction.norm() * scale * direction
        loss = body.per_sample_loss(body.matrix * weight, torch.zeros(1))
        assert loss.item() == pytest.approx(threshold, rel=1e-5)


def test_a_grid_reports_its_own_spacing_and_the_solver_does_better(tmp_path):
    bowl, threshold = quadratic_bowl(np.ones(200)), 0.3
    exact = bowl.log_volume(threshold)
    found = {}
    for search in ("grid", "crossing"):
        sweep = sweep_body(bowl, tmp_path / search, directions=5, threshold=threshold, search=search)
        results = volume.estimate_volumes([sweep], threshold)
        found[search] = results
        error = results["log_volume_values"][0] - exact
        assert 0 <= error + 1e-4 <= results["log_exp_r_n_resolution"][0] + 2e-4
    grid = np.linspace(0, 1, 100) ** 2
    crossing = math.sqrt(2 * threshold / 200)  # within 10 % on every ray: ‖g‖ varies
    ratios = [200 * math.log(b / a) for a, b in pairwise(grid[1:]) if abs(b / crossing - 1) < 0.25]
    assert min(ratios) <= found["grid"]["log_exp_r_n_resolution"][0] <= max(ratios)
    assert found["crossing"]["log_exp_r_n_resolution"][0] < 2e-6 * 200


def test_results_survive_the_file(tmp_path):
    bowl = quadratic_bowl(log_spectrum(4, 1))
    inside = sweep_body(bowl, tmp_path, directions=20, threshold=0.3)
    outside = replace(
        sweep_body(bowl, tmp_path / "outside", directions=20, threshold=0.3, start=[3.0, 0, 0, 0]),
        value=540, model_trained_data=540,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="additional 540"):
        results = volume.estimate_volumes([outside, inside], 0.3, acc_threshold=0.8)
    path = tmp_path / "results.json"
    storage.save_results(path, results)
    assert "Infinity" not in path.read_text()
    assert storage.load_results(path) == results


# --- a swiss-roll minimum in all coordinates --------------------------------------------------------------


class Waves(nn.Module):
    """Waves over the plane, uncorrelated on the data, under a trained linear layer: 13 parameters, convex.

    A ReLU network's minimum would not do, however small: each unit can be scaled up and its outgoing weights
    down, which leaves volumes that thousands of directions do not exhaust.
    """

    def __init__(self, number: int = 12) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("frequency", 1.5 * torch.randn(number, 2, generator=generator))
        self.register_buffer("phase", 2 * math.pi * torch.rand(number, generator=generator))
        self.register_buffer("mixing", torch.eye(number))
        self.register_buffer("centre", torch.zeros(number))
        disc = SwissRoll().load().x_train
        self.centre = self.waves(disc).mean(0)
        uncorrelated = torch.linalg.inv(torch.linalg.cholesky(torch.cov(self.waves(disc).T))).T
        # Of unlike heights, so that the parameters' curvatures are unlike too.
        self.mixing = uncorrelated * torch.logspace(-0.3, 0.3, number)
        self.linear = nn.Linear(number, 1)

    def waves(self, x):
        return (torch.cos(x @ self.frequency.T + self.phase) - self.centre) @ self.mixing

    def forward(self, x):
        return self.linear(self.waves(x))


def waves_minimum(dataset):
    model, problem = Waves(), SwissRoll()
    x, y = dataset.upto(0)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = problem.loss(model(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    loss = closure().item()
    return TrainedModel(model, "Waves", {}, 0, "swiss_roll", "data", 0, [loss], [loss], [0.7], [0.7])


def test_all_scalings_measure_the_same_volume_of_a_swiss_roll_minimum(tmp_path):
    dataset = make_dataset(SwissRoll(), base_data_size=500, dataset_quantities=[0], data_seed=0)
    minimum = waves_minimum(dataset)
    threshold = minimum.train_loss[-1] + 0.05
    intervals, effective = {}, {}
    for scaling in ("none", "filter", "curvature"):
        (path,) = run_sweep(
            SwissRoll(), [minimum], dataset, tmp_path / scaling, num_directions=4000,
            loss_thresholds=[threshold], scaling=scaling, device="cpu",
        )  # fmt: skip
        results = volume.estimate_volumes([storage.load_sweep(path)], threshold, subset_sizes=[1])
        assert results["num_params"] == 13
        to_volume = results["log_volume_values"][0] - results["log_exp_r_n_values"][0]
        intervals[scaling] = [end + to_volume for end in results["log_exp_r_n_ci"][0]]
        effective[scaling] = results["effective_directions"][0]
    # Every pair of intervals meets: the highest low end is below the lowest high end.
    assert max(low for low, _ in intervals.values()) <= min(high for _, high in intervals.values())
    assert effective["curvature"] > 10 * max(effective["none"], effective["filter"])
