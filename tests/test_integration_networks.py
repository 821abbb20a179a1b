"""Log masses of a small network: what must agree, what must not be less, and how many draws lie inside."""

import copy
import math

import pytest
import torch
from torch import nn

from volume_lib import measure
from volume_lib.integration import integrate
from volume_lib.volume import ray_mass

THRESHOLD = 0.3


class Small(nn.Module):
    """2 → 3 → 2 with a smooth bend."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))

    def stacked_forward(self, named, x):
        hidden = torch.tanh(x @ named["first.weight"] + named["first.bias"])
        return hidden @ named["last.weight"] + named["last.bias"]


def loss(outputs, y):
    return nn.functional.cross_entropy(outputs, y, reduction="none")


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    x = torch.randn(30, 2)
    y = (x[:, 0] + 0.3 * x[:, 1] > 0).long()
    model = Small()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        loss(model(x), y).mean().backward()
        optimizer.step()
    assert float(loss(model(x), y).mean().detach()) < 0.05
    return model, x, y


@pytest.fixture(scope="module")
def found(trained):
    """Log masses by what was asked for, each measured once."""
    model, x, y = trained
    known = {}

    def mass(model=model, samples=30, **changes):
        key = (id(model), samples, *sorted((name, repr(value)) for name, value in changes.items()))
        if key not in known:
            asked = {"threshold": THRESHOLD, "region": "connected", "gradients": 20_000, **changes}
            known[key] = integrate(
                model,
                x[:samples],
                y[:samples],
                loss=loss,
                reference=1.0,
                progress=False,
                device="cpu",
                **asked,
            )
        return known[key]

    return mass


def meet(one, other):
    return one.interval[0] <= other.interval[1] and other.interval[0] <= one.interval[1]


def test_no_more_than_the_draws_of_the_reference_that_lie_inside_and_here_all_of_them(found, trained):
    """The region may be one of several; this one is nearly all that fits."""
    _, x, y = trained
    generator, inside, draws = torch.Generator().manual_seed(1), 0, 400_000
    for _ in range(20):
        many = draws // 20
        first, last = (torch.randn(many, *shape, generator=generator) for shape in ((2, 3), (3, 2)))
        bends, shifts = (torch.randn(many, 1, size, generator=generator) for size in (3, 2))
        outputs = torch.tanh(x @ first + bends) @ last + shifts
        each = loss(outputs.flatten(0, 1), y.repeat(many)).view(many, -1).mean(1)
        inside += int((each <= THRESHOLD).sum())
    low, high = found().interval
    assert low - 3 / math.sqrt(inside) <= math.log(inside / draws) <= high + 3 / math.sqrt(inside)


@pytest.mark.parametrize("region", ["connected", "visible"])
def test_two_preconditioners_and_two_seeds_agree(found, region):
    first = found(region=region)
    assert first.interval[1] - first.interval[0] < 5  # else anything would agree
    assert meet(first, found(region=region, seed=1))
    assert meet(first, found(region=region, preconditioner="width"))


@pytest.mark.parametrize("region", ["connected", "visible"])
def test_twice_the_effort_stays_inside_the_first_interval(found, region):
    """The chains go on from where they stood; the effort counts what was spent before."""
    first = found(region=region)
    more = found(region=region, gradients=2 * first.gradients, resume=first)
    assert more.gradients > 1.2 * first.gradients
    assert first.interval[0] <= more.log_mass <= first.interval[1]


def test_hidden_units_in_another_order_are_the_same_network(found, trained):
    other = copy.deepcopy(trained[0])
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        for tensor in (other.first.weight, other.first.bias):
            tensor.copy_(tensor[order])
        other.last.weight.copy_(other.last.weight[:, order])
    assert torch.allclose(other(trained[1]), trained[0](trained[1]), atol=1e-5)
    assert meet(found(), found(other))


def test_more_room_is_never_less_mass(found):
    """A larger threshold, fewer samples to fit and all that is connected: no interval says otherwise."""
    assert found(threshold=0.6).interval[0] > found().interval[0]
    assert found(threshold=0.6).interval[1] > found().interval[1]
    assert found(samples=8).interval[1] >= found().interval[0]
    assert found(region="connected").interval[1] >= found(region="visible").interval[0]


def test_rays_never_give_more_than_the_interval_allows(found, trained):
    model, x, y = trained
    volume = measure(model, x, y, loss="cross_entropy", threshold=THRESHOLD, directions=300, progress=False)
    rays = ray_mass(volume.sweep, volume.radii.crossing, 1.0)
    assert rays.log_mass < 0 and math.isfinite(rays.log_mass)
    assert rays.log_mass <= found(region="visible").interval[1]
