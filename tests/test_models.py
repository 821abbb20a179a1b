"""Networks: stem and tail, stacks, and sizes."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from volume_lib.errors import InputError
from volume_lib.problems import get_problem
from volume_lib.problems.networks import CNN, GPT, MLP
from volume_lib.training.stacks import as_operand

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
    hidden, output = model.layers
    h = torch.relu(hidden(h.reshape(4, -1)))
    torch.testing.assert_close(model(x), output(h))
    assert hidden.in_features == 5 * 2 * 2


def test_a_cnn_has_any_number_of_dense_layers():
    published = get_problem("cifar10").build_model(
        {"channels": [32, 64, 128], "hidden_dims": [512, 256]}, seed=0, model_class="CNN"
    )
    assert sum(p.numel() for p in published.parameters()) == 1_276_234
    assert [tuple(layer.weight.shape) for layer in published.layers] == [(512, 2048), (256, 512), (10, 256)]
    none = CNN(1, 8, [3], [], 2)
    x = normal(4, 1, 8, 8).float()
    h = F.max_pool2d(torch.relu(none.convolutions[0](x)), 2).flatten(1)
    torch.testing.assert_close(none(x), h @ none.layers[0].weight.T + none.layers[0].bias)


def test_a_cnn_of_one_dense_layer_is_written_as_it_was_and_starts_as_it_did():
    problem = get_problem("mnist")
    assert problem.full_model_kwargs({"hidden_dim": 9}, "CNN") == problem.full_model_kwargs(
        {"hidden_dims": [9]}, "CNN"
    )
    torch.manual_seed(3)
    parts = [nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1)]
    parts += [nn.Linear(3 * 7 * 7, 9), nn.Linear(9, 10)]
    expected = [p for part in parts for p in part.parameters()]
    model = problem.build_model({"channels": [2, 3], "hidden_dim": 9}, seed=3, model_class="CNN")
    for one, other in zip(model.parameters(), expected, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(InputError, match='takes no "hidden_dim"'):
        problem.full_model_kwargs({"hidden_dim": 9}, "MLP")


def test_stacked_mlps_are_the_mlps_one_by_one():
    models = []
    for seed in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            models.append(MLP(6, [7, 5], 2).double())
    stacked, _ = stack_module_state(models)
    x = normal(3, 4, 6)
    operands = {name: as_operand(value) for name, value in stacked.items()}
    together = models[0].stacked_forward(operands, x)
    torch.testing.assert_close(together, torch.stack([m(xs) for m, xs in zip(models, x, strict=True)]))
    by_vmap = vmap(lambda p, x: functional_call(models[0], p, (x,)))(stacked, x)
    torch.testing.assert_close(together, by_vmap)


@pytest.mark.parametrize("channels", [[], [4] * 4, [0]])
def test_an_image_has_room_for_its_convolutions(channels):
    with pytest.raises(InputError, match="channels"):
        CNN(3, 8, channels, 6, 10)


# ---- GPT


def build_gpt():
    return build(GPT, 11, 6, 8, 2, 2)


def plain_gpt(p, x):
    """The transformer's formulas, one sample and one head at a time."""
    width, heads = 8, 2
    size = width // heads

    def norm(h, name):
        centred = h - h.mean(-1, keepdim=True)
        spread = (centred**2).mean(-1, keepdim=True)
        return centred / (spread + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(h, name):
        return h @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    logits = []
    for tokens in x:
        h = torch.stack(
            [p["token_embedding.weight"][t] + p["position_embedding.weight"][i] for i, t in enumerate(tokens)]
        )
        for b in range(2):
            qkv = linear(norm(h, f"blocks.{b}.attention_norm"), f"blocks.{b}.query_key_value")
            mixed = torch.zeros_like(h)
            for head in range(heads):
                q, k, v = (
                    qkv[:, part * width + head * size : part * width + (head + 1) * size] for part in range(3)
                )
                rows = []
                for t in range(len(tokens)):
                    scores = torch.stack([q[t] @ k[s] / size**0.5 for s in range(t + 1)])
                    shares = scores.exp() / scores.exp().sum()
                    rows.append(sum(share * v[s] for s, share in enumerate(shares)))
                mixed[:, head * size : (head + 1) * size] = torch.stack(rows)
            h = h + linear(mixed, f"blocks.{b}.projection")
            a = linear(norm(h, f"blocks.{b}.expansion_norm"), f"blocks.{b}.expansion")
            gelu = 0.5 * a * (1 + torch.erf(a / 2**0.5))
            h = h + linear(gelu, f"blocks.{b}.contraction")
        logits.append(norm(h, "norm") @ p["token_embedding.weight"].T)
    return torch.stack(logits)


def test_a_gpt_without_biases_is_one_whose_biases_are_zero():
    bare = build(GPT, 11, 6, 8, 2, 2, False)
    assert not any(name.endswith("bias") for name, _ in bare.named_parameters())
    full = build_gpt()
    zero = {name: torch.zeros_like(p) for name, p in full.named_parameters() if name.endswith("bias")}
    x = torch.tensor([[1, 5, 0, 10], [3, 3, 2, 7]])
    torch.testing.assert_close(bare(x), functional_call(full, zero | dict(bare.named_parameters()), (x,)))


def test_the_published_gpt_has_its_ten_million_parameters():
    with torch.device("meta"):
        model = GPT(65, 256, 384, 6, 6, bias=False)
    # embeddings of 65 characters and 256 places; six blocks of 4 + 8 squares and two norms; a last norm
    assert sum(p.numel() for p in model.parameters()) == 321 * 384 + 6 * (12 * 384**2 + 2 * 384) + 384
    assert model(torch.zeros(2, 256, dtype=torch.long, device="meta")).shape == (2, 256, 65)


def test_gpts_loss_and_gradients_are_those_of_the_formulas():
    model = build_gpt()
    with torch.no_grad():  # away from the small initial values, where mistakes would hide
        for parameter in model.parameters():
            parameter.add_(0.3 * normal(*parameter.shape))
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randint(11, (2, 3, 6), generator=generator)
    problem = get_problem("shakespeare")
    loss = problem.loss(model(x), y)
    parameters = dict(model.named_parameters())
    outputs = plain_gpt(parameters, x)
    log_shares = outputs - outputs.exp().sum(-1, keepdim=True).log()
    plain = -torch.stack([log_shares[i, t, y[i, t]] for i in range(3) for t in range(6)]).mean()
    torch.testing.assert_close(model(x), outputs)
    torch.testing.assert_close(loss, plain)
    ours = torch.autograd.grad(loss, list(parameters.values()))
    theirs = torch.autograd.grad(plain, list(parameters.values()))
    torch.testing.assert_close(ours, theirs)


def test_gpt_sees_no_future_token():
    model = build_gpt()
    x = torch.arange(6)[None]
    changed = x.clone()
    changed[0, 4] = 9
    before, after = model(x), model(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=0)
    assert (before[:, 4:] - after[:, 4:]).abs().max() > 1e-4


def test_gpts_stem_is_affine_and_its_tied_weights_count_once():
    model = build_gpt()
    x = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(0))
    parameters = dict(model.named_parameters())
    direction = {name: normal(*parameters[name].shape) for name in model.stem_parameter_names}
    start, along = model.stem(x), functional_call(StemOf(model), wrapped(direction), (x,))
    for c in (0.5, 30.0):
        moved = {name: parameters[name] + c * direction[name] for name in direction}
        at = functional_call(StemOf(model), wrapped(moved), (x,))
        torch.testing.assert_close(at, start + c * along, rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(model(x), model.tail(start))
    # what the tail takes from the stem is what it declares
    gradients = torch.autograd.grad(
        model.tail(start.detach()).sum(),
        [parameters[n] for n in model.stem_parameter_names],
        allow_unused=True,
    )
    used = [n for n, g in zip(model.stem_parameter_names, gradients, strict=True) if g is not None]
    assert used == list(model.tied_parameter_names)
    # 11·8 token weights, once: also as the output layer
    by_hand = 11 * 8 + 6 * 8 + 2 * (4 * 8 + 3 * 8 * 8 + 3 * 8 + 8 * 8 + 8 + 8 * 8 * 4 * 2 + 4 * 8 + 8) + 2 * 8
    assert sum(p.numel() for p in parameters.values()) == by_hand
    moved = functional_call(model, {"token_embedding.weight": torch.zeros(11, 8).double()}, (x,))
    assert moved.abs().max() == 0  # the output layer went with it


def wrapped(values):
    return {f"model.{name}": value for name, value in values.items()}


def test_gpt_runs_under_vmap_without_falling_back_to_a_loop():
    model = build_gpt()
    x = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(0))
    stacked = {name: torch.stack([p, 2 * p]) for name, p in model.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = vmap(lambda p: functional_call(model, p, (x,)))(stacked)
    for i, outputs in enumerate(together):
        alone = functional_call(model, {name: p[i] for name, p in stacked.items()}, (x,))
        torch.testing.assert_close(outputs, alone)


def test_gpt_says_what_is_wrong():
    with pytest.raises(InputError, match="width 9 must be a multiple of heads 2"):
        GPT(11, 6, 9, 2, 2)
    with pytest.raises(InputError, match="vocabulary, context, width, heads, layers"):
        GPT(11, 6, 8, 2, 0)
