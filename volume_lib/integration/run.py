"""Rounds of an integration: along the path and back again, each with more moves than the last.

What the path is, its route decides: :mod:`~.outward` leaves the minimum, :mod:`~.inward` comes from the
reference.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volume_lib.integration.adaptation import LONGEST, Settings, adapt, leaps_of
from volume_lib.integration.ceiling import Pressed
from volume_lib.integration.estimate import Average, Pass, last_step, one_pass
from volume_lib.integration.region import Visible
from volume_lib.integration.sampler import Landscape, Point, Prior, State, dot, step
from volume_lib.integration.target import Target


@dataclass(frozen=True)
class Options:
    """How to sample; the defaults serve. See :func:`volume_lib.integration.integrate`.

    ``route``: ``inward``, ``outward``, or ``auto`` (inward for the connected region, outward for the
    visible one).
    """

    preconditioner: str = "fisher"
    angle: float = LONGEST
    heat: float = 3.0
    first_moves: int = 6
    spacing: float = 0.7
    most_points: int = 60
    route: str = "auto"


@dataclass
class Walk:
    """Everything that changes while chains walk: plain numbers, arrays and tensors, so that it can be
    kept; tensors are empty until they are known.

    ``grid``: where the path's points lie, decreasing: log κ (outward) or log of the ceiling (inward).
    """

    route: str = ""
    beta: float = 0.0
    power: float = 8.0
    ceiling: float = 0.0
    curve: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    grid: np.ndarray = field(default_factory=lambda: np.zeros(0))
    betas: np.ndarray = field(default_factory=lambda: np.zeros(0))
    moves: int = 0
    first: tuple[float, float] = (0.0, 0.0)
    position: Tensor = field(default_factory=lambda: torch.empty(0))
    end: Tensor = field(default_factory=lambda: torch.empty(0))
    size: float = 0.3
    stiffness: Tensor = field(default_factory=lambda: torch.empty(0))
    forward: list[np.ndarray] = field(default_factory=list)
    backward: list[np.ndarray] = field(default_factory=list)
    accepted: list[tuple[float, float]] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    spent: int = 0
    turned: bool = False
    done: bool = False


class Runner(ABC):
    """Walks a :class:`Walk` on: ``landscape`` is L or M of the ``target``; ``after`` is called at every
    point; past ``deadline`` (of ``time.monotonic``) it makes as few moves as it can."""

    def __init__(
        self,
        target: Target,
        landscape: Landscape,
        options: Options,
        walk: Walk,
        generator: torch.Generator,
        after: Callable[[], Any] = lambda: None,
        deadline: float = math.inf,
    ) -> None:
        self.target, self.landscape, self.options = target, landscape, options
        self.walk, self.generator, self.after, self.deadline = walk, generator, after, deadline
        self.prior = Prior(target.x0, target.x0_square)
        self.pace, self.angle, self.late = 0.0, options.angle, False
        # in few dimensions one sample says little, and costs little
        self.first_moves = math.ceil(options.first_moves * min(max(1.0, math.sqrt(1000 / target.n)), 3.0))

    # what a route decides

    @abstractmethod
    def pilot(self) -> None:
        """Find out, with few moves, what the path needs to be laid."""

    @abstractmethod
    def lay(self, averages: list[Average] | None) -> None:
        """Lay the path's points, after the ``averages`` of a round where there was one, and set out."""

    @abstractmethod
    def points(self) -> list[Point]: ...

    @abstractmethod
    def turn(self) -> None:
        """At the path's end: make the chains that come back begin otherwise than those that came."""

    @abstractmethod
    def average(self, samples: np.ndarray, i: int) -> Average:
        """The integrand at point ``i`` from samples (moves, chains, 5)."""

    @abstractmethod
    def watched(self, samples: np.ndarray) -> np.ndarray:
        """Of samples (moves, chains, 5) what R-hat and effective samples are told of, (moves, chains)."""

    def approach(self, i: int, came: int) -> None:  # noqa: B027 (not every route needs it)
        """On the way from point ``came`` to point ``i``, neither of them counted."""

    # the ceiling

    @property
    def floor(self) -> float:
        """What losses are counted from: 0, or below the minimum where losses may be negative."""
        minimum = self.target.minimum
        return 0.0 if minimum >= 0 else 2 * minimum - self.target.threshold

    @property
    def goal(self) -> float:
        return self.target.threshold - self.floor

    def landscape_at(self, point: Point) -> Landscape:
        return Pressed(self.landscape, point, self.walk.power, self.floor)

    def losses(self, samples: np.ndarray, point: Point) -> np.ndarray:
        """Losses (moves, chains) of samples (moves, chains, 5)."""
        pressure = np.maximum(point.beta * samples[..., 2], 0)
        return self.floor + point.ceiling * pressure ** (1 / self.walk.power)

    def last(self, samples: np.ndarray) -> tuple[float, float]:
        """The last step, from under the ceiling to the region itself, and its standard error."""
        end = self.points()[-1]
        edge = (self.goal / end.ceiling) ** self.walk.power
        value, error = last_step(end.beta * samples[..., 2] - edge)
        return edge + value, error

    # what a round is made of

    def begin(self, moves: int, averages: list[Average] | None = None) -> None:
        """Set out on a round."""
        walk = self.walk
        walk.moves = moves
        walk.forward, walk.backward, walk.accepted, walk.before = [], [], [], []
        walk.turned = walk.done = False
        self.lay(averages)

    def forget(self) -> None:
        """Start what is learned anew."""
        walk, target = self.walk, self.target
        walk.stiffness = torch.zeros(target.n, device=target.device, dtype=target.dtype)
        walk.size = 0.3

    def forwards(self) -> None:
        """From where the round stands to the path's end: adapt, freeze, count."""
        walk, points = self.walk, self.points()
        for i in range(len(walk.forward), len(points)):
            moves = self._moves(2 * len(points) - i)
            if i:
                self.approach(i, i - 1)
            state, settings = self._adapt(points[i], self._warm(moves))
            samples, acceptance = self._count(points[i], state, settings, moves)
            walk.forward.append(samples)
            walk.accepted.append((acceptance, leaps_mean(settings)))
            walk.before.append(self.landscape.before if isinstance(self.landscape, Visible) else 0.0)
            self.after()

    def backwards(self) -> None:
        """From the path's end back again, adapting anew: chains that lag behind need other steps here."""
        walk, points = self.walk, self.points()
        for i in range(len(points) - 1 - len(walk.backward), -1, -1):
            moves = self._moves(i + 1)
            if i < len(points) - 1:
                self.approach(i, i + 1)
            state, settings = self._adapt(points[i], self._warm(moves))
            samples, _ = self._count(points[i], state, settings, moves)
            walk.backward.append(samples)
            self.after()
        walk.done = True

    # what they are made of

    def _moves(self, left: int, deadline: float | None = None) -> int:
        """How many moves to count where so many points are ``left``: fewer where the time would not reach,
        by the pace so far, and shorter ones where even few would not."""
        wanted = self.walk.moves or self.first_moves
        time_left = (self.deadline if deadline is None else deadline) - time.monotonic()
        share = time_left / max(1e-9, left * self.pace * (wanted + self._warm(wanted)))
        self.late = share < 1
        moves = wanted if not self.late else max(2, int(wanted * max(share, 0.0)))
        self.angle = self.options.angle * min(1.0, max(0.1, share * wanted / moves))
        return moves

    def _warm(self, moves: int) -> int:
        """Moves before any is counted."""
        return max(self.first_moves, moves // 2) if not self.late else max(2, moves // 2)

    def _state(self, point: Point) -> State:
        return State(self.walk.position, *self.landscape_at(point)(self.walk.position))

    def _adapt(self, point: Point, moves: int) -> tuple[State, Settings]:
        walk, options = self.walk, self.options
        state, stiffness, settings, spent = adapt(
            self.landscape_at(point),
            self.prior,
            point,
            self._state(point),
            walk.stiffness,
            walk.size,
            self.generator,
            moves=moves,
            angle=self.angle,
            preconditioner=options.preconditioner,
        )
        walk.position, walk.stiffness, walk.size = state.position, stiffness, settings.size
        walk.spent += spent
        return state, settings

    def _count(self, point: Point, state: State, settings: Settings, moves: int) -> tuple[np.ndarray, float]:
        """Samples (moves, chains, 5) with frozen settings, and the mean acceptance."""
        landscape, rows, acceptance = self.landscape_at(point), [], 0.0
        began, shortened = time.monotonic(), self.options.angle / self.angle
        for _ in range(moves):
            leaps = leaps_of(settings.angle, settings.size, self.generator)
            state, info = step(
                landscape,
                self.prior,
                point,
                settings.metric,
                settings.size,
                leaps,
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
        self.pace = (time.monotonic() - began) / moves * shortened
        return torch.stack(rows).cpu().numpy(), acceptance

    # the estimate so far

    def passes(self) -> tuple[Pass, Pass, list[Average], list[Average]]:
        """Both passes of a finished round, and their averages at each point."""
        walk = self.walk
        back = walk.backward[::-1]
        fore = [self.average(samples, i) for i, samples in enumerate(walk.forward)]
        rear = [self.average(samples, i) for i, samples in enumerate(back)]
        there = one_pass(walk.grid, fore, walk.first, self.last(walk.forward[-1]))
        again = one_pass(walk.grid, rear, walk.first, self.last(back[-1]))
        return there, again, fore, rear

    def joint_averages(self) -> list[Average]:
        """Of each point, from both passes' samples."""
        both = zip(self.walk.forward, self.walk.backward[::-1], strict=True)
        shortest = [(min(len(a), len(b)), a, b) for a, b in both]
        return [
            self.average(np.concatenate([a[-m:], b[-m:]], axis=1), i) for i, (m, a, b) in enumerate(shortest)
        ]


def leaps_mean(settings: Settings) -> float:
    """Steps of a trajectory, on average."""
    return max(1.0, settings.angle / settings.size)
