r"""What a sampler learns at a point of the path before anything is counted: its metric and its step size.

The metric of parameter i has precision ``k + 1 + c_i``: what the loss adds, ``c_i``, is learned from the
spread of the gradients and of the positions, and is carried from point to point, so that in a bowl it is
right everywhere once it is right anywhere. Two ways to learn it (``preconditioner``), and the same answer
from both is a check:

- ``fisher``: the geometric mean of the gradient's variance and of the position's inverse variance, the
  diagonal of least Fisher divergence (as the sampler nutpie adapts).
- ``width``: the inverse variance of the positions alone.
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


def metric_at(point: Point, stiffness: Tensor, prior: Prior) -> Metric:
    """The metric at ``point``; ``stiffness`` (n,): what the loss adds to each precision, over beta."""
    diagonal = point.k + 1 + point.beta * stiffness
    return Metric(diagonal.rsqrt(), -prior.x0 / diagonal)


def adapt(
    landscape: Landscape,
    prior: Prior,
    point: Point,
    state: State,
    stiffness: Tensor,
    size: float,
    threshold: float,
    generator: torch.Generator,
    *,
    moves: int,
    angle: float,
    preconditioner: str,
) -> tuple[State, Tensor, Settings, int]:
    """Warm up at ``point`` and learn there; hand back the chains, the stiffness to carry on, and
    settings to freeze with the gradients spent."""
    metric = metric_at(point, stiffness, prior)
    spent, log_size, gradients, positions = 0, math.log(size), [], []
    halves = 2 if moves >= 8 else 1
    for _ in range(halves):
        for move in range(moves // halves):
            size = min(LONGEST, math.exp(log_size))
            state, info = step(
                landscape,
                prior,
                point,
                metric,
                size,
                leaps_of(angle, size, generator),
                threshold,
                generator,
                state,
            )
            spent += info.leaps
            rate = 0.5 if move < 4 else 0.2
            log_size += rate * (float(info.acceptance.mean()) - ACCEPT)
            log_size = min(max(log_size, math.log(1e-4)), math.log(LONGEST))
            positions.append(state.position)
            gradients.append(state.gradient)
        stiffness = learn(point, prior, stiffness, torch.cat(positions), torch.cat(gradients), preconditioner)
        metric = metric_at(point, stiffness, prior)
        positions, gradients = [], []
    return state, stiffness, Settings(metric, min(LONGEST, math.exp(log_size)), angle), spent


def learn(
    point: Point,
    prior: Prior,
    stiffness: Tensor,
    positions: Tensor,
    gradients: Tensor,
    preconditioner: str,
) -> Tensor:
    """What positions and gradients (G, n) of some samples at ``point`` add to what was known."""
    if not point.beta:
        return stiffness
    count, kappa = len(positions), point.k + 1
    wide = positions.var(0, unbiased=False).clamp_min(1e-30)
    precision = 1 / wide
    if preconditioner == "fisher":
        slopes = force(State(positions, gradients[:, 0], gradients), prior, point)
        precision = (precision * slopes.var(0, unbiased=False)).sqrt()
    before = kappa + point.beta * stiffness
    weight = count / (count + _TRUST)
    blended = torch.exp(weight * precision.clamp_min(1e-30).log() + (1 - weight) * before.log())
    return (blended - kappa).clamp_min(0) / point.beta


def leaps_of(angle: float, size: float, generator: torch.Generator) -> int:
    """How many steps of ``size`` make a trajectory of about ``angle``, a little random."""
    jitter = 0.8 + 0.4 * float(torch.rand(1, generator=generator, device=generator.device))
    return max(1, min(MOST_LEAPS, round(angle * jitter / size)))
