import math

import numpy as np
import pytest
import torch
from curvlinops import GGNLinearOperator
from torch import nn

from volume_lib.errors import InputError
from volume_lib.problems.images import Mnist
from volume_lib.problems.networks import CNN, MLP
from volume_lib.problems.swiss_roll import SwissRoll
from volume_lib.rays import curvature
from volume_lib.rays.scaling import compute_scale, filter_scale, log_det
from volume_lib.validation.bodies import box, log_spectrum, quadratic_bowl


def classifier(seed=0, samples=12):
    torch.manual_seed(seed)
    return MLP(4, [5], 3), torch.randn(samples, 4), torch.randint(3, (samples,))


def dense_diagonal(model, problem, x, y):
    loss = curvature._MeanLoss(problem)
    matrix = GGNLinearOperator(model, loss, list(model.parameters()), [(x, y)])
    return (matrix @ torch.eye(matrix.shape[1])).diagonal().double()


def mean_estimate(model, problem, x, y, draws):
    """Mean and standard error of repeated estimates, both (n,)."""
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([curvature.ggn_diagonal(model, problem, x, y, generator) for _ in range(draws)])
    return found.mean(0), found.std(0) / math.sqrt(draws)


def test_the_diagonal_is_that_of_the_dense_gauss_newton_matrix():
    model, x, y = classifier()
    exact = dense_diagonal(model, Mnist(), x, y)
    mean, error = mean_estimate(model, Mnist(), x, y, 400)
    assert ((mean - exact).abs() <= 5 * error + 1e-6 * exact.max()).all()
    assert error.sum() < 0.1 * exact.sum()  # small enough for that to say something


def test_the_diagonal_of_a_binary_problem_needs_no_average():
    torch.manual_seed(0)
    model, x, y = MLP(2, [6], 1), torch.randn(9, 2), torch.randint(2, (9,))
    found = curvature.ggn_diagonal(model, SwissRoll(), x, y, torch.Generator())
    torch.testing.assert_close(found, dense_diagonal(model, SwissRoll(), x, y), rtol=1e-5, atol=1e-9)


def test_samples_that_are_fitted_to_many_digits_keep_their_curvature():
    model, x, y = classifier()
    with torch.no_grad():
        model.layers[-1].weight *= 300
        model.layers[-1].bias *= 300
        y = model(x).argmax(1)  # losses down to e^-100, curvatures too
    found = curvature.ggn_diagonal(model, Mnist(), x[:1], y[:1], torch.Generator())
    assert found.max() < 1e-20
    assert (found > 0).sum() > len(found) / 2


def test_many_outputs_take_the_way_of_matrix_vector_products(monkeypatch):
    model, x, y = classifier()
    monkeypatch.setattr(curvature, "MAX_OUTPUTS", 2)
    exact = dense_diagonal(model, Mnist(), x, y)
    mean, error = mean_estimate(model, Mnist(), x, y, 500)
    rows = exact[:20].reshape(5, 4).mean(1)
    torch.testing.assert_close(mean[:20].reshape(5, 4), mean[:20].reshape(5, 4)[:, :1].expand(-1, 4))
    # Cutting negative estimates off raises the mean: it is an upper bound of the row's, of its size.
    pooled = mean[:20:4]
    assert (pooled >= rows - 5 * error[:20:4]).all()
    assert (pooled <= 3 * rows + 5 * error[:20:4]).all()


@pytest.mark.parametrize(("n", "decades"), [(2, 0), (2, 6), (40, 3), (256, 6), (300, 6)])
def test_a_bowl_gets_the_inverse_root_of_its_spectrum(n, decades):
    spectrum = 100 * log_spectrum(n, decades)
    bowl = quadratic_bowl(spectrum)
    data = bowl.dataset()
    scale = compute_scale("curvature", bowl.minimum().model, bowl, *data.upto(0))
    expected = spectrum**-0.5 / np.exp(np.mean(np.log(spectrum**-0.5)))
    assert scale.numpy() == pytest.approx(expected, rel=1e-6)


def test_without_curvature_the_filter_scaling_remains():
    body = box([1.0, 2.0, 5.0])
    scale = compute_scale("curvature", body.minimum().model, body, *body.dataset().upto(0))
    assert (scale / scale[0]).tolist() == pytest.approx([1, 1, 1])


def test_a_parameter_that_does_nothing_moves_as_in_filter_scaling():
    torch.manual_seed(0)
    model, x, y = classifier(samples=40)
    x[:, 1] = 0  # the second input is never there
    scale = compute_scale("curvature", model, Mnist(), x, y)
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()
    assert log_det(scale) == pytest.approx(0, abs=1e-4)  # so that log E[r^n] compares between minima
    silent = scale[:20].reshape(5, 4)[:, 1]
    ratio = silent / filter_scale(model)[:20].reshape(5, 4)[:, 1]
    assert ratio.tolist() == pytest.approx([float(ratio[0])] * 5, rel=1e-5)


@pytest.mark.parametrize("make", [lambda: MLP(16, [8], 10), lambda: CNN(1, 4, [3], 5, 10)])
def test_it_is_seeded_and_leaves_model_and_random_state_alone(make):
    torch.manual_seed(0)
    model, x, y = make(), torch.randn(20, 1, 4, 4), torch.randint(10, (20,))
    before = [p.clone() for p in model.parameters()]
    state = torch.random.get_rng_state()
    scale = compute_scale("curvature", model, Mnist(), x, y)
    assert torch.equal(scale, compute_scale("curvature", model, Mnist(), x, y))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(p.requires_grad for p in model.parameters())


def test_it_evens_out_what_the_parameters_do():
    """Two inputs, one a thousand times the other: the loss rises alike along either weight."""
    torch.manual_seed(0)
    x = torch.randn(200, 2) * torch.tensor([1000.0, 1.0])
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1e-3, 1.0]]))
    y = (torch.rand(200) < model(x).sigmoid()[:, 0].detach()).long()
    scale = compute_scale("curvature", model, SwissRoll(), x, y)
    assert scale[1] / scale[0] == pytest.approx(1000, rel=0.3)


def test_a_network_that_diverged_does_not_stop_the_sweep():
    model, x, y = classifier()
    with torch.no_grad():
        model.layers[0].weight[0, 0] = math.nan
    scale = compute_scale("curvature", model, Mnist(), x, y)
    assert (scale > 0).all()


def test_it_needs_the_data():
    with pytest.raises(InputError, match="needs the problem, x and y"):
        compute_scale("curvature", nn.Linear(2, 1))
