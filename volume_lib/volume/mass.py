r"""The log mass of a visible region by rays, from the radii of a sweep, at no further evaluation.

Along a unit direction ĝ the region reaches from θ to ``θ + r·S·ĝ``; under the reference ``μ = N(0, diag σ²)``

    log_mass_rays = log mean over directions of ∫₀^r μ(θ + ρ·S·ĝ) ρ^(n−1) dρ · area(S^(n−1)) · det S.

It is the number that :func:`volume_lib.integration.integrate` measures of the visible region (Scherlis and
Belrose 2025), and like every mean over directions it is carried by few of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from volume_lib.errors import InputError
from volume_lib.records import Sweep
from volume_lib.volume.diagnostics import bootstrap_interval, effective_directions, log_mean

_DEPTH = 45.0
"""Nats below its peak at which an integrand is left out."""


class RayMass(NamedTuple):
    """``log_mass`` in nats, its 95 % bootstrap ``interval``, and how many directions carry it."""

    log_mass: float
    interval: tuple[float, float]
    effective_directions: float


UNKNOWN = RayMass(math.nan, (math.nan, math.nan), math.nan)
"""Of a sweep whose file does not say enough."""


def ray_mass(
    sweep: Sweep,
    radii: np.ndarray,
    reference: str | float = "init",
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> RayMass:
    """The log mass by rays of a sweep's minimum, from threshold ``radii`` (D,) of its directions.

    ``reference``: ``"init"``, ``"rms"`` or a width, as :mod:`volume_lib.rays.reference` has them. Whatever
    the scaling, nothing is evaluated or drawn. :data:`UNKNOWN` where the file does not say which tensors
    moved (:func:`volume_lib.sweep.older` finds that again for older files), how wide they are at
    initialisation, or the scaling's determinant.
    """
    thetas = [np.asarray(sweep.state_dict[name], dtype=np.float64).ravel() for name in sweep.moved]
    widths = _widths(sweep, thetas, reference)
    if not thetas or widths is None or math.isnan(sweep.log_det_scaling):
        return UNKNOWN
    slopes, bends = (np.array([ray[key] for ray in sweep.wiggle_results]) for key in ("slopes", "bends"))
    norms = np.array([ray["perturbation_norm"] for ray in sweep.wiggle_results])
    log_det = sweep.log_det_scaling - sum(
        len(theta) * math.log(width) for theta, width in zip(thetas, widths, strict=True)
    )
    square = sum(float(theta @ theta) / width**2 for theta, width in zip(thetas, widths, strict=True))
    return log_mass_rays(
        radii,
        slopes @ widths**-2.0 / norms,
        bends @ widths**-2.0 / norms**2,
        square,
        log_det,
        sweep.num_params,
        bootstrap=bootstrap,
        seed=seed,
    )


def _widths(sweep: Sweep, thetas: list[np.ndarray], reference: str | float) -> np.ndarray | None:
    """The reference's width of each moved tensor (P,); None where there is no telling."""
    if reference == "init":
        return np.array(sweep.init_widths) if sweep.init_widths else None
    if reference == "rms":
        square = sum(float(theta @ theta) for theta in thetas)
        return np.full(len(thetas), math.sqrt(square / sweep.num_params)) if square > 0 else None
    if isinstance(reference, str) or not (reference > 0 and math.isfinite(reference)):
        raise InputError(f"reference {reference!r}: must be init, rms or a positive number")
    return np.full(len(thetas), float(reference))


def log_mass_rays(
    radii: np.ndarray,
    slope: np.ndarray,
    bend: np.ndarray,
    square: float,
    log_det: float,
    n: int,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> RayMass:
    """The log mass in ``n`` dimensions from threshold ``radii`` (D,) and the reference along each ray.

    With ``u = S·ĝ/σ`` of a direction and ``x₀ = θ/σ``: ``slope`` (D,) is ``u·x₀``, ``bend`` (D,) is
    ``‖u‖²``, ``square`` is ``‖x₀‖²`` and ``log_det`` is ``log det S/σ``. Raises :class:`InputError` where
    lengths do not agree.

    One standard deviation to either side, in one dimension:

    >>> found = log_mass_rays(np.ones(2), np.zeros(2), np.ones(2), 0.0, 0.0, 1)
    >>> bool(np.isclose(np.exp(found.log_mass), math.erf(1 / math.sqrt(2))))
    True
    """
    if not len(radii) == len(slope) == len(bend) > 0:
        raise InputError("log_mass_rays: needs one radius, slope and bend for each direction")
    area = math.log(2) + 0.5 * n * math.log(math.pi) - math.lgamma(0.5 * n)
    constant = area - 0.5 * n * math.log(2 * math.pi) - 0.5 * square + log_det
    logs = constant + log_radial(np.asarray(radii, dtype=np.float64), slope, bend, n)
    low, high = bootstrap_interval(logs, bootstrap, np.random.default_rng(seed))
    return RayMass(log_mean(logs), (low, high), effective_directions(logs))


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
