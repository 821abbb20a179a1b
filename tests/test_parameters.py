"""Which parameters move: the user's choice, in sweeps and in training alike."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from volume_lib.errors import InputError
from volume_lib.parameters import (
    choose,
    copied,
    describe_moved,
    frozen_names,
    moved_names,
    num_moved,
    place,
)
from volume_lib.problems import get_problem, problem_names
from volume_lib.problems.networks import CNN, MLP
from volume_lib.rays.directions import draw_batch
from volume_lib.rays.fast import FastRays
from volume_lib.rays.losses import PlainRays
from volume_lib.rays.scaling import compute_scale
from volume_lib.training.loop import Fit, Trainee
from volume_lib.training.section import TrainSettings


class Named(nn.Module):
    """Names without weight or bias, a frozen layer, a buffer."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 4))
        self.backbone = nn.Linear(4, 4).requires_grad_(False)
        self.gamma = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("running_weight", torch.ones(4))

    def forward(self, x):
        return self.backbone(x + self.cls_token) * self.gamma


class Tied(nn.Module):
    """Two parameters of one memory, a third of its own."""

    def __init__(self, rows=slice(None)):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = nn.Parameter(self.first.weight.detach()[rows])

    def forward(self, x):
        return self.second(self.first(x))


def test_what_requires_a_gradient_moves_whatever_its_name():
    model = Named()
    assert moved_names(model) == ["cls_token", "gamma"] and num_moved(model) == 5
    assert frozen_names(model) == ["backbone.weight", "backbone.bias"]
    assert describe_moved(model) == "moved: 5 (cls_token, gamma); frozen: 20 (backbone.weight, backbone.bias)"


def test_shipped_networks_keep_their_counts():
    for name in problem_names():
        problem = get_problem(name)
        for kind in problem.model_classes:
            model = problem.build_model({}, 0, kind)
            assert num_moved(model) == sum(p.numel() for n, p in model.named_parameters())
            assert all("weight" in n or "bias" in n for n in moved_names(model))


@pytest.mark.parametrize(
    "wanted, names",
    [
        ("backbone.*", ["backbone.weight", "backbone.bias"]),
        (["gamma", "*.bias"], ["gamma", "backbone.bias"]),
        (lambda name, p: p.dim() == 2, ["cls_token", "backbone.weight"]),
    ],
)
def test_names_patterns_and_predicates_choose(wanted, names):
    model = Named()
    assert sorted(choose(model, wanted)) == sorted(names)
    twin = copied(model, wanted)
    assert sorted(moved_names(twin)) == sorted(names)
    assert moved_names(model) == ["cls_token", "gamma"]  # the user's own is as it was


@pytest.mark.parametrize(
    "wanted, message",
    [
        ("backbon.weight", r'parameters "backbon.weight": Named has none .*did you mean "backbone.weight"'),
        (lambda name, p: False, "none of Named's is chosen"),
        ([], "none of Named's is chosen"),
    ],
)
def test_a_choice_of_nothing_is_refused(wanted, message):
    with pytest.raises(InputError, match=message):
        choose(Named(), wanted)


