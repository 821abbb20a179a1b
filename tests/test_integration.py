"""The log mass by integration, against masses that are known exactly."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy.stats import chi2, ncx2
from torch import nn

from volume_lib.errors import InputError
from volume_lib.integration import Options, integrate
from volume_lib.rays.reference import make_reference

X, Y = torch.zeros(1, 1), torch.zeros(1)


class Point(nn.Module):
    """A network that hands out its parameters, times ``root``."""

    def __init__(self, start, root=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(start, dtype=torch.float32))
        self.register_buffer("root", torch.as_tensor(root, dtype=torch.float32))

    def forward(self, x):
        return (self.root * self.weight).expand(len(x), -1)

    def stacked_forward(self, named, x):
        return (self.root * named["weight"]).expand(-1, x.shape[1], -1)


def bowl(outputs, y):
    return 0.5 * outputs.double().square().sum(-1)


def run(model, loss=bowl, threshold=0.1, **more):
    more = {"region": "connected", "progress": False, "gradients": 4000, **more}
    return integrate(model, X, Y, loss=loss, threshold=threshold, **more)


def test_an_ellipsoid_of_four_decades_where_rays_miss_a_thousand_nats():
    n, sigma = 400, 1e4
    curvature = torch.logspace(2, -2, n, dtype=torch.float64)
    exact = n / 2 * math.log(math.pi) - math.lgamma(n / 2 + 1) - n / 2 * math.log(2 * math.pi * sigma**2)
    exact += 0.5 * float((2 * 0.1 / curvature).log().sum())
    found = run(Point(torch.zeros(n), curvature.sqrt()), reference=sigma)
    assert found.interval[0] <= exact <= found.interval[1]
    assert found.gap < 8 and abs(found.log_mass - exact) < 8


@pytest.mark.parametrize("n", [5, 200])
def test_a_ball_beside_the_centre_of_the_reference(n):
    start, radius_square = torch.full((n,), 0.5), 0.3 * n
    exact = ncx2.logcdf(radius_square, n, 0.25 * n)

    def ball(outputs, y):
        return (outputs.double() - 0.5).square().sum(-1)

    for region in ("connected", "visible"):
        found = run(Point(start), ball, radius_square, reference=1.0, region=region)
        assert found.interval[0] <= exact <= found.interval[1], region
        assert found.interval[1] - found.interval[0] < 6


def test_the_same_seed_gives_the_same_number_and_more_effort_goes_on(tmp_path):
    model = Point(torch.zeros(1000))
    one = run(model, reference=1.0, gradients=2000)
    assert run(model, reference=1.0, gradients=2000).log_mass == one.log_mass
    more = run(model, reference=1.0, gradients=100_000, resume=one)
    assert more.gradients > one.gradients and len(more.history) > len(one.history)
    file = tmp_path / "state.pt"
    run(model, reference=1.0, gradients=2000, resume=file)
    again = run(model, reference=1.0, gradients=100_000, resume=file)
    assert len(again.history) > len(one.history)
    with pytest.raises(InputError, match="threshold"):
        run(model, reference=1.0, threshold=0.2, resume=file)
    with pytest.raises(InputError, match="parameters"):
        run(Point(torch.full((1000,), 0.01)), reference=1.0, resume=file)


def test_the_reference_is_the_models_own_initialisation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 50), nn.LayerNorm(50), nn.Linear(50, 3))
    names = [name for name, _ in model.named_parameters()]
    found = make_reference(model, names)
    assert found.widths["0.weight"] == pytest.approx(1 / math.sqrt(3 * 16), rel=0.02)
    assert found.widths["1.weight"] == 1 and found.widths["1.bias"] == 1
    assert any("1.bias" in note for note in found.notes)
    assert len(found.sigma) == sum(p.numel() for p in model.parameters())
    assert np.allclose(make_reference(model, names, 0.3).sigma, 0.3)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"reference": "inti"}, "reference"),
        ({"region": "all"}, "region"),
        ({"gap": -1.0}, "gap"),
        ({"chains": 1}, "chains"),
        ({"threshold": -1.0}, "threshold"),
        ({"preconditioner": "no"}, "preconditioner"),
        ({"options": Options(route="no")}, "route"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changed, named):
    with pytest.raises(InputError, match=named):
        run(Point(torch.zeros(3)), **changed)


def test_two_overlapping_balls_what_is_visible_is_less_than_what_is_connected():
    far = torch.tensor([1.15, 0.0])

    def union(outputs, y):
        z = outputs.double()
        return torch.minimum(z.square().sum(-1), (z - far).square().sum(-1))

    draws = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    inside = union(draws, None) <= 0.36
    seen = inside.clone()
    for t in np.linspace(0, 1, 60):
        seen &= union(t * draws, None) <= 0.36
    exact = {"connected": float(inside.double().mean().log()), "visible": float(seen.double().mean().log())}
    assert exact["connected"] - exact["visible"] > 0.1
    for region, value in exact.items():
        found = run(Point(torch.zeros(2)), union, 0.36, reference=1.0, region=region, gradients=120_000)
        assert found.interval[0] <= value <= found.interval[1], region
        assert abs(found.log_mass - value) < 0.15, region


def test_logistic_regression_against_direct_draws_of_the_reference():
    torch.manual_seed(0)
    x, direction = torch.randn(40, 6), torch.randn(6)
    y = (x @ direction > 0).float()
    model = nn.Linear(6, 1)
    with torch.no_grad():
        model.weight.copy_(2 * torch.linalg.lstsq(x, 2 * y - 1)[0][None])
        model.bias.zero_()

    def loss(outputs, labels):
        return nn.functional.binary_cross_entropy_with_logits(outputs[..., 0], labels, reduction="none")

    draws = torch.randn(300_000, 7, generator=torch.Generator().manual_seed(1))
    logits = draws[:, :6] @ x.T + draws[:, 6:]
    share = (loss(logits[..., None], y.expand_as(logits)).mean(1) <= 0.35).double().mean()
    found = integrate(
        model,
        x,
        y,
        loss=loss,
        threshold=0.35,
        reference=1.0,
        gradients=4000,
        progress=False,
        seed=1,
        options=Options(first_moves=2),
    )
    assert found.interval[0] <= math.log(share) <= found.interval[1]
    assert abs(found.log_mass - math.log(share)) < 0.6
    assert found.visible_share == 1  # a convex loss: every straight line stays inside


def two_phases(outputs, y):
    """Rises to a plain: between the two there are hardly any neighbours of a loss."""
    distance = outputs.double().square().mean(-1)
    return distance / (0.1 + distance)


def test_a_loss_between_two_phases_is_held_where_no_temperature_holds_it():
    """D is n/2/(1 - L), steeper in L than any exp(-beta L) could hold; the region is a ball."""
    n, threshold = 40, 0.2
    exact = chi2.logcdf(n * 0.1 * threshold / (1 - threshold), n)
    found = run(Point(torch.zeros(n)), two_phases, threshold, reference=1.0, gradients=30_000)
    assert found.interval[0] <= exact <= found.interval[1]
    assert abs(found.log_mass - exact) < 0.02 * abs(exact)


def hole(outputs, y):
    """A narrow hole in a plain without any slope."""
    return 1 - 1 / (1 + (outputs.double().square().mean(-1) / 0.02) ** 4)


def test_a_hole_that_no_chain_from_the_reference_finds_is_measured_from_the_minimum():
    n = 40
    exact = chi2.logcdf(0.02 * n, n)
    found = run(Point(torch.zeros(n)), hole, 0.5, reference=1.0, gradients=10_000)
    assert found.interval[0] <= exact <= found.interval[1]
    assert any("from the minimum out" in note for note in found.notes)


def test_a_budget_of_seconds_is_kept():
    began = time.monotonic()
    run(Point(torch.zeros(2000)), reference=1.0, gradients=None, minutes=0.02, region="visible")
    assert time.monotonic() - began < 30  # 1.2 are asked for


def test_options_and_preconditioner_together_are_refused():
    with pytest.raises(InputError, match="options"):
        run(Point(torch.zeros(3)), preconditioner="width", options=Options())


_MEMORY = r"""
import re, sys, torch
from torch import nn
from volume_lib.integration import integrate
class Point(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n))
    def forward(self, x):
        return self.weight.expand(len(x), -1)
    def stacked_forward(self, named, x):
        return named["weight"].expand(-1, x.shape[1], -1)
