"""Rounds of an integration: forwards and backwards along the path, each with more moves than the last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volume_lib.integration import path
from volume_lib.integration.adaptation import LONGEST, Settings, adapt, leaps_of, metric_at
from volume_lib.integration.estimate import Average, Pass, average, first_step, last_step, one_pass
from volume_lib.integration.region import Visible
from volume_lib.integration.sampler import Landscape, Point, Prior, State, dot, step
from volume_lib.integration.target import Target


@dataclass(frozen=True)
class Options:
    """How to sample; the defaults serve. See :func:`volume_lib.integration.integrate`."""

    preconditioner: str = "fisher"
    angle: float = LONGEST
    heat: float = 3.0
    first_moves: int = 6
    spacing: float = 0.7
    most_points: int = 60


@dataclass
class Walk:
    """Everything that changes while chains walk: plain numbers, arrays and tensors, so that it can be
    kept. Tensors are empty until they are known."""

    beta: float = 0.0
    log_kappa: np.ndarray = field(default_factory=lambda: np.zeros(0))
    moves: int = 0
    first: tuple[float, float] = (0.0, 0.0)
    position: Tensor = field(default_factory=lambda: torch.empty(0))
    end: Tensor = field(default_factory=lambda: torch.empty(0))
    size: float = 0.3
    stiffness: Tensor = field(default_factory=lambda: torch.empty(0))
    forward: list[np.ndarray] = field(default_factory=list)
    backward: list[np.ndarray] = field(default_factory=list)
    frozen: list[tuple[Tensor, float]] = field(default_factory=list)
    accepted: list[tuple[float, float]] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    spent: int = 0
    heated: bool = False
    done: bool = False


class Runner:
    """Walks a :class:`Walk` on: ``landscape`` is L or M of the ``target``; ``after`` is called at every
    point."""

    def __init__(
        self,
        target: Target,
        landscape: Landscape,
        options: Options,
        walk: Walk,
        generator: torch.Generator,
        after: Callable[[], Any] = lambda: None,
    ) -> None:
        self.target, self.landscape, self.options = target, landscape, options
        self.walk, self.generator, self.after = walk, generator, after
        self.prior = Prior(target.x0, target.x0_square)

    # what a round is made of

    def pilot(self) -> None:
        """Find β: down the path with few moves, β following ⟨L⟩ = T, and settle it at k = 0."""
        walk, chains, threshold = self.walk, self.target.chains, self.target.threshold
        walk.beta = 1 / (threshold - self.target.minimum)
        k = path.start_of(self.landscape, self.prior, walk.beta, chains, self.generator, 1.0)
        walk.position = path.gaussian(self.prior, k, chains, self.generator)
        self.forget()
        for point in path.points(path.even(k, self.options.spacing), walk.beta):
            self._settle(point.k, 1)
        self._settle(0.0, 12)

    def _settle(self, k: float, most: int) -> None:
        """Bring ⟨L⟩ to T at ``k`` in at most so many steps; at k = 0 two in a row must agree."""
        walk, agreed = self.walk, 0
        for _ in range(most):
            point = Point(k, walk.beta)
            state, settings = self._adapt(point, self.options.first_moves)
            samples, _ = self._count(point, state, settings, self.options.first_moves)
            new = self._beta_for(samples[..., 2])
            agreed = agreed + 1 if new is None else 0
            if new is None and (k > 0 or agreed == 2):
                return
            walk.beta = new or walk.beta

    def _beta_for(self, loss: np.ndarray) -> float | None:
        """A better β, or None where ⟨L⟩ is T within half a spread: what lies above the minimum goes as
        1/β."""
        walk, target = self.walk, self.target
        if abs(loss.mean() - target.threshold) < 0.5 * loss.std():
            return None
        room = target.threshold - target.minimum
        factor = (loss.mean() - target.minimum) / room
        return max(1e-2 / room, walk.beta * min(max(factor, 0.3), 2.0))

    def settle_beta(self) -> bool:
        """Between rounds: follow ⟨L⟩ = T at k = 0 where it has drifted; whether β changed."""
        loss = np.concatenate([self.walk.forward[-1][..., 2].ravel(), self.walk.backward[0][..., 2].ravel()])
        new = self._beta_for(loss)
        self.walk.beta = new or self.walk.beta
        return new is not None

    def forget(self) -> None:
        """Start what is learned anew."""
        walk, target = self.walk, self.target
        walk.stiffness = torch.zeros(target.n, device=target.device, dtype=target.dtype)
        walk.size = 0.3

    def begin(self, log_kappa: np.ndarray | None, moves: int) -> None:
        """Set out on a round; ``log_kappa`` None: evenly from where β hardly matters."""
        walk, chains = self.walk, self.target.chains
        if log_kappa is None:
            k = path.start_of(self.landscape, self.prior, walk.beta, chains, self.generator, 0.7)
            log_kappa = path.even(k, self.options.spacing)
        walk.log_kappa, walk.moves = log_kappa, moves
        walk.forward, walk.backward, walk.frozen, walk.accepted, walk.before = [], [], [], [], []
        walk.heated = walk.done = False
        k = self.points()[0].k
        losses = path.gaussian_losses(
            self.landscape, self.prior, k, chains, self.generator, max(64, 8 * moves)
        )
        walk.first = first_step(losses, walk.beta, self.target.threshold)
        walk.position = path.gaussian(self.prior, k, chains, self.generator)

    def points(self) -> list[Point]:
        return path.points(self.walk.log_kappa, self.walk.beta)

    def forwards(self, deadline: float) -> None:
        """From where the round stands to k = 0: adapt, freeze, count."""
        walk, points = self.walk, self.points()
        for i in range(len(walk.forward), len(points)):
            moves = self._moves(deadline)
            state, settings = self._adapt(points[i], max(self.options.first_moves, moves // 2))
            samples, acceptance = self._count(points[i], state, settings, moves)
            walk.forward.append(samples)
            walk.frozen.append((walk.stiffness.clone(), settings.size))
            walk.accepted.append((acceptance, leaps_mean(settings)))
            walk.before.append(self.landscape.before if isinstance(self.landscape, Visible) else 0.0)
            self.after()

    def heat(self) -> None:
        """At k = 0, half the chains walk at a lower β and come back: the backward pass begins from both
        kinds."""
        walk, end = self.walk, self.points()[-1]
        if walk.heated:
            return
        stiffness, size = walk.frozen[-1]
        half = torch.arange(self.target.chains, device=self.target.device) % 2 == 0
        kept = walk.position.clone()
        for beta in (end.beta / self.options.heat, end.beta / math.sqrt(self.options.heat), end.beta):
            point = Point(0.0, beta)
            settings = Settings(metric_at(point, stiffness, self.prior), size, self.options.angle)
            self._count(point, self._state(), settings, max(2, walk.moves // 2))
        cool = walk.position
        walk.position = torch.where(half[:, None], cool, kept)
        settings = Settings(metric_at(end, stiffness, self.prior), size, self.options.angle)
        self._count(end, self._state(), settings, max(2, walk.moves // 2))
        walk.heated, walk.end = True, walk.position
        self.after()

    def backwards(self, deadline: float) -> None:
        """From k = 0 back up, with the forward pass's settings."""
        walk, points = self.walk, self.points()
        for i in range(len(points) - 1 - len(walk.backward), -1, -1):
            stiffness, size = walk.frozen[i]
            settings = Settings(metric_at(points[i], stiffness, self.prior), size, self.options.angle)
            moves = self._moves(deadline)
            state = self._state()
            if i < len(points) - 1:
                self._count(points[i], state, settings, max(2, moves // 4))
                state = self._state()
            samples, _ = self._count(points[i], state, settings, moves)
            walk.backward.append(samples)
            self.after()
        walk.done = True

    # what they are made of

    def _moves(self, deadline: float) -> int:
        """Fewer moves once the deadline is past."""
        return self.walk.moves if time.monotonic() < deadline else max(4, self.walk.moves // 4)

    def _state(self) -> State:
        return State(self.walk.position, *self.landscape(self.walk.position))

    def _adapt(self, point: Point, moves: int) -> tuple[State, Settings]:
        walk, options = self.walk, self.options
        state, stiffness, settings, spent = adapt(
            self.landscape,
            self.prior,
            point,
            self._state(),
            walk.stiffness,
            walk.size,
            self.target.threshold,
            self.generator,
            moves=moves,
            angle=options.angle,
            preconditioner=options.preconditioner,
        )
        walk.position, walk.stiffness, walk.size = state.position, stiffness, settings.size
        walk.spent += spent
        return state, settings

    def _count(self, point: Point, state: State, settings: Settings, moves: int) -> tuple[np.ndarray, float]:
        """Samples (moves, chains, 5) with frozen settings, and the mean acceptance."""
        rows, acceptance = [], 0.0
        for _ in range(moves):
            leaps = leaps_of(settings.angle, settings.size, self.generator)
            state, info = step(
                self.landscape,
                self.prior,
                point,
                settings.metric,
                settings.size,
                leaps,
                self.target.threshold,
                self.generator,
                state,
            )
            x, h = state.position, state.gradient
            rows.append(
                torch.stack(
                    [dot(x, x), dot(x, self.prior.x0), state.loss, dot(x, h), dot(h, self.prior.x0)], dim=1
                )
            )
            acceptance += float(info.acceptance.mean()) / moves
            self.walk.spent += info.leaps
        self.walk.position = state.position
        return torch.stack(rows).cpu().numpy(), acceptance

    # the estimate so far

    def passes(self) -> tuple[Pass, Pass, list[Average], list[Average]]:
        """Both passes of a finished round, and their averages at each point."""
        walk, points = self.walk, self.points()
        back = walk.backward[::-1]
        fore = [self._average(s, p, b) for s, p, b in zip(walk.forward, points, walk.before, strict=True)]
        rear = [self._average(s, p, b) for s, p, b in zip(back, points, walk.before, strict=True)]
        found = []
        for samples, averages in ((walk.forward, fore), (back, rear)):
            last = last_step(samples[-1][..., 2], walk.beta, self.target.threshold)
            found.append(one_pass(points, averages, walk.first, last))
        return (*found, fore, rear)

    def _average(self, samples: np.ndarray, point: Point, before: float) -> Average:
        return average(samples, point, self.target.n, self.target.x0_square, controls=before == 0)


def leaps_mean(settings: Settings) -> float:
    """Steps of a trajectory, on average."""
    return max(1.0, settings.angle / settings.size)
