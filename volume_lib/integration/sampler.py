r"""Hamiltonian Monte Carlo for many chains at once: a pure step, and its adaptation apart from it.

The energy of a chain at a point ``(k, β)`` of the path is, up to a constant,

    U(x) = β·L(x) + ½·k·‖x‖² + ½·‖x + x₀‖²,

L what the chains feel of the loss (:mod:`~.ceiling`).

A step's momentum has the covariance of a Gaussian that approximates U (:class:`Metric`), and what that
Gaussian moves is integrated exactly, as a rotation; only what is left of the force is applied in kicks (split
Hamiltonian Monte Carlo, Shahbaba, Lan, Johnson and Neal 2014). Parameters that the loss does not hold then
cost no accuracy, whatever their number, and a bowl is sampled without error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Landscape = Callable[[Tensor], tuple[Tensor, Tensor]]
"""x (M, n) → losses (M,) float64 and their gradients (M, n)."""


class Point(NamedTuple):
    """A point of the path: the pull ``k`` to the minimum and the inverse temperature ``beta`` of the loss;
    inwards the ``ceiling`` of the loss, and ``beta`` what it amounts to there."""

    k: float
    beta: float
    ceiling: float = math.inf


class Prior(NamedTuple):
    """The reference in units of its widths: ``N(−x0, I)``; ``square``: ‖x0‖² in float64."""

    x0: Tensor
    square: float


class State(NamedTuple):
    """Chains: ``position`` (M, n), ``loss`` (M,) float64, ``gradient`` (M, n) of the loss."""

    position: Tensor
    loss: Tensor
    gradient: Tensor


class Info(NamedTuple):
    """What a step did: ``acceptance`` (M,) probabilities, gradients of one chain spent."""

    acceptance: Tensor
    leaps: int


class Metric(NamedTuple):
    """The Gaussian whose motion is exact: widths ``scale`` (n,) about ``center`` (n,)."""

    scale: Tensor
    center: Tensor


def energy(state: State, prior: Prior, point: Point) -> Tensor:
    """``U`` of every chain, (M,) float64."""
    square = state.position.square().sum(1, dtype=torch.float64)
    cross = dot(state.position, prior.x0)
    pull = 0.5 * (point.k + 1) * square + cross + 0.5 * prior.square
    return point.beta * state.loss + pull


def force(state: State, prior: Prior, point: Point) -> Tensor:
    """``−∇U`` (M, n)."""
    return -(point.beta * state.gradient + (point.k + 1) * state.position + prior.x0)


def dot(rows: Tensor, other: Tensor) -> Tensor:
    """Products (M,) of rows (M, n) with a vector or with rows, summed in float64."""
    return (rows * other).sum(1, dtype=torch.float64)


def step(
    landscape: Landscape,
    prior: Prior,
    point: Point,
    metric: Metric,
    size: float,
    leaps: int,
    generator: torch.Generator,
    state: State,
) -> tuple[State, Info]:
    """One trajectory of ``leaps`` steps of ``size`` (an angle) for every chain, and its acceptance."""
    x, scale, center = state.position, metric.scale, metric.center
    q = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    before = energy(state, prior, point) + 0.5 * dot(q, q)
    y, now = (x - center) / scale, state
    cos, sin = math.cos(size), math.sin(size)
    q = q + 0.5 * size * _residual(now, prior, point, metric, y)
    for leap in range(leaps):
        y, q = y * cos + q * sin, q * cos - y * sin
        x = torch.addcmul(center, y, scale)
        now = State(x, *landscape(x))
        q = q + (1.0 if leap < leaps - 1 else 0.5) * size * _residual(now, prior, point, metric, y)
    after = energy(now, prior, point) + 0.5 * dot(q, q)
    chance = torch.nan_to_num(torch.exp((before - after).clamp(max=0)), nan=0.0)
    draw = torch.rand(len(x), generator=generator, device=x.device, dtype=torch.float64)
    take = draw < chance
    kept = State(
        *(
            torch.where(take.view(-1, *[1] * (new.dim() - 1)), new, old)
            for new, old in zip(now, state, strict=True)
        )
    )
    return kept, Info(chance, leaps * len(x))


def _residual(state: State, prior: Prior, point: Point, metric: Metric, y: Tensor) -> Tensor:
    """What the metric's Gaussian leaves of the force, in scaled coordinates."""
    return metric.scale * force(state, prior, point) + y