def go(n, gradients):
    integrate(Point(n), torch.zeros(1, 1), torch.zeros(1), loss=lambda o, y: 0.5 * o.square().sum(-1),
              threshold=0.5 * n, reference=1.0, region="connected", chains=4, gradients=gradients,
              progress=False, parameters=None)
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
n = int(sys.argv[1])
before = go(1000, 3000)
print((go(n, int(sys.argv[2])) - before) / (4 * n))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_stays_within_the_stated_multiple_of_the_parameters():
    """Numbers of float32 per parameter, of a process of its own: at most 60 for each of the 4 chains, and
    80."""
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, "120000", "1200"], capture_output=True, text=True, check=True
    )
    assert 10 < float(done.stdout) <= 60 * 4 + 80


def test_a_resume_file_is_read_by_the_reader_of_all_files(tmp_path):
    """Damage and other content are one line that names the file; a seal that torch does not check is."""
    model, file = Point(torch.full((200,), 0.01)), tmp_path / "chains.pt"
    run(model, reference=1.0, gradients=1000, resume=file)
    whole = file.read_bytes()
    at = whole.index(b"PK", 200) // 2
    for damaged in (whole[: len(whole) // 2], b"", whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"chains\.pt"):
            run(model, reference=1.0, gradients=2000, resume=file)
    file.write_bytes(whole)
    kept = torch.load(file, weights_only=True)
    for wrong in (
        [1], {"walk": {}}, {**kept, "walk": [1]},
        {**kept, "generator": 5}, {**kept, "generator": torch.zeros(3)},
        {**kept, "walk": {**kept["walk"], "grid": "x"}}, {**kept, "walk": {**kept["walk"], "odd": 1}},
    ):  # fmt: skip
        torch.save(wrong, file)
        with pytest.raises(InputError, match=r"chains\.pt: is no file of an integration"):
            run(model, reference=1.0, gradients=2000, resume=file)
