import itertools
import math

import pytest
import torch
from torch import nn

from volume_lib.errors import InputError
from volume_lib.parameters import moved_names, num_moved
from volume_lib.problems.base import Problem
from volume_lib.rays import curvature
from volume_lib.rays.directions import draw
from volume_lib.rays.scaling import FLOOR, compute_scale, log_det


class Net(nn.Module):
    """All shapes that occur: convolution, linear layer, embedding, biases, and one that never moves."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, (3, 2))
        self.linear = nn.Linear(5, 4)
        self.embedding = nn.Embedding(6, 2)
        self.gain = nn.Parameter(torch.ones(7), requires_grad=False)


def filter_scale_from_the_definition(model):
    scale = []
    for name, parameter in model.named_parameters():
        if name == "gain":
            continue
        values = parameter.tolist()
        if parameter.dim() < 2:
            scale += [1.0 for _ in values]
            continue
        for row in parameter.detach():
            numbers = [float(v) for v in row.reshape(-1)]
            norm = math.sqrt(math.fsum(v * v for v in numbers))
            scale += [norm if norm > 0 else 1.0 for _ in numbers]
    return torch.tensor(scale)


def test_filter_scaling_is_its_definition():
    torch.manual_seed(0)
    model = Net()
    scale = compute_scale("filter", model)
    assert scale.shape == (num_moved(model),)
    assert "gain" not in moved_names(model)
    torch.testing.assert_close(scale, filter_scale_from_the_definition(model), rtol=1e-6, atol=0)


def test_a_row_gets_at_least_a_part_of_its_layers_norm():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[0] = 0.0
        model.weight[1] = torch.tensor([3.0, 0.0, 4.0])
    floor = FLOOR * math.sqrt((5.0**2 + 0) / 2)
    expected = torch.tensor([floor, floor, floor, 5, 5, 5, 1, 1])
    torch.testing.assert_close(compute_scale("filter", model), expected, rtol=1e-6, atol=0)
    with torch.no_grad():
        model.weight.zero_()
    assert (compute_scale("filter", model)[:3] == FLOOR).all()  # of 1: there is no norm at all


def log_volume(scaling, rows, threshold=0.1, directions=20):
    """Of the bowl mean‖(W − W₀)x‖² + ‖b‖² around ``rows`` = W₀: radii in closed form, whatever W₀ is."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    x = torch.randn(50, 4)
    with torch.no_grad():
        model.weight.copy_(rows)
        y = model(x)

    class Bowl(Problem):
        load = default_model_kwargs = None

        def per_sample_loss(self, outputs, y):
            return (outputs - y).square().sum(-1)

    scale = compute_scale(scaling, model, Bowl(), x, y)
    n, logs = len(scale), []
    for seed in range(directions):
        g = draw(seed, n)
        step = (g * scale).double()
        moved = x.double() @ step[:12].view(3, 4).T + step[12:]
        c = math.sqrt(threshold / moved.square().sum(1).mean())
        logs.append(n * math.log(c * g.double().norm()))
    mean = torch.logsumexp(torch.tensor(logs, dtype=torch.float64), 0).item() - math.log(directions)
    return mean + log_det(scale)


@pytest.mark.parametrize("scaling", ["none", "filter", "curvature"])
def test_the_volume_is_continuous_as_a_row_decays(scaling, monkeypatch):
    for name, value in (("ROUNDS", 2), ("MAX_ROUNDS", 2), ("POINTS", 2), ("SAMPLES", 50)):
        monkeypatch.setattr(curvature, name, value)
    rows = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    direction = rows[0] / rows[0].norm()

    def at(norm):
        rows[0] = direction * norm
        return log_volume(scaling, rows)

    decaying = [at(norm) for norm in (1e-3, 1e-5, 1e-12, 1e-30, 1e-41, 0.0)]
    assert max(decaying) - min(decaying) < 0.05
    above = [at(FLOOR * norm) for norm in (1.3, 1.2, 1.1, 1.0, 0.9)]  # the floor is met without a step
    assert max(abs(a - b) for a, b in itertools.pairwise(above)) < 1.0


def test_a_whole_layer_that_decays_is_continuous_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    start, scales = model[0].weight.detach().clone(), []
    for factor in (1e-6, 1e-30, 1e-43, 0.0):
        model[0].weight.data = start * factor
        scales.append(compute_scale("filter", model))
    for scale in scales:
        assert (scale > 0).all()
        torch.testing.assert_close(scale, scales[0], rtol=1e-4, atol=0)


def test_no_scaling_is_one():
    scale = compute_scale("none", Net())
    assert torch.equal(scale, torch.ones(num_moved(Net())))
    assert log_det(scale) == 0.0


def test_log_det_sums_the_logs():
    scale = torch.rand(1000) + 0.5
    assert log_det(scale) == pytest.approx(math.fsum(math.log(s) for s in scale.tolist()), rel=1e-12)


def test_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compute_scale("filter", model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_unknown_scaling_is_refused_with_the_choice():
    with pytest.raises(InputError, match="scaling must be one of none, filter, curvature, not 'layer'"):
        compute_scale("layer", Net())
