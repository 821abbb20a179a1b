"""One ReLU network written with other weights: what of its volume stays, against what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from volume_lib.errors import InputError
from volume_lib.measuring.invariance import measure_rewritten, rewrite, table

FACTORS = [0.25, 1, 3]


@pytest.fixture(scope="module")
def network():
    """A network of random weights and targets that are its own outputs: a minimum of loss 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2), nn.ReLU(), nn.Linear(2, 1))
    x = torch.randn(30, 3)
    return model, x, model(x).detach()


def measured(network, **settings):
    settings = {"loss": "mse", "threshold": 0.05, "directions": 40} | settings
    return measure_rewritten(*network, FACTORS, layers=("0", "2"), **settings)


def test_it_computes_the_same_with_other_weights(network):
    model, x, y = network
    made = rewrite(model, "0", "2", 7.0)
    torch.testing.assert_close(made(x), y, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(made[0].bias, 7 * model[0].bias)
    torch.testing.assert_close(made[2].weight, model[2].weight / 7)
    torch.testing.assert_close(made[2].bias, model[2].bias)


def test_filter_scaled_weights_keep_every_radius_and_the_log_volume_follows_the_determinant(network):
    found = measured(network, biases=False)
    first = found.volumes[FACTORS.index(1)].radii.radius
    for volume in found.volumes:
        np.testing.assert_allclose(volume.radii.radius, first, rtol=5e-4)  # xrtol_rest
    # 15 weights up, 10 down
    assert found.exact == pytest.approx([5 * math.log(f) for f in FACTORS])
    assert found.changes("log_exp_r_n") == pytest.approx([0, 0, 0], abs=1e-3)
    assert found.changes("log_volume") == pytest.approx(found.exact, abs=1e-3)


def test_biases_are_not_kept_and_nothing_is_without_scaling(network):
    of_all = measured(network)
    assert of_all.exact == pytest.approx([10 * math.log(f) for f in FACTORS])  # and five biases up
    for found in (of_all, measured(network, scaling="none")):
        others = [i for i in range(3) if FACTORS[i] != 1]
        assert all(abs(found.changes("log_exp_r_n")[i]) > 0.1 for i in others)
        assert all(abs(found.changes("log_volume")[i] - found.exact[i]) > 0.1 for i in others)


def test_the_log_mass_is_not_kept(network):
    changes = measured(network, biases=False).changes("log_mass_rays")
    assert all(math.isfinite(change) for change in changes)
    assert min(abs(change) for change, f in zip(changes, FACTORS, strict=True) if f != 1) > 1
    assert "log mass" in table([measured(network)])


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, True, "2"])
def test_what_cannot_be_is_one_line(network, wrong):
    with pytest.raises(InputError, match=r"factor .*: must be a positive number"):
        rewrite(network[0], "0", "2", wrong)


def test_layers_and_factors_are_checked(network):
    with pytest.raises(InputError, match="layer '1': has no weights; there are 0, 2, 4"):
        rewrite(network[0], "0", "1", 2)
    with pytest.raises(InputError, match="1, the network as it is, must be among them"):
        measure_rewritten(*network, [2], layers=("0", "2"), loss="mse")
