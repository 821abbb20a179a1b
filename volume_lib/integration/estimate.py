r"""From averages along the path to a log mass.

With ``κ = k + 1`` and ``F = log Z(k, β)/Z(k, 0)``, the ratio to the Gaussian without the loss,

    dF/d log κ = −D,   D = ½κ·(⟨‖x‖²⟩₀ − ⟨‖x‖²⟩),   ⟨‖x‖²⟩₀ = n/κ + ‖x₀‖²/κ²   (known),

so that ``log_mass = F(k_max) − ∫ D dlog κ`` from k = 0 to k_max, plus the last step from ``exp(−β(L − T))``
to ``1[L ≤ T]``. ``F(k_max)`` is an average over independent draws from the Gaussian itself.

Two combinations of the samples have the average 0 whatever the loss, ``x·∇U − n`` and ``x₀·∇U``: what
correlates with them is taken out of ‖x‖² (control variates; Mira, Solgi and Imparato 2013).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.special import log_ndtr, logsumexp

from volume_lib.integration.diagnostics import standard_error
from volume_lib.integration.sampler import Point

COLUMNS = ("square", "cross", "loss", "virial", "slope")
"""What is recorded of every sample: ‖x‖², x·x₀, L, x·∇L, x₀·∇L."""


class Average(NamedTuple):
    """``D`` at one point of the path, its standard error, and the mean and spread of the loss there."""

    value: float
    error: float
    loss: float
    spread: float


class Pass(NamedTuple):
    """One pass along the path: its log mass, standard error, and what the spacing of the points leaves
    open."""

    log_mass: float
    error: float
    spacing: float
    contributions: np.ndarray


def average(samples: np.ndarray, point: Point, n: int, square: float, *, controls: bool = True) -> Average:
    """``D`` from samples (moves, chains, 5) in the order of :data:`COLUMNS`; ``square``: ‖x₀‖²."""
    kappa = point.k + 1
    x2, cross, loss, virial, slope = np.moveaxis(samples, -1, 0)
    gaussian = n / kappa + square / kappa**2
    series = 0.5 * kappa * (gaussian - x2)
    if controls and series.size >= 24:
        zero = np.stack(
            [kappa * x2 + cross + point.beta * virial - n, kappa * cross + square + point.beta * slope],
            axis=-1,
        ).reshape(-1, 2)
        centred = zero - zero.mean(0)
        size = np.sqrt((centred**2).mean(0))
        use = size > 0
        if use.any():
            design = centred[:, use] / size[use]
            weights = np.linalg.lstsq(design, series.ravel() - series.mean(), rcond=1e-8)[0]
            series = series - ((zero[:, use] / size[use]) @ weights).reshape(series.shape)
    return Average(float(series.mean()), standard_error(series), float(loss.mean()), float(loss.std()))


def first_step(losses: np.ndarray, beta: float, threshold: float) -> tuple[float, float]:
    """``F(k_max)`` and its standard error from the losses (G,) of independent draws of the Gaussian."""
    logs = -beta * (losses - threshold)
    weights = np.exp(logs - logs.max())
    return float(logsumexp(logs) - math.log(len(logs))), float(
        weights.std() / weights.mean() / math.sqrt(len(logs))
    )


def last_step(losses: np.ndarray, beta: float, threshold: float) -> tuple[float, float]:
    """The log of the step from ``exp(−β(L − T))`` to ``1[L ≤ T]`` from samples (moves, chains), and its
    error.

    Counted directly where enough samples carry the average; where only the loss's density just below T
    matters, as in high dimension, from a Gaussian of the samples' mean and spread.
    """
    u = beta * (losses - threshold)
    weights = np.where(u <= 0, np.exp(np.minimum(u, 0)), 0.0)
    mean = weights.mean()
    error = standard_error(weights) / mean if mean > 0 else math.inf
    spread, z = u.std(), u.mean() / max(u.std(), 1e-300)
    if error < 0.3 and spread < 30:
        return float(math.log(mean)), float(error)
    # ∫ N(u; zs, s²) eᵘ over u ≤ 0 is exp(zs + s²/2)·Φ(−z − s)
    value = z * spread + 0.5 * spread**2 + log_ndtr(-z - spread)
    shift = standard_error(u) / spread
    return float(value), float(math.hypot(abs(z) * shift + 0.5 * shift**2, 0.1 * abs(z**3 - 3 * z) + 0.1))


def quadrature(log_kappa: np.ndarray) -> np.ndarray:
    """Weights (K,) of the integral of a cubic spline through the values at increasing ``log_kappa`` (K,)."""
    count = len(log_kappa)
    if count < 2:
        return np.zeros(count)
    spline = make_interp_spline(log_kappa, np.eye(count), k=min(3, count - 1))
    return spline.integrate(log_kappa[0], log_kappa[-1])


def integral(
    log_kappa: np.ndarray, values: np.ndarray, errors: np.ndarray
) -> tuple[float, float, float, np.ndarray]:
    """∫ D dlog κ, its standard error, what the spacing leaves open, and what each point contributes.

    ``log_kappa`` increasing. The spacing's part is the change when every other point is left out, over 4.
    """
    weights = quadrature(log_kappa)
    value = float(weights @ values)
    half = np.r_[np.arange(0, len(values) - 1, 2), len(values) - 1]
    coarse = quadrature(log_kappa[half])
    change = abs(float(coarse @ values[half]) - value)
    error = math.sqrt(float((weights**2) @ errors**2))
    noise = math.sqrt(float((coarse**2) @ errors[half] ** 2))
    return value, error, max(0.0, change - noise) / 4, weights * values


def one_pass(
    points: list[Point], averages: list[Average], first: tuple[float, float], last: tuple[float, float]
) -> Pass:
    """The log mass of one pass; ``points`` from large k to k = 0."""
    log_kappa = np.log([point.k + 1 for point in points])[::-1]
    values = np.array([found.value for found in averages])[::-1]
    errors = np.array([found.error for found in averages])[::-1]
    area, error, spacing, parts = integral(log_kappa, values, errors)
    total = first[0] - area + last[0]
    return Pass(total, math.sqrt(error**2 + first[1] ** 2 + last[1] ** 2), spacing, -parts[::-1])
