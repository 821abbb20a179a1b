"""Networks: stem and tail, stacks, and sizes."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, stack_module_state, vmap

from volume_lib.errors import InputError
from volume_lib.models import CNN, MLP

GENERATOR_SEED = 0


def normal(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(GENERATOR_SEED), dtype=dtype)


def build(cls, *args):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return cls(*args).double()


CASES = {
    "mlp": lambda: (build(MLP, 12, [7, 5], 3), normal(4, 3, 4)),
    "linear": lambda: (build(MLP, 6, [], 2), normal(4, 6)),
    "cnn": lambda: (build(CNN, 3, 8, [4, 5], 6, 10), normal(4, 3, 8, 8)),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def test_forward_is_tail_of_stem(case):
    model, x = case
    torch.testing.assert_close(model(x), model.tail(model.stem(x)))


def test_the_stem_is_affine_in_its_parameters_and_uses_no_others(case):
    model, x = case
    parameters = dict(model.named_parameters())
    names = model.stem_parameter_names
    direction = {name: normal(*parameters[name].shape) for name in names}

    def stem(values):
        return functional_call(StemOf(model), {f"model.{n}": v for n, v in values.items()}, (x,))

    base = {name: parameters[name] for name in names}
    zero = {name: torch.zeros_like(parameters[name]) for name in names}
    along = stem(direction) - stem(zero)
    for c in (0.3, 2.0, 50.0):
        moved = stem({name: base[name] + c * direction[name] for name in names})
        torch.testing.assert_close(moved, stem(base) + c * along, rtol=1e-12, atol=1e-11)
    # other parameters do not reach it, and its own do not reach the tail
    h = model.stem(x)
    others = [p for n, p in parameters.items() if n not in names]
    if others:
        used = torch.autograd.grad(h.sum(), others, allow_unused=True)
        assert all(g is None for g in used)
    own = [parameters[n] for n in names]
    detached = h.detach().requires_grad_()
    gradients = torch.autograd.grad(model.tail(detached.clone()).sum(), [detached, *own], allow_unused=True)
    assert gradients[0] is not None and all(g is None for g in gradients[1:])


class StemOf(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.stem(x)


def test_mlp_is_relu_between_matrix_products():
    model, x = CASES["mlp"]()
    w = [layer.weight for layer in model.layers]
    b = [layer.bias for layer in model.layers]
    h = x.reshape(4, 12)
    by_hand = torch.relu(torch.relu(h @ w[0].T + b[0]) @ w[1].T + b[1]) @ w[2].T + b[2]
    torch.testing.assert_close(model(x), by_hand)


def test_cnn_is_convolution_relu_pooling():
    model, x = CASES["cnn"]()
    h = x
    for convolution in model.convolutions:
        h = F.max_pool2d(torch.relu(F.conv2d(h, convolution.weight, convolution.bias, padding=1)), 2)
    h = torch.relu(model.hidden(h.reshape(4, -1)))
    torch.testing.assert_close(model(x), model.output(h))
    assert model.hidden.in_features == 5 * 2 * 2


def test_stacked_mlps_are_the_mlps_one_by_one():
    models = []
    for seed in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            models.append(MLP(6, [7, 5], 2).double())
    stacked, _ = stack_module_state(models)
    x = normal(3, 4, 6)
    together = models[0].stacked_forward(stacked, x)
    torch.testing.assert_close(together, torch.stack([m(xs) for m, xs in zip(models, x, strict=True)]))
    by_vmap = vmap(lambda p, x: functional_call(models[0], p, (x,)))(stacked, x)
    torch.testing.assert_close(together, by_vmap)


@pytest.mark.parametrize("channels", [[], [4] * 4, [0]])
def test_an_image_has_room_for_its_convolutions(channels):
    with pytest.raises(InputError, match="channels"):
        CNN(3, 8, channels, 6, 10)
