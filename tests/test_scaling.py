import math

import pytest
import torch
from torch import nn

from volume_lib.errors import InputError
from volume_lib.parameters import moved_names, num_moved
from volume_lib.rays.scaling import compute_scale, log_det


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


def test_a_zero_row_gets_one():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[0] = 0.0
        model.weight[1] = torch.tensor([3.0, 0.0, 4.0])
    assert compute_scale("filter", model).tolist() == [1, 1, 1, 5, 5, 5, 1, 1]


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
