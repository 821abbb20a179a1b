"""The log mass by rays, against Gaussian probabilities that are known exactly."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import chi2, ncx2

from volume_lib.errors import InputError
from volume_lib.volume import log_mass_rays


@pytest.mark.parametrize("n", [2, 50, 5000])
@pytest.mark.parametrize("radius", [0.3, 1.0, 3.0])
def test_a_ball_about_the_centre_of_the_reference_needs_one_direction(n, radius):
    r, sigma = radius * math.sqrt(n), torch.full((n,), 2.0)
    found = log_mass_rays(np.full(3, r), torch.randn(3, n), torch.zeros(n), torch.ones(n), sigma)
    exact = float(mpmath.log(mpmath.gammainc(n / 2, 0, r**2 / 8, regularized=True)))  # SciPy's underflows
    assert found.log_mass == pytest.approx(exact, abs=1e-6, rel=1e-9)
    assert found.effective_directions == pytest.approx(3)


def test_an_ellipsoid_in_its_own_scaling_is_exact_and_any_mean_is_seen():
    generator = torch.Generator().manual_seed(0)
    n, axes = 12, torch.linspace(0.5, 2.0, 12)
    directions = torch.randn(4, n, generator=generator)
    found = log_mass_rays(np.full(4, 3.0), directions, torch.zeros(n), axes, axes)
    assert found.log_mass == pytest.approx(chi2.logcdf(9.0, n), abs=1e-6)


def test_a_ball_beside_the_centre():
    n, start = 3, torch.tensor([0.5, 0.2, -0.4])
    directions = torch.randn(40_000, n, generator=torch.Generator().manual_seed(1))
    found = log_mass_rays(np.full(40_000, 1.2), directions, start, torch.ones(n), torch.ones(n))
    exact = ncx2.logcdf(1.44, n, float(start.square().sum()))
    assert found.interval[0] - 0.01 <= exact <= found.interval[1] + 0.01
    assert found.log_mass == pytest.approx(exact, abs=0.02)


def test_a_radius_of_zero_has_no_mass_and_lengths_must_agree():
    one = torch.ones(3)
    assert log_mass_rays(np.zeros(2), torch.randn(2, 3), one, one, one).log_mass == -math.inf
    with pytest.raises(InputError, match="radius"):
        log_mass_rays(np.ones(3), torch.randn(2, 3), one, one, one)
