"""Rays: both evaluators against the definition in float64; nothing depends on chunks or batches."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from volume_lib import abilities
from volume_lib.parameters import num_moved, unflatten
from volume_lib.problems import get_problem
from volume_lib.problems.networks import CNN, GPT, MLP
from volume_lib.rays.directions import draw, draw_batch, norms, reproduce_direction
from volume_lib.rays.fast import FastRays
from volume_lib.rays.losses import PlainRays
from volume_lib.rays.scaling import compute_scale

SIZES = (3, 10, 33)


def images(number: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(number, *shape, generator=generator)
    return x, torch.randint(10, (number,), generator=generator)


class NoStem(nn.Module):
    """A user's model: nothing declared."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


MODELS = {
    "mlp": (partial(MLP, 12, [16, 8], 10), (3, 2, 2)),
    "cnn": (partial(CNN, 1, 8, [4, 6], 12, 10), (1, 8, 8)),
    "no_stem": (NoStem, (3, 2, 2)),
}


@pytest.fixture(params=MODELS)
def case(request):
    build, shape = MODELS[request.param]
    torch.manual_seed(0)
    return build(), *images(SIZES[-1], *shape)


def evaluate(rays, directions, coefficients, landscape=2, **options):
    rays.load(directions)
    return rays(np.arange(len(directions)), np.asarray(coefficients, dtype=float), landscape, **options)


def by_hand(model, x, y, direction, scale, c, sizes):
    """Losses and accuracies from the definition: float64, one landscape after another."""
    moved = copy.deepcopy(model).double()
    vector = (
        torch.cat([p.detach().reshape(-1) for p in moved.parameters()])
        + c * scale.double() * direction.double()
    )
    shapes = {name: p.shape for name, p in moved.named_parameters()}
    moved.load_state_dict(unflatten(vector, shapes))
    with torch.no_grad():
        outputs = moved(x.double())
    losses = [nn.functional.cross_entropy(outputs[:m], y[:m]).item() for m in sizes]
    return losses, [(outputs[:m].argmax(1) == y[:m]).double().mean().item() for m in sizes]


@pytest.mark.parametrize("evaluator", [PlainRays, FastRays])
def test_against_the_definition_in_float64(case, evaluator):
    model, x, y = case
    scale = compute_scale("filter", model)
    directions = draw_batch(range(5), len(scale))
    coefficients = [0.0, 0.01, 0.1, 0.3, 1.0]
    losses, accs = evaluate(
        evaluator(get_problem("mnist"), model, x, y, SIZES, scale), directions, coefficients
    )
    for row, c in enumerate(coefficients):
        expected_losses, expected_accs = by_hand(model, x, y, directions[row], scale, c, SIZES)
        np.testing.assert_allclose(losses[row], expected_losses, rtol=2e-5)
        np.testing.assert_allclose(accs[row], expected_accs, atol=1e-12)


@pytest.mark.parametrize("budget", [1e9, 100])
@pytest.mark.parametrize("evaluator", [PlainRays, FastRays])
def test_a_tied_embedding_is_moved_once_in_both_its_uses(evaluator, budget):
    """The GPT against one full pass in float64 with every named parameter moved; small budget: no stem."""
    torch.manual_seed(0)
    model, problem = GPT(11, 6, 8, 2, 2), get_problem("shakespeare")
    with torch.no_grad():
        model.token_embedding.weight.mul_(10)  # as large as trained, so that both its uses count
    x, y = torch.randint(11, (2, SIZES[-1], 6), generator=torch.Generator().manual_seed(1))
    assert num_moved(model) == sum(p.numel() for p in model.parameters())  # 11·8 of them once
    scale = compute_scale("filter", model)
    directions, coefficients = draw_batch(range(3), len(scale)), [0.05, 0.2, 0.5]
    options = {"memory_budget": budget} if evaluator is FastRays else {}
    rays = evaluator(problem, model, x, y, SIZES, scale, **options)
    assert evaluator is PlainRays or (rays.stem_shape is not None) == (budget > 100)
    losses, accs = evaluate(rays, directions, coefficients)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    start = torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).double()
    for row, c in enumerate(coefficients):
        vector = start + c * scale.double() * directions[row].double()
        with torch.no_grad():
            outputs = torch.func.functional_call(copy.deepcopy(model).double(), unflatten(vector, shapes), x)
        for column, size in enumerate(SIZES):
            loss = nn.functional.cross_entropy(outputs[:size].flatten(0, 1), y[:size].flatten()).item()
            assert losses[row, column] == pytest.approx(loss, rel=1e-5)
            hits = (outputs[:size].argmax(-1) == y[:size]).double().mean().item()
            assert accs[row, column] == pytest.approx(hits, abs=1e-6)


