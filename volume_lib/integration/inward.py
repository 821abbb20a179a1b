r"""From the reference in: a soft ceiling over the loss is lowered to the threshold.

    Z(ℓ) = ∫ exp(−(L(x)/ℓ)^p) dμ(x),    d log Z/d log ℓ = D = p·⟨(L/ℓ)^p⟩,

from a ceiling that hides little, where Z is an average over draws of the reference, to the one at which
⟨L⟩ = T; then the step from ``exp(−(L/ℓ)^p)`` to ``1[L ≤ T]``. What it measures is all that lies below
the threshold; nothing of it depends on the minimum, until chains that begin there join those of the reference
for the way back.

The power p begins small where the losses of the reference are many times the threshold, as in a bowl (the
ceiling is lowered in steps of 1/p), and is doubled where a step of the ceiling makes the loss fall by more
than twice as much (:mod:`~.ceiling`).
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from volume_lib.errors import InputError
from volume_lib.integration import path
from volume_lib.integration.estimate import Average, average, first_step
from volume_lib.integration.run import Runner
from volume_lib.integration.sampler import Point

HELD = 0.8
"""What the first ceiling leaves of the reference."""
POWERS = (2.0, 8.0, 32.0)
"""The least power, the most to begin with, and the most."""
LOSS_STEP, D_STEP = 0.15, 0.6
"""Spacing of the points in log L and in log D."""
WIDEST = 0.6
"""Spacing of the points in the log of the ceiling, at most."""
LOST = 100.0
"""D over the number of parameters that no region has whose entrance chains can find: a bowl has 1/2."""
PILOT = 0.4
"""Of the time there is, what the pilot may take."""


class Lost(Exception):
    """Chains from the reference do not find the region: its entrance is too narrow for them."""


class Inward(Runner):
    """The route of :mod:`~.inward`."""

    # the pilot

    def pilot(self) -> None:
        """Down from the reference with few moves: what D is at each loss, and the power that holds it."""
        walk, chains = self.walk, self.target.chains
        ends = time.monotonic() + PILOT * (self.deadline - time.monotonic())
        draws = self._draws(256)
        fall = max(0.0, math.log(np.median(draws) / self.goal))
        walk.power = 2.0 ** round(math.log2(min(max(32 / max(fall, 1e-3), POWERS[0]), POWERS[1])))
        walk.position = path.gaussian(self.prior, 0.0, chains, self.generator)
        self.forget()
        curve: list[tuple[float, float]] = []
        log_ceiling = math.log(_first_ceiling(draws, walk.power))
        pressure = (draws / math.exp(log_ceiling)) ** walk.power
        now = (math.log(np.median(draws)), math.log(walk.power * pressure.mean()))
        while True:
            before, learned = walk.position, (walk.stiffness, walk.size)
            found, noise = self._look(log_ceiling, now)
            fell = now[0] - found[0] - 4 * noise
            if curve and found[1] > math.log(5) and fell > 2 / walk.power + 0.1 and walk.power < POWERS[2]:
                walk.power, walk.position, (walk.stiffness, walk.size) = 2 * walk.power, before, learned
            else:
                now = found
                curve.append(now)
                if math.exp(now[0]) <= self.goal:
                    break
                if time.monotonic() > ends:  # as in a bowl from here on
                    curve.append((math.log(self.goal), now[1]))
                    break
            log_ceiling = now[0] + (math.log(walk.power) - now[1]) / walk.power - 1 / walk.power
            if now[1] > math.log(LOST * max(self.target.n, 10)):
                raise Lost
            self.after()
        walk.curve = np.array(curve)
        walk.beta = math.exp(curve[-1][1]) / self.goal

    def _look(self, log_ceiling: float, before: tuple[float, float]) -> tuple[tuple[float, float], float]:
        """log L and log D under a ceiling, after few moves from where they were ``before``; and the standard
        error of log L."""
        loss = before[0] - 1 / self.walk.power
        point = Point(0.0, math.exp(before[1] - loss), math.exp(log_ceiling))
        moves = max(2, self._moves(1) * 2 // 3)
        state, settings = self._adapt(point, moves)
        pressure = self._count(point, state, settings, moves)[0][..., 2] * point.beta
        share = np.maximum(pressure, 1e-300) ** (1 / self.walk.power)
        mean, d = float(share.mean()), max(self.walk.power * float(pressure.mean()), 1e-9)
        noise = float(share.mean(0).std()) / math.sqrt(share.shape[1]) / mean
        return (log_ceiling + math.log(mean), math.log(d)), noise

    def _draws(self, count: int) -> np.ndarray:
        """Losses of draws of the reference, counted from the floor."""
        losses = path.gaussian_losses(
            self.landscape, self.prior, 0.0, self.target.chains, self.generator, count
        )
        losses = np.nan_to_num(losses - self.floor, nan=math.inf, posinf=math.inf)
        finite = np.isfinite(losses)
        if finite.mean() < HELD:
            raise InputError("reference: the loss is not finite for one in five of its draws or more")
        return np.maximum(losses[finite], 1e-300)

    # a round

    def lay(self, averages: list[Average] | None) -> None:
        walk = self.walk
        if averages is not None:
            losses = np.array([found.loss for found in averages]) - self.floor
            values = np.array([found.value for found in averages])
            spreads = np.array([found.spread for found in averages])
            noise = 4 * spreads[1:] / losses[1:] / math.sqrt(self.target.chains)
            fell, lowered = -np.diff(np.log(losses)) - noise, -np.diff(walk.grid)
            if (fell > 2 * lowered + 0.1).any():
                walk.power = min(2 * walk.power, POWERS[2])
            walk.curve = np.log(np.maximum(np.stack([losses, values], axis=1), 1e-9))
        loss, d = _spread_out(walk.curve, math.log(self.goal), self.options.most_points)
        grid = loss + (math.log(walk.power) - d) / walk.power
        draws = self._draws(max(256, 8 * walk.moves))
        grid[0] = max(grid[0], math.log(_first_ceiling(draws, walk.power)))
        for i in range(len(grid) - 2, -1, -1):  # noise must not turn the path back, nor move its end
            grid[i] = max(grid[i], grid[i + 1] + 1e-3)
        walk.grid, walk.betas = _filled(grid, np.exp(d - loss))
        walk.first = first_step(-((draws / math.exp(grid[0])) ** walk.power))
        walk.position = path.gaussian(self.prior, 0.0, self.target.chains, self.generator)

    def points(self) -> list[Point]:
        walk = self.walk
        return [Point(0.0, float(beta), math.exp(u)) for u, beta in zip(walk.grid, walk.betas, strict=True)]

    def approach(self, i: int, came: int) -> None:
        """In steps that change the pressure by no more than e, so that no chain is left outside."""
        walk = self.walk
        count = math.ceil(abs(walk.grid[i] - walk.grid[came]) * walk.power)
        if self.late:
            count = min(count, 2)
        for share in np.arange(1, count) / max(count, 1):
            log_ceiling = (1 - share) * walk.grid[came] + share * walk.grid[i]
            log_beta = (1 - share) * math.log(walk.betas[came]) + share * math.log(walk.betas[i])
            self._adapt(Point(0.0, math.exp(log_beta), math.exp(log_ceiling)), 2)

    def turn(self) -> None:
        """At the lowest ceiling half the chains begin anew at the minimum: the backward pass comes from
        both."""
        walk, end = self.walk, self.points()[-1]
        if walk.turned:
            return
        half = torch.arange(self.target.chains, device=self.target.device) % 2 == 0
        walk.position = torch.where(half[:, None], torch.zeros_like(walk.position), walk.position)
        for _ in range(3):
            self._adapt(end, self._warm(self._moves(len(walk.grid) + 3)))
        walk.turned, walk.end = True, walk.position
        self.after()

    def average(self, samples: np.ndarray, i: int) -> Average:
        point, target, power = self.points()[i], self.target, self.walk.power
        pressure = point.beta * samples[..., 2]
        return average(
            power * pressure, self.losses(samples, point), samples, point, target.n, target.x0_square
        )

    def watched(self, samples: np.ndarray) -> np.ndarray:
        return samples[..., 2]


def _first_ceiling(draws: np.ndarray, power: float) -> float:
    """The ceiling that leaves :data:`HELD` of the draws (G,)."""
    low, high = math.log(draws.min()) - 5, math.log(draws.max()) + 20 / power
    for _ in range(60):
        middle = (low + high) / 2
        held = np.exp(-np.exp(np.minimum(power * (np.log(draws) - middle), 700))).mean()
        low, high = (low, middle) if held > HELD else (middle, high)
    return math.exp(high)


def _filled(grid: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """More points where two lie further apart than :data:`WIDEST`, as the first two do where the reference's
    losses have a long tail."""
    counts = np.maximum(1, np.ceil(-np.diff(grid) / WIDEST)).astype(int)
    places = np.concatenate([[0.0], *(i + np.arange(1, c + 1) / c for i, c in enumerate(counts))])
    known = np.arange(len(grid))
    return np.interp(places, known, grid), np.exp(np.interp(places, known, np.log(betas)))


def _spread_out(curve: np.ndarray, goal: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """log L and log D at points of the path, close where either changes, from ``curve`` (K, 2) of them;
    the last at the log of the threshold, ``goal``."""
    loss, d = (path.smooth(column) if len(column) > 2 else column for column in curve.T)
    loss = np.minimum.accumulate(loss)
    below = np.flatnonzero(loss <= goal)
    if len(below) and below[0] > 0:
        last = below[0]
        share = (loss[last - 1] - goal) / (loss[last - 1] - loss[last])
        end = (1 - share) * d[last - 1] + share * d[last]
        loss, d = loss[:last], d[:last]
    else:
        end = d[-1]
    loss, d = np.append(loss, goal), np.append(d, end)
    length = np.abs(np.diff(loss)) / LOSS_STEP + np.abs(np.diff(d)) / D_STEP + 1e-3
    along = np.concatenate([[0.0], np.cumsum(length)])
    count = int(np.clip(math.ceil(along[-1]) + 1, 6, most))
    places = np.linspace(0, along[-1], count)
    return np.interp(places, along, loss), np.interp(places, along, d)
