"""Slices agree with the model itself, point by point."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch

from volume_lib import slices
from volume_lib.errors import InputError
from volume_lib.parameters import flatten, num_moved
from volume_lib.problems import get_problem
from volume_lib.rays.directions import draw
from volume_lib.rays.scaling import compute_scale

SIZES = [20, 50, 130]


@pytest.fixture(scope="module")
def problem():
    return get_problem("swiss_roll")


@pytest.fixture(scope="module")
def models(problem):
    return [problem.build_model({"hidden_dims": [16, 16]}, seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def data(problem):
    data = problem.load()
    return data.x_train[:130], data.y_train[:130]


@pytest.mark.parametrize("kind", ["through", "random"])
def test_a_slice_agrees_with_direct_evaluation_at_ten_random_points(kind, problem, models, data, monkeypatch):
    monkeypatch.setattr(slices, "BUDGET", 1_000_000)  # several batches of points
    plane = slices.plane_through(*models) if kind == "through" else slices.random_plane(models[0])
    generator = np.random.default_rng(5)
    a, b = np.sort(generator.uniform(-2, 2, 9)), np.sort(generator.uniform(-2, 2, 11))
    x, y = data
    losses = slices.plane_losses(problem, models[0], plane, a, b, x, y, SIZES)
    assert losses.shape == (3, 11, 9)
    for _ in range(10):
        i, j, k = generator.integers(9), generator.integers(11), generator.integers(3)
        direct = slices.moved(models[0], plane.point(float(a[i]), float(b[j])))
        with torch.no_grad():
            expected = problem.loss(direct(x[: SIZES[k]]), y[: SIZES[k]])
        assert losses[k, j, i] == pytest.approx(float(expected), rel=2e-5)


def test_all_samples_are_the_default(problem, models, data):
    plane = slices.random_plane(models[1])
    at = np.array([0.0])
    loss = slices.plane_losses(problem, models[1], plane, at, at, *data)
    with torch.no_grad():
        assert loss[0, 0, 0] == pytest.approx(float(problem.loss(models[1](data[0]), data[1])), rel=1e-5)


def test_distances_in_the_plane_are_distances_between_parameters(models):
    plane = slices.plane_through(*models)
    flats = [flatten(model) for model in models]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        distance = float(np.linalg.norm(plane.anchors[i] - plane.anchors[j]))
        assert distance == pytest.approx(float((flats[i] - flats[j]).norm()), rel=1e-5)
    assert float(plane.u @ plane.v) == pytest.approx(0, abs=1e-5)
    a, b = plane.window(margin=0.5, points=7)
    assert len(a) == len(b) == 7
    assert a[0] < plane.anchors[:, 0].min() and b[-1] > plane.anchors[:, 1].max()


def test_a_line_of_a_random_plane_is_the_ray_of_its_seed(models):
    plane = slices.random_plane(models[0], seeds=(3, 4))
    ray = flatten(models[0]) + 0.7 * compute_scale("filter", models[0]) * draw(3, num_moved(models[0]))
    assert torch.allclose(plane.point(0.7, 0.0), ray)


def test_moved_leaves_the_model_alone(models):
    before = flatten(models[0]).clone()
    copied = slices.moved(models[0], before + 1)
    assert torch.equal(flatten(models[0]), before) and torch.equal(flatten(copied), before + 1)


def test_what_is_no_plane_is_refused(problem, models, data):
    with pytest.raises(InputError, match="one line"):
        slices.plane_through(models[0], models[1], models[1])
    with pytest.raises(InputError, match="one line"):
        slices.plane_through(models[0], models[0], models[1])
    with pytest.raises(InputError, match="same shape"):
        slices.plane_through(models[0], models[1], problem.build_model({"hidden_dims": [8]}, seed=0))
    with pytest.raises(InputError, match="different directions"):
        slices.random_plane(models[0], seeds=(1, 1))
    with pytest.raises(InputError, match="sizes"):
        plane = slices.random_plane(models[0])
        slices.plane_losses(problem, models[0], plane, np.zeros(1), np.zeros(1), *data, sizes=[131])


def test_the_docstring_s_example():
    assert doctest.testmod(slices).failed == 0
