"""Curves between minima of regions of which it is known whether they are one: found there, nowhere else."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from volume_lib.errors import InputError
from volume_lib.integration import join
from volume_lib.validation.bodies import LinearMap

NOTHING = torch.zeros(1, 1), torch.zeros(1, dtype=torch.long)


def at(*place):
    model = LinearMap(torch.ones(len(place)))
    with torch.no_grad():
        model.weight.copy_(torch.tensor(place))
    return model


def joined(loss, threshold, start, end, **options):
    return join(at(*start), at(*end), *NOTHING, loss=loss, threshold=threshold, device="cpu", **options)


def shell(outputs, y):
    """Below 0.04 between the spheres of radius 0.8 and 1.2: one region, in one dimension two."""
    return (outputs.norm(dim=-1) - 1).square()


def balls(apart):
    """Two balls of radius 1 about 0 and ``apart`` on the first axis."""

    def loss(outputs, y):
        shift = torch.zeros_like(outputs)
        shift[..., 0] = apart
        return torch.minimum(outputs.square().sum(-1), (outputs - shift).square().sum(-1))

    return loss


@pytest.mark.parametrize("n", [2, 3, 100])
def test_a_shell_is_one_region_though_its_middle_is_high(n):
    rest = [0.0] * (n - 1)
    curve = joined(shell, 0.04, [1.0, *rest], [-1.0, *rest])
    assert curve.joined and curve.highest + curve.largest_step <= 0.04 and len(curve.bends)
    corners = torch.cat([torch.tensor([[1.0, *rest]]), curve.bends, torch.tensor([[-1.0, *rest]])]).double()
    for a, b in pairwise(corners):  # exactly: where each segment comes closest to 0
        share = float((a @ (a - b) / (a - b).square().sum()).clamp(0, 1))
        nearest, ends = (a + share * (b - a)).norm(), [a.norm(), b.norm()]
        assert nearest >= 0.8 and max(ends) <= 1.2


def test_two_points_of_one_dimension_are_no_shell():
    curve = joined(shell, 0.04, [1.0], [-1.0])
    assert not curve.joined and curve.highest > 0.04
    assert "shows nothing" in str(curve)


@pytest.mark.parametrize("n", [2, 50])
@pytest.mark.parametrize(("apart", "one"), [(1.8, True), (2.2, False)])
def test_balls_are_one_region_if_they_overlap(n, apart, one):
    rest = [0.0] * (n - 1)
    curve = joined(balls(apart), 1.0, [0.0, *rest], [apart, *rest])
    assert curve.joined == one
    if one:
        assert len(curve.bends) == 0 and curve.highest == pytest.approx((apart / 2) ** 2, abs=1e-3)
    else:
        assert curve.highest > 1


def test_a_cliff_is_no_reason_to_say_joined():
    """Below the threshold on both sides, but who knows what lies between two points so far apart in loss?"""

    def cliff(outputs, y):
        return 0.6 * (outputs[..., 0] > 0.5).double() + 0 * outputs.sum(-1)

    curve = joined(cliff, 1.0, [0.0], [1.0])
    assert not curve.joined and curve.highest == curve.largest_step == 0.6


def test_nothing_is_said_without_time_to_look():
    curve = joined(shell, 0.04, [1.0, 0.0], [-1.0, 0.0], minutes=1e-9)
    assert not curve.joined and math.isinf(curve.highest) and curve.as_dict()["highest"] is None


def test_networks_that_differ_otherwise_and_ends_above_the_threshold_are_refused():
    with pytest.raises(InputError, match="threshold"):
        joined(shell, 0.04, [1.0, 0.0], [0.0, 0.0])
    with pytest.raises(InputError, match="differs"):
        joined(shell, 0.04, [1.0, 0.0], [-1.0, 0.0, 0.0])
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    other = copy.deepcopy(one)
    other[1].running_mean += 1
    x, y = torch.randn(5, 2), torch.zeros(5, dtype=torch.long)
    with pytest.raises(InputError, match="differs"):
        join(one, other, x, y, loss=lambda outputs, y: outputs.square().sum(-1), threshold=1e9, device="cpu")
