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
    generator: torch.Generator,
    *,
    moves: int,
    angle: float,
    preconditioner: str,
) -> tuple[State, Tensor, Settings, int]:
    """Warm up at ``point`` and learn there; hand back the chains, the stiffness to carry on, and
    settings to freeze with the gradients spent."""
    metric = metric_at(point, stiffness, prior)
    spent, log_size = 0, math.log(size)
    halves = 2 if moves >= 8 else 1
    for _ in range(halves):
        seen = Spread(state.position)
        for move in range(moves // halves):
            size = min(LONGEST, math.exp(log_size))
            state, info = step(
                landscape,
                prior,
                point,
                metric,
                size,
                leaps_of(angle, size, generator),
                generator,
                state,
            )
            spent += info.leaps
            rate = 0.5 if move < 4 else 0.2
            log_size += rate * (float(info.acceptance.mean()) - ACCEPT)
            log_size = min(max(log_size, math.log(1e-4)), math.log(LONGEST))
            seen.add(state, prior, point)
        stiffness = learn(point, stiffness, seen, preconditioner)
        metric = metric_at(point, stiffness, prior)
    return state, stiffness, Settings(metric, min(LONGEST, math.exp(log_size)), angle), spent


class Spread:
    """Variances (n,) of positions and of forces over samples that come and go: their number costs no
    memory."""

    def __init__(self, like: Tensor) -> None:
        self.count = 0
        self._means = [torch.zeros_like(like[0]) for _ in range(2)]
        self._squares = [torch.zeros_like(like[0]) for _ in range(2)]

    def add(self, state: State, prior: Prior, point: Point) -> None:
        """Take in all chains of ``state``."""
        rows = len(state.position)
        for i, values in enumerate((state.position, force(state, prior, point))):
            mean = values.mean(0)
            apart = mean - self._means[i]
            share = rows / (self.count + rows)
            self._squares[i] += rows * values.var(0, unbiased=False) + apart.square() * (self.count * share)
            self._means[i] += apart * share
        self.count += rows

    @property
    def positions(self) -> Tensor:
        return self._squares[0] / self.count

    @property
    def forces(self) -> Tensor:
        return self._squares[1] / self.count


def learn(point: Point, stiffness: Tensor, seen: Spread, preconditioner: str) -> Tensor:
    """What the samples ``seen`` at ``point`` add to what was known."""
    if not point.beta:
        return stiffness
    count, kappa = seen.count, point.k + 1
    precision = 1 / seen.positions.clamp_min(1e-30)
    if preconditioner == "fisher":
        precision = (precision * seen.forces).sqrt()
    before = kappa + point.beta * stiffness
    weight = count / (count + _TRUST)
    blended = torch.exp(weight * precision.clamp_min(1e-30).log() + (1 - weight) * before.log())
    return (blended - kappa).clamp_min(0) / point.beta


def leaps_of(angle: float, size: float, generator: torch.Generator) -> int:
    """How many steps of ``size`` make a trajectory of about ``angle``, a little random."""
    jitter = 0.8 + 0.4 * float(torch.rand(1, generator=generator, device=generator.device))
    return max(1, min(MOST_LEAPS, round(angle * jitter / size)))
