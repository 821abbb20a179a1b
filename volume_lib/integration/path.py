"""Where a path's points lie, and draws of the Gaussians that it begins with."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.integration.sampler import Landscape, Prior

DRAWS = 64
"""Independent draws, at least, behind the first step of the path."""
WIDEST, CLOSEST = 1.5, 0.2
"""Spacing of the path's points in log κ."""


def gaussian(prior: Prior, k: float, chains: int, generator: torch.Generator) -> Tensor:
    """Independent draws (chains, n) of the reference times ``exp(−½k‖x‖²)``."""
    x0, kappa = prior.x0, k + 1
    noise = torch.randn(chains, len(x0), generator=generator, device=x0.device, dtype=x0.dtype)
    return noise / math.sqrt(kappa) - x0 / kappa


def gaussian_losses(
    landscape: Landscape, prior: Prior, k: float, chains: int, generator: torch.Generator, draws: int = DRAWS
) -> np.ndarray:
    """Losses of at least ``draws`` such draws."""
    rounds = -(-draws // chains)
    return np.concatenate(
        [landscape(gaussian(prior, k, chains, generator))[0].cpu().numpy() for _ in range(rounds)]
    )


def start_of(
    landscape: Landscape, prior: Prior, beta: float, chains: int, generator: torch.Generator, spread: float
) -> float:
    """A k, within a factor 2 of the smallest, at which β·L varies by at most ``spread`` over the Gaussian's
    draws, and from the minimum to them: on a plain around it, it does not vary either."""
    zero = torch.zeros(chains, len(prior.x0), device=prior.x0.device, dtype=prior.x0.dtype)
    lowest = beta * float(landscape(zero)[0][0])

    def calm(k: float) -> bool:
        losses = beta * gaussian_losses(landscape, prior, k, chains, generator, 16)
        return bool(
            np.isfinite(losses).all() and np.hypot(losses.std(), losses.mean() - lowest) <= 2 * spread
        )

    k = 1.0
    while not calm(k):
        k *= 16
        if k > 1e30:
            raise InputError("loss: varies without end around the minimum; the path to it has no beginning")
    while k > 2 and calm(k / 2):
        k /= 2
    return k


def even(k_max: float, spacing: float) -> np.ndarray:
    """log κ from that of ``k_max`` down to 0, evenly spaced."""
    top = math.log1p(k_max)
    return np.linspace(top, 0.0, max(8, math.ceil(top / spacing) + 1))


def refine(grid: np.ndarray, values: np.ndarray, tolerance: float, most: int) -> np.ndarray:
    """New points, decreasing like ``grid``: close where ``values`` (D) bend.

    A trapezoid of width h misses ``h³|D″|/12``: h is chosen for ``tolerance`` nats each, between
    :data:`CLOSEST` and :data:`WIDEST`, and at most ``most`` points in all.
    """
    u, d = grid[::-1], values[::-1]
    grid = np.linspace(u[0], u[-1], 400)
    bend = np.abs(np.gradient(np.gradient(np.interp(grid, u, smooth(d)), grid), grid))
    width = max(3, int(400 * 0.8 / max(u[-1] - u[0], 1e-9)))
    bend = np.convolve(np.pad(bend, width, mode="edge"), np.ones(2 * width + 1) / (2 * width + 1), "valid")
    density = 1 / np.clip((12 * tolerance / np.maximum(bend, 1e-12)) ** (1 / 3), CLOSEST, WIDEST)
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
    count = int(np.clip(math.ceil(total[-1]) + 1, 6, most))
    return np.interp(np.linspace(0, total[-1], count), total, grid)[::-1].copy()


def smooth(values: np.ndarray) -> np.ndarray:
    """A running mean of three, its ends as they are: noise is no bend."""
    middle = (values[:-2] + 2 * values[1:-1] + values[2:]) / 4
    return np.concatenate([values[:1], middle, values[-1:]])


def pulls(grid: np.ndarray) -> list[float]:
    """The pulls k at these log κ (decreasing; the last is k = 0)."""
    return [max(0.0, math.expm1(u)) for u in grid[:-1]] + [0.0]
