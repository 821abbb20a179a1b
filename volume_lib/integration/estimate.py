r"""From averages along the path to a log mass: the integral of D over the path (what D is: :mod:`~.outward`,
:mod:`~.inward`), with its first step, an average over independent draws, and its last, to the region itself.

Two combinations of the samples have the average 0 whatever the loss, ``x·∇U − n`` and ``x₀·∇U``: what
correlates with them is taken out of D (control variates; Mira, Solgi and Imparato 2013).
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


def average(
    series: np.ndarray,
    loss: np.ndarray,
    samples: np.ndarray,
    point: Point,
    n: int,
    square: float,
    controls: bool = True,
) -> Average:
    """The mean of ``series`` (moves, chains), one value for each of ``samples`` (moves, chains, 5) in the
    order of :data:`COLUMNS`; ``loss``: theirs; ``square``: ‖x₀‖²."""
    kappa = point.k + 1
    x2, cross, _, virial, slope = np.moveaxis(samples, -1, 0)
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


def first_step(logs: np.ndarray) -> tuple[float, float]:
    """``log ⟨exp(logs)⟩`` over independent draws (G,), and its standard error."""
    weights = np.exp(logs - logs.max())
    return float(logsumexp(logs) - math.log(len(logs))), float(
        weights.std() / weights.mean() / math.sqrt(len(logs))
    )


def last_step(u: np.ndarray) -> tuple[float, float]:
    """``log ⟨exp(u)·1[u ≤ 0]⟩`` over samples ``u`` (moves, chains), and its error: the step from weights
    ``exp(−u)`` to the region u ≤ 0 itself.

    Counted directly where enough samples carry the average; where only their density just below 0
    matters, as in high dimension, from a Gaussian of their mean and spread.
    """
    weights = np.where(u <= 0, np.exp(np.minimum(u, 0)), 0.0)
    mean = weights.mean()
    error = standard_error(weights) / mean if mean > 0 else math.inf
    spread = max(float(u.std()), 1e-300)
    z = u.mean() / spread
    if error < 0.3 and spread < 30:
        return float(math.log(mean)), float(error)
    # ∫ N(u; zs, s²) eᵘ over u ≤ 0 is exp(zs + s²/2)·Φ(−z − s)
    value = z * spread + 0.5 * spread**2 + log_ndtr(-z - spread)
    shift = standard_error(u) / spread
    return float(value), float(math.hypot(abs(z) * shift + 0.5 * shift**2, 0.1 * abs(z**3 - 3 * z) + 0.1))


def quadrature(abscissa: np.ndarray) -> np.ndarray:
    """Weights (K,) of the integral of a cubic spline through the values at increasing ``abscissa`` (K,)."""
    count = len(abscissa)
    if count < 2:
        return np.zeros(count)
    spline = make_interp_spline(abscissa, np.eye(count), k=min(3, count - 1))
    return spline.integrate(abscissa[0], abscissa[-1])


def integral(
    abscissa: np.ndarray, values: np.ndarray, errors: np.ndarray
) -> tuple[float, float, float, np.ndarray]:
    """∫ D dlog κ, its standard error, what the spacing leaves open, and what each point contributes.

    ``abscissa`` increasing. The spacing's part is the change when every other point is left out, over 4.
    """
    weights = quadrature(abscissa)
    value = float(weights @ values)
    half = np.r_[np.arange(0, len(values) - 1, 2), len(values) - 1]
    coarse = quadrature(abscissa[half])
    change = abs(float(coarse @ values[half]) - value)
    error = math.sqrt(float((weights**2) @ errors**2))
    noise = math.sqrt(float((coarse**2) @ errors[half] ** 2))
    return value, error, max(0.0, change - noise) / 4, weights * values


def one_pass(
    grid: np.ndarray, averages: list[Average], first: tuple[float, float], last: tuple[float, float]
) -> Pass:
    """The log mass of one pass; ``grid`` (K,): the path's points, decreasing, in what is integrated over."""
    abscissa = grid[::-1]
    values = np.array([found.value for found in averages])[::-1]
    errors = np.array([found.error for found in averages])[::-1]
    area, error, spacing, parts = integral(abscissa, values, errors)
    total = first[0] - area + last[0]
    return Pass(total, math.sqrt(error**2 + first[1] ** 2 + last[1] ** 2), spacing, -parts[::-1])
