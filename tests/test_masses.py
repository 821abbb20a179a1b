"""Regions of known log mass: that it is right, by other means; and that integrations find it."""

import math

import numpy as np
import pytest
import torch

from volume_lib.errors import InputError
from volume_lib.validation import Coverage, ball, classifier, cover, flat_bowl, spiky_star, two_balls


def losses(region, weights):
    """The network's own loss at parameters (D, n), one sample."""
    named = {"weight": weights[:, None, :]}
    outputs = region.model.stacked_forward(named, region.x.expand(len(weights), *region.x.shape))
    return region.loss(outputs.flatten(0, 1), region.y.expand(len(weights)))


def draws_of(region, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return region.reference * torch.randn(count, region.n, generator=generator)


@pytest.mark.parametrize(
    "region", [ball(10), ball(3, 0.2, 0.01), two_balls(2), two_balls(5)], ids=lambda r: r.name
)
def test_as_many_draws_of_the_reference_lie_inside_as_it_says(region):
    draws = draws_of(region, 1_000_000)
    inside = int((losses(region, draws) <= region.threshold).sum())
    expected = 1_000_000 * math.exp(region.exact["connected"])
    assert abs(inside - expected) < 4 * math.sqrt(expected)


@pytest.mark.parametrize("n", [2, 5])
def test_what_shows_of_two_balls_by_straight_lines_from_the_minimum(n):
    region, start = two_balls(n), two_balls(n).model.weight.detach()
    draws = draws_of(region, 200_000)
    draws = draws[losses(region, draws) <= region.threshold]
    first = (draws - start).square().sum(1) <= region.threshold
    second = draws[~first]  # what lies in the first ball shows
    for t in np.linspace(0.4, 1, 1200):
        second = second[losses(region, start + float(t) * (second - start)) <= region.threshold]
    expected = 200_000 * math.exp(region.exact["visible"])
    assert abs(int(first.sum()) + len(second) - expected) < 4 * math.sqrt(expected)
    assert region.exact["connected"] - region.exact["visible"] > 0.15


@pytest.mark.parametrize(
    "region",
    [flat_bowl(2, 2), flat_bowl(3, 1, rotated=True), spiky_star(2), spiky_star(3, 0.7)],
    ids=lambda r: r.name,
)
def test_rays_find_it_in_few_dimensions(region):
    low, high = region.by_rays(3000).interval
    slack = 0.3 * (high - low)
    assert low - slack <= region.exact["visible"] <= high + slack and high - low < 0.5


def test_the_classifiers_error_is_that_of_its_draws():
    one, other = classifier(0.4, 200_000), classifier(0.4, 200_000, seed=0)
    assert one.exact == other.exact and 0 < one.error < 0.05
    with pytest.raises(InputError, match="draw more"):
        classifier(1e-6, 10)


def test_regions_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="distance"):
        two_balls(3, 2.5)


QUICK = [
    (ball(10), "visible"),
    (two_balls(2), "visible"),
    (two_balls(2), "connected"),
    (flat_bowl(200, 4), "connected"),
    (flat_bowl(20, 2, rotated=True), "connected"),
]


@pytest.mark.parametrize(("region", "which"), QUICK, ids=lambda part: getattr(part, "name", part))
def test_the_interval_contains_what_is_known(region, which):
    """Two seeds here; twenty, and more bodies, by benchmarks/integration.py."""
    found = cover(region, which, seeds=[0, 1], gradients=8000, directions=50)
    assert found.contained == 2
    assert found.width < max(6, 0.05 * found.missed)
    if found.missed > 20:
        assert found.gap <= 0.02 * found.missed


def test_coverage_counts_what_lies_inside():
    ends = np.array([-12.0, -9.0, -30.0]), np.array([-8.0, -8.0, -9.9])
    ones = np.ones(3)
    found = Coverage("body", "visible", 5, -10.0, 0.0, -60.0, *ends, ends[0], ends[1], ones, ones)
    assert (found.contained, found.missed, found.gap, found.off) == (2, 50.0, 4.0, 9.95)
    assert Coverage("body", "visible", 5, -10.0, 0.4, -60.0, *ends, *ends, ones, ones).contained == 3