def test_parameters_that_cannot_move_are_named():
    model = Named()
    model.codes = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    assert "codes" in frozen_names(model)
    with pytest.raises(InputError, match="parameter codes: holds int8"):
        choose(model, "codes")
    model.phase = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    with pytest.raises(InputError, match="parameter phase: holds complex64"):
        moved_names(model)
    with pytest.raises(InputError, match="no parameter requires a gradient"):
        moved_names(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(InputError, match=r"parameter weight: is not initialised.*run the model once"):
        moved_names(nn.LazyLinear(2))


def test_parameters_of_one_memory_move_once_and_together():
    model = Tied()
    assert moved_names(model) == ["first.weight", "first.bias"] and num_moved(model) == 20
    assert choose(model, "second.weight") == ["first.weight"]
    twin = copied(model)
    place(twin, torch.arange(20.0))
    assert torch.equal(twin.second.weight.flatten(), torch.arange(16.0))
    assert not torch.equal(model.first.weight, twin.first.weight)


def test_parameters_that_overlap_in_part_are_refused():
    with pytest.raises(InputError, match=r"first.weight and second.weight overlap"):
        moved_names(Tied(rows=slice(0, 3)))
    apart = nn.Module()
    whole = torch.randn(4, 6)  # columns of one matrix: their ranges in memory overlap, they do not
    apart.a, apart.b = nn.Parameter(whole[:, :3]), nn.Parameter(whole[:, 3:])
    assert num_moved(apart) == 24


def by_definition(model, x, y, names, delta, c):
    """The loss in float64 with the named parameters moved by ``c·delta``, all others left."""
    double = copy.deepcopy(model).double()
    parameters = dict(double.named_parameters())
    moved, start = {}, 0
    for name in names:
        size = parameters[name].numel()
        step = delta[start : start + size].double().view(parameters[name].shape)
        moved[name] = parameters[name].detach() + c * step
        start += size
    return nn.functional.cross_entropy(functional_call(double, moved, (x.double(),)), y).item()


FROZEN = {
    "stem": ["layers.0.weight", "layers.0.bias"],
    "stem bias": ["layers.0.bias"],
    "tail": ["layers.1.weight", "layers.2.bias"],
    "conv bias": ["convolutions.0.bias", "layers.0.weight"],
}


@pytest.mark.parametrize("which", FROZEN)
@pytest.mark.parametrize("evaluator", [PlainRays, FastRays])
def test_rays_leave_frozen_parameters_alone(evaluator, which):
    generator = torch.Generator().manual_seed(0)
    model = CNN(1, 4, [3], 6, 5) if which == "conv bias" else MLP(16, [8, 6], 5)
    x = torch.randn(20, 1, 4, 4, generator=generator)
    y = torch.randint(5, (20,), generator=generator)
    for name in FROZEN[which]:
        model.get_parameter(name).requires_grad_(False)
    names = [n for n, _ in model.named_parameters() if n not in FROZEN[which]]
    assert moved_names(model) == names
    scale = compute_scale("filter", model)
    directions = draw_batch(range(4), len(scale))
    rays = evaluator(get_problem("mnist"), model, x, y, [20], scale)
    rays.load(directions)
    coefficients = np.array([0.1, 0.3, 0.7, 2.0])
    for precise in (False, evaluator is FastRays):
        losses, _ = rays(np.arange(4), coefficients, 0, precise=precise)
        for row, c in enumerate(coefficients):
            expected = by_definition(model, x, y, names, directions[row].double() * scale.double(), c)
            assert losses[row, 0] == pytest.approx(expected, rel=1e-11 if precise else 2e-5)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["stacked_forward", "vmap", "tied"])
def test_training_leaves_frozen_parameters_bit_for_bit(kind, count):
    """Each of several models has frozen values of its own; the first ends before the others."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 4, generator=generator)
    y = torch.randint(4, (12,), generator=generator)
    models, ended = [], {}
    for seed in range(count):
        torch.manual_seed(seed)
        model = {"stacked_forward": lambda: MLP(4, [6], 4), "vmap": Named, "tied": Tied}[kind]()
        if kind == "stacked_forward":
            model.layers[0].weight.requires_grad_(False)
        if kind == "tied":
            model.first.bias.requires_grad_(False)
        models.append(model)
    before = [copy.deepcopy(model.state_dict()) for model in models]
    trainees = [Trainee(f"{i}", model, 12, 5, [2 + i], 2 + i, seed=i) for i, model in enumerate(models)]
    settings = TrainSettings(
        optimizer="adamw", learning_rate=0.1, weight_decay=0.1, sam_rho=0.01, target_train_loss=None
    )
    keep = lambda trainee, epoch, state: ended.update({int(trainee.name): state})  # noqa: E731
    Fit(get_problem("mnist"), trainees, (x, y, x, y), settings, keep, lambda *_: None).run()
    frozen = frozen_names(models[0])
    for i in range(count):
        for name, value in before[i].items():
            same = torch.equal(value, ended[i][name])
            assert same == (name in frozen or name == "running_weight"), (i, name)
        if kind == "tied":
            assert torch.equal(ended[i]["first.weight"], ended[i]["second.weight"])
    together = dict(ended)
    alone = Trainee("0", models[-1], 12, 5, [1 + count], 1 + count, seed=count - 1)
    models[-1].load_state_dict(before[-1])
    Fit(get_problem("mnist"), [alone], (x, y, x, y), settings, keep, lambda *_: None).run()
    for name, value in ended[0].items():
        torch.testing.assert_close(value, together[count - 1][name], rtol=1e-4, atol=1e-5)
