r"""What a sampler learns at a point of the path before anything is counted: its metric and its step size.

The metric of parameter i has precision ``k + 1 + c_i``: what the loss adds, ``c_i``, is learned from the spread of the
gradients and of the positions, and is carried from point to point, so that in a bowl it is right everywhere
once it is right anywhere. Two ways to learn it (``preconditioner``), and the same answer from both is a check:

- ``fisher``: the geometric mean of the gradient's variance and of the position's inverse variance, the
  diagonal of least Fisher divergence (as the sampler nutpie adapts).
- ``width``: the inverse variance of the positions alone.

Directions that remain stiff are learned from the gradients themselves, since at equilibrium
``⟨∇U ∇Uᵀ⟩ = ⟨∇²U⟩``: the eigenvectors of their covariance that stand out of its noise (Marchenko and Pastur's
edge), their eigenvalues freed of what the noise adds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from volume_lib.integration.sampler import Landscape, Metric, Point, Prior, State, force, step

PRECONDITIONERS = ("fisher", "width")
ACCEPT = 0.8
MOST_LEAPS = 200
LONGEST = math.pi / 2
"""A larger angle would pass the point where a Gaussian's trajectory forgets where it began."""
_TRUST = 20.0
"""Samples that what was known before weighs."""


class Settings(NamedTuple):
    """What is frozen while a point is counted."""

    metric: Metric
    size: float
    angle: float


class Learned(NamedTuple):
    """What is carried from point to point: ``stiffness`` (n,) the loss's part of each precision over beta, and the
    last ``gradients`` (G, n) of the loss."""

    stiffness: Tensor
    gradients: Tensor


def metric_at(
    point: Point, learned: Learned, prior: Prior, rank: int, stats: tuple[Tensor, Tensor] | None = None
) -> Metric:
    """The metric at ``point`` from what was learned; ``rank``: at most so many stiff directions."""
    diagonal = point.k + 1 + point.beta * learned.stiffness
    scale = diagonal.rsqrt()
    center = -prior.x0 / diagonal
    empty = Metric(scale, center, scale.new_zeros(len(scale), 0), scale.new_zeros(0))
    count = len(learned.gradients)
    if not rank or count < 16 or not point.beta:
        return empty
    rows = (learned.gradients - learned.gradients.mean(0)) * (scale * point.beta)
    values, vectors = torch.linalg.eigh((rows @ rows.T).double() / count)
    ratio = len(scale) / count
    edge = (1 + math.sqrt(ratio)) ** 2
    kept = (values > 2 * edge).nonzero().flatten()[-min(rank, count // 2) :]
    if not len(kept):
        return empty
    found = values[kept]
    half = found + 1 - ratio
    clean = 0.5 * (half + (half.square() - 4 * found).clamp_min(0).sqrt())
    basis = rows.T @ vectors[:, kept].to(rows)
    basis = torch.linalg.qr(basis / basis.norm(dim=0))[0]
    return Metric(scale, center, basis, clean.clamp_min(1.0).to(rows))


def adapt(
    landscape: Landscape,
    prior: Prior,
    point: Point,
    state: State,
    learned: Learned,
    size: float,
    threshold: float,
    generator: torch.Generator,
    *,
    moves: int,
    angle: float,
    rank: int,
    preconditioner: str,
    memory: int,
) -> tuple[State, Learned, Settings, int]:
    """Warm up at ``point`` and learn there; hand back the chains, what to carry on, and settings to freeze."""
    metric = metric_at(point, learned, prior, rank)
    spent, log_size, gradients, positions = 0, math.log(size), [], []
    halves = 2 if moves >= 8 else 1
    for half in range(halves):
        for move in range(moves // halves):
            size = min(LONGEST, math.exp(log_size))
            state, info = step(
                landscape, prior, point, metric, size, leaps_of(angle, size, generator), threshold, generator, state
            )
            spent += info.leaps
            rate = 0.5 if move < 4 else 0.2
            log_size += rate * (float(info.acceptance.mean()) - ACCEPT)
            log_size = min(max(log_size, math.log(1e-4)), math.log(LONGEST))
            positions.append(state.position)
            gradients.append(state.gradient)
        learned = learn(point, prior, learned, torch.cat(positions), torch.cat(gradients), preconditioner, memory)
        metric = metric_at(point, learned, prior, rank)
        positions, gradients = [], []
    return state, learned, Settings(metric, min(LONGEST, math.exp(log_size)), angle), spent


def learn(
    point: Point,
    prior: Prior,
    learned: Learned,
    positions: Tensor,
    gradients: Tensor,
    preconditioner: str,
    memory: int,
) -> Learned:
    """What positions and gradients (G, n) of some samples at ``point`` add to what was known."""
    if not point.beta:
        return learned
    count, kappa = len(positions), point.k + 1
    wide = positions.var(0, unbiased=False).clamp_min(1e-30)
    precision = 1 / wide
    if preconditioner == "fisher":
        slopes = force(State(positions, gradients[:, 0], gradients), prior, point)
        precision = (precision * slopes.var(0, unbiased=False)).sqrt()
    before = kappa + point.beta * learned.stiffness
    weight = count / (count + _TRUST)
    blended = torch.exp(weight * precision.clamp_min(1e-30).log() + (1 - weight) * before.log())
    stiffness = (blended - kappa).clamp_min(0) / point.beta
    kept = torch.cat([learned.gradients, gradients])[-memory:] if memory else learned.gradients
    return Learned(stiffness, kept)


def leaps_of(angle: float, size: float, generator: torch.Generator) -> int:
    """How many steps of ``size`` make a trajectory of about ``angle``, a little random."""
    jitter = 0.8 + 0.4 * float(torch.rand(1, generator=generator, device=generator.device))
    return max(1, min(MOST_LEAPS, round(angle * jitter / size)))
