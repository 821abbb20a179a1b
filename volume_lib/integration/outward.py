r"""From the minimum out: a pull ``½k‖x‖²`` holds the chains at the minimum and is let go.

    Z(k) = ∫ exp(−(L(x)/ℓ)^p − ½k‖x‖²) dμ(x),

from a Gaussian around the minimum (large k) to k = 0, under a ceiling ℓ (:mod:`~.ceiling`) at which
``⟨L⟩ = T`` at k = 0. With ``F = log Z(k)`` less its value without the loss, and ``κ = k + 1``,

    dF/d log κ = −D,   D = ½κ·(⟨‖x‖²⟩₀ − ⟨‖x‖²⟩),   ⟨‖x‖²⟩₀ = n/κ + ‖x₀‖²/κ²   (known).

The path begins where the ceiling hardly changes the Gaussian, and its points lie closest where D bends. For
regions that only the minimum sees (visible).
"""

from __future__ import annotations

import time

import numpy as np
import torch

from volume_lib.integration import path
from volume_lib.integration.estimate import Average, average, first_step
from volume_lib.integration.run import Runner
from volume_lib.integration.sampler import Point

PILOT = 0.3
"""Of the time there is, what the search for β may take."""


class Outward(Runner):
    """The route of :mod:`~.outward`."""

    def pilot(self) -> None:
        """Find the ceiling: down the path with few moves, ⟨L⟩ held at T or below, and settle it at k = 0."""
        walk, chains = self.walk, self.target.chains
        walk.ceiling, walk.beta = self.goal / 2, walk.power / self.goal
        k = self._start(1.0)
        walk.position = path.gaussian(self.prior, k, chains, self.generator)
        self.forget()
        ends = time.monotonic() + PILOT * (self.deadline - time.monotonic())
        pulls = path.pulls(path.even(k, self.options.spacing))
        for i, k in enumerate(pulls):
            self._settle(k, 1, len(pulls) - i + 4, ends)
        self._settle(0.0, 12, 4, ends)

    def _start(self, spread: float) -> float:
        """The pull at which the path begins."""
        landscape = self.landscape_at(Point(0.0, self.walk.beta, self.walk.ceiling))
        return path.start_of(
            landscape, self.prior, self.walk.beta, self.target.chains, self.generator, spread
        )

    def _settle(self, k: float, most: int, left: int, ends: float) -> None:
        """Bring ⟨L⟩ to T at ``k`` in at most so many steps; at k = 0 two in a row must agree. ``left``: steps
        that the time until ``ends`` is to serve."""
        walk, agreed = self.walk, 0
        for step in range(most):
            if step and time.monotonic() > ends:
                return
            point, moves = Point(k, walk.beta, walk.ceiling), self._moves(left, ends)
            state, settings = self._adapt(point, moves)
            samples, _ = self._count(point, state, settings, moves)
            self.after()
            losses, pressure = self.losses(samples, point), point.beta * samples[..., 2]
            ceiling = self._ceiling_for(float(losses.mean()), float(losses.std()))
            if ceiling is None or k == 0.0 or ceiling < walk.ceiling:
                walk.ceiling = ceiling or walk.ceiling
            self._weigh(walk.power * float(pressure.mean()) / self.goal)
            agreed = agreed + 1 if ceiling is None else 0
            if k > 0 or agreed == 2:
                return

    def _weigh(self, beta: float) -> None:
        """What the ceiling amounts to has changed: what is learned of it is kept."""
        walk = self.walk
        beta = max(beta, walk.power / self.goal)
        walk.stiffness, walk.beta = walk.stiffness * (walk.beta / beta), beta

    def _ceiling_for(self, mean: float, spread: float) -> float | None:
        """A better ceiling, or None where ⟨L⟩ is T within half a spread."""
        if abs(mean - self.target.threshold) < 0.5 * spread:
            return None
        return self.walk.ceiling * min(max(self.goal / max(mean - self.floor, 1e-300), 0.5), 2.0)

    def lay(self, averages: list[Average] | None) -> None:
        """Evenly from where the ceiling hardly matters; then, unless it was far off, close where D bends."""
        walk, chains = self.walk, self.target.chains
        grid = None
        if averages is not None:
            ceiling = self._ceiling_for(averages[-1].loss, averages[-1].spread)
            walk.ceiling = ceiling or walk.ceiling
            if ceiling is None or len(walk.history) > 1:
                values = np.array([found.value for found in averages])
                tolerance = max(0.02, 5e-4 * abs(walk.history[-1]["forward"]))
                grid = path.refine(walk.grid, values, tolerance, self.options.most_points)
        walk.grid = path.even(self._start(0.7), self.options.spacing) if grid is None else grid
        first = self.points()[0]
        pressure = first.beta * path.gaussian_losses(
            self.landscape_at(first), self.prior, first.k, chains, self.generator, max(64, 8 * walk.moves)
        )
        walk.first = first_step(-pressure)
        walk.position = path.gaussian(self.prior, first.k, chains, self.generator)

    def points(self) -> list[Point]:
        return [Point(k, self.walk.beta, self.walk.ceiling) for k in path.pulls(self.walk.grid)]

    def turn(self) -> None:
        """At k = 0, half the chains walk under a higher ceiling and come back: the backward pass begins from
        both kinds."""
        walk, end = self.walk, self.points()[-1]
        if walk.turned:
            return
        half = torch.arange(self.target.chains, device=self.target.device) % 2 == 0
        kept, moves = walk.position, max(2, self._moves(len(walk.grid) + 4) // 2)
        for share in (1.0, 0.5, 0.0):
            ceiling = end.ceiling * self.options.heat ** (share / walk.power)
            self._adapt(end._replace(ceiling=ceiling), moves)
        walk.position = torch.where(half[:, None], walk.position, kept)
        self._adapt(end, moves)
        walk.turned, walk.end = True, walk.position
        self.after()

    def average(self, samples: np.ndarray, i: int) -> Average:
        point, target = self.points()[i], self.target
        kappa = point.k + 1
        gaussian = target.n / kappa + target.x0_square / kappa**2
        series = 0.5 * kappa * (gaussian - samples[..., 0])
        controls = self.walk.before[i] == 0
        return average(
            series, self.losses(samples, point), samples, point, target.n, target.x0_square, controls
        )

    def watched(self, samples: np.ndarray) -> np.ndarray:
        return samples[..., 0]