def test_the_precise_twin_has_float64_digits(case):
    model, x, y = case
    scale = compute_scale("filter", model)
    directions = draw_batch(range(3), len(scale))
    losses, _ = evaluate(
        FastRays(get_problem("mnist"), model, x, y, SIZES, scale), directions, [0.05, 0.1, 0.2], precise=True
    )
    for row, c in enumerate([0.05, 0.1, 0.2]):
        expected, _ = by_hand(model, x, y, directions[row], scale, c, SIZES)
        np.testing.assert_allclose(losses[row], expected, rtol=1e-12)


def test_strided_means_are_means_over_every_sth_sample(case):
    model, x, y = case
    scale = compute_scale("none", model)
    directions = draw_batch([4], len(scale))
    for evaluator in (PlainRays, FastRays):
        rays = evaluator(get_problem("mnist"), model, x, y, SIZES, scale)
        losses, accs = evaluate(rays, directions, [0.1], stride=4)
        strided = evaluator(get_problem("mnist"), model, x[::4], y[::4], (9,), scale)
        expected, expected_accs = evaluate(strided, directions, [0.1], landscape=0)
        np.testing.assert_allclose(losses[0, 2], expected[0, 0], rtol=1e-5)
        np.testing.assert_allclose(accs[0, 2], expected_accs[0, 0])


@pytest.mark.parametrize("elements", [64, 1000, 2**20])
def test_chunks_and_batches_change_nothing(case, elements, monkeypatch):
    model, x, y = case
    scale = compute_scale("filter", model)
    directions = draw_batch(range(7), len(scale))
    coefficients = np.linspace(0.02, 0.3, 7)
    reference, accs = evaluate(
        FastRays(get_problem("mnist"), model.double(), x.double(), y, SIZES, scale), directions, coefficients
    )
    monkeypatch.setattr(abilities, "BATCH_ELEMENTS", elements)
    rays = FastRays(get_problem("mnist"), model, x.double(), y, SIZES, scale)
    losses, chunked_accs = evaluate(rays, directions, coefficients)
    np.testing.assert_allclose(losses, reference, rtol=1e-12)
    np.testing.assert_array_equal(chunked_accs, accs)
    one, _ = evaluate(rays, directions[3:4], coefficients[3:4])
    np.testing.assert_allclose(one[0], reference[3], rtol=1e-12)
    rays.load(directions)
    some, _ = rays(np.array([1, 4, 6]), coefficients[[1, 4, 6]], 1)
    np.testing.assert_allclose(some, reference[[1, 4, 6], :2], rtol=1e-12)


def test_a_stem_too_large_for_the_budget_takes_the_general_path():
    model = MLP(12, [16], 10)
    x, y = images(33, 12)
    scale = compute_scale("filter", model)
    problem = get_problem("mnist")
    small = FastRays(problem, model, x, y, SIZES, scale, memory_budget=100)
    large = FastRays(problem, model, x, y, SIZES, scale)
    assert small.stem_shape is None and large.stem_shape is not None
    directions = draw_batch(range(4), len(scale))
    for a, b in zip(
        evaluate(small, directions, [0.1] * 4), evaluate(large, directions, [0.1] * 4), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_seed_means_one_direction_alone_or_in_a_batch():
    batch = draw_batch([5, 17, 2**40], 1000)
    for row, seed in enumerate([5, 17, 2**40]):
        assert torch.equal(batch[row], draw(seed, 1000))
    np.testing.assert_allclose(
        norms(batch).numpy(), np.linalg.norm(batch.double().numpy(), axis=1), rtol=1e-12
    )
    model = MLP(4, [3], 2)
    parts = reproduce_direction(5, model)
    assert torch.equal(torch.cat([part.reshape(-1) for part in parts.values()]), draw(5, num_moved(model)))


@pytest.mark.parametrize("sizes", [[], [0, 3], [3, 3], [10, 3], [3, 40]])
def test_impossible_sizes_are_refused(sizes):
    model = MLP(12, [4], 10)
    x, y = images(33, 12)
    with pytest.raises((ValueError, IndexError)):
        PlainRays(get_problem("mnist"), model, x, y, sizes, compute_scale("none", model))
