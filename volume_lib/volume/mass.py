r"""The log mass of a visible region by rays, from the radii of a sweep, at no further evaluation.

Along a unit direction ĝ the region reaches from θ to ``θ + r·S·ĝ``; under the reference ``μ = N(0, diag σ²)``

    log_mass_rays = log mean over directions of ∫₀^r μ(θ + ρ·S·ĝ) ρ^(n−1) dρ · area(S^(n−1)) · det S.

It is the number that :func:`volume_lib.integration.integrate` measures of the visible region (Scherlis and
Belrose 2025), and like every mean over directions it is carried by few of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.volume.diagnostics import bootstrap_interval, effective_directions

_DEPTH = 45.0
"""Nats below its peak at which an integrand is left out."""


class RayMass(NamedTuple):
    """``log_mass`` in nats, its 95 % bootstrap ``interval``, and how many directions carry it."""

    log_mass: float
    interval: tuple[float, float]
    effective_directions: float


def log_mass_rays(
    radii: np.ndarray,
    directions: Iterable[Tensor],
    theta: Tensor,
    scale: Tensor,
    sigma: Tensor,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> RayMass:
    """The log mass from threshold ``radii`` (D,) along ``directions`` (D, n), as a sweep's seeds draw them: a
    tensor, or one vector after the other, so that large networks need not hold them all.

    ``theta`` (n,): the minimum; ``scale`` (n,): the diagonal of the scaling; ``sigma`` (n,): the reference's
    widths. Raises :class:`InputError` where their lengths do not agree.
    """
    count, n = len(radii), len(theta)
    told = "log_mass_rays: needs one radius per direction, and theta, scale and sigma of its length"
    if len(scale) != n or len(sigma) != n:
        raise InputError(told)
    x0, unit_scale = theta.double() / sigma.double(), scale.double() / sigma.double()
    slope, bend = np.empty(count), np.empty(count)
    drawn = 0
    for i, direction in enumerate(directions):
        if i >= count or len(direction) != n:
            raise InputError(told)
        drawn += 1
        u = direction.double() / torch.linalg.vector_norm(direction.double()) * unit_scale
        slope[i], bend[i] = float(u @ x0), float(u @ u)
    if drawn != count:
        raise InputError(told)
    area = math.log(2) + 0.5 * n * math.log(math.pi) - math.lgamma(0.5 * n)
    constant = area - 0.5 * n * math.log(2 * math.pi) - 0.5 * float(x0 @ x0) + float(unit_scale.log().sum())
    logs = constant + log_radial(np.asarray(radii, dtype=np.float64), slope, bend, n)
    low, high = bootstrap_interval(logs, bootstrap, np.random.default_rng(seed))
    return RayMass(float(logsumexp(logs) - math.log(count)), (low, high), effective_directions(logs))


def log_radial(radii: np.ndarray, slope: np.ndarray, bend: np.ndarray, n: int) -> np.ndarray:
    """``log ∫₀^r exp(−slope·ρ − ½·bend·ρ²) ρ^(n−1) dρ`` for every ray (D,); ``-inf`` for a radius of 0.

    With t = log ρ the integrand has one peak; 8 panels of 20 Gauss-Legendre points cover all that lies
    within :data:`_DEPTH` nats of it.
    """
    with np.errstate(divide="ignore"):
        end = np.log(radii)

    def height(t: np.ndarray) -> np.ndarray:
        return n * t - slope * np.exp(t) - 0.5 * bend * np.exp(2 * t)

    root = np.sqrt(slope**2 + 4 * bend * n)
    # of the two forms of the quadratic's root, the one that does not cancel
    top = np.log(np.where(slope > 0, 2 * n / (root + np.abs(slope)), (root + np.abs(slope)) / (2 * bend)))
    alive = np.isfinite(end)
    peak = np.where(alive, np.minimum(top, end), top)
    level = height(peak) - _DEPTH
    left, right = peak - _reach(height, peak, level, -1), peak + _reach(height, peak, level, 1)
    right = np.where(alive, np.minimum(right, end), right)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    steps = (np.arange(8)[:, None] + (nodes + 1) / 2).ravel() / 8
    values = np.stack([height(left + (right - left) * step) for step in steps])
    logs = logsumexp(values, axis=0, b=np.tile(weights / 2, 8)[:, None] / 8)
    with np.errstate(divide="ignore"):
        return np.where(alive, logs + np.log(right - left), -np.inf)


def _reach(height, peak: np.ndarray, level: np.ndarray, sign: int) -> np.ndarray:
    """How far from the peak the integrand falls below ``level``, by bisection between powers of two."""
    low, high = np.zeros_like(peak), np.full_like(peak, 1e-9)
    for _ in range(60):
        short = height(peak + sign * np.minimum(high, 300)) > level
        if not short.any():
            break
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
    for _ in range(30):
        middle = (low + high) / 2
        short = height(peak + sign * np.minimum(middle, 300)) > level
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.minimum(high, 300)
