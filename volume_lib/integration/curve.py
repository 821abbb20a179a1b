r"""Whether two minima share a region: a curve between them along which the loss stays below the threshold.

Minima of networks are often joined by simple curves of low loss; a polygonal chain with one bend can do
(Garipov et al. 2018; Draxler et al. 2018). Here the bends of such a chain are moved by the gradients of the
loss at points between them, until none of them lies above the threshold. A curve shows that its ends lie in
one connected region; that none was found shows nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from volume_lib.devices import resolve_device
from volume_lib.errors import InputError
from volume_lib.integration.target import Loss, Target
from volume_lib.parameters import copied, flatten, moved_names, moved_shapes, unflatten

ROWS = 8
"""Points of a curve that are evaluated together."""
BENDS = (1, 3, 7)
"""Bends tried, one number after the other: each halves the segments of the one before."""
STEPS, EVERY = 200, 20
"""Steps of the optimiser for each number of bends, and how often the curve is looked at meanwhile."""
RATE = 0.03
"""The optimiser's rate, in units of each tensor's root mean square."""
GOAL = 0.5
"""Points above this share of the threshold are pushed down."""
COARSE, FINE = 64, 1024
"""Points at which a curve is looked at while it moves, and in the end."""


@dataclass(frozen=True)
class Curve:
    """A polygonal chain from one minimum to another.

    ``joined``: the loss stays below the threshold at all ``points`` looked at, and by more than it changes
    between any two neighbours. ``highest``: the highest loss at these points, ``largest_step`` the largest
    change between neighbours; both infinite where no time was left to look. ``gradients`` and ``losses`` of
    one network spent. ``bends`` (K, n): the moved parameters at its corners, in the order of
    :func:`volume_lib.parameters.flatten`; none of a straight line.
    """

    joined: bool
    highest: float
    largest_step: float
    points: int
    gradients: int
    losses: int
    seconds: float
    bends: Tensor = field(repr=False)

    def __str__(self) -> str:
        if not self.joined:
            return f"no curve was found (the best has a loss of {self.highest:.3g}), which shows nothing"
        kind = f"a curve of {len(self.bends)} bends" if len(self.bends) else "a straight line"
        return f"in one region: {kind} joins them, of loss ≤ {self.highest:.3g} at {self.points:,} points"

    def as_dict(self) -> dict[str, Any]:
        """All of it but where the bends lie, ready for strict JSON."""
        plain = {**vars(self), "bends": len(self.bends)}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}


class _Late(Exception):
    """There is no time left."""


def join(
    model: nn.Module,
    other: nn.Module,
    x: Any,
    y: Tensor,
    *,
    loss: Loss,
    threshold: float,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Curve:
    """Look for a curve from ``model`` to ``other`` along which the mean loss is at most ``threshold``.

    ``other`` is a network of the same kind that differs in the parameters that move, and in nothing else;
    ``minutes``: after which the search ends. The rest is as in :func:`~volume_lib.integration.integrate`.

    Raises :class:`InputError` for networks that differ otherwise, and where an end lies above the threshold.
    """
    names, shapes = moved_names(model), moved_shapes(model)
    if shapes != moved_shapes(other) or _differ(model, other, names):
        raise InputError("other: differs from the model in more than the values of its moved parameters")
    start, end = flatten(model), flatten(other)
    widths = torch.cat([_width(*pair).expand(pair[0].numel()) for pair in _pairs(start, end, shapes)])
    place = resolve_device(device)
    target = Target(copied(model).to(place).eval(), names, x, y, loss, widths, threshold, ROWS)
    apart = target.rows_of(((end - start).double() / widths).to(start)).to(place)
    if float(target.losses(apart.expand(ROWS, -1))[0]) > threshold:
        raise InputError("other: its loss lies above the threshold")
    limit = math.inf if minutes is None else 60 * minutes
    found = _Search(target, apart, torch.Generator(place).manual_seed(seed), limit).run()
    order = target.rows_of(torch.arange(target.n, device=place)).cpu()
    bends = torch.empty(found.bends.shape, dtype=start.dtype)
    bends[:, order] = found.bends.cpu()
    return Curve(**{**vars(found), "bends": (start.cpu() + bends * widths.cpu()).to(start)})


def _differ(model: nn.Module, other: nn.Module, names: list[str]) -> bool:
    """Whether anything else than the parameters ``names`` tells two networks apart."""
    one, two = ({k: v for k, v in m.state_dict().items() if k not in names} for m in (model, other))
    return one.keys() != two.keys() or any(not torch.equal(one[key], two[key]) for key in one)


def _pairs(start: Tensor, end: Tensor, shapes: dict[str, torch.Size]) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(unflatten(start, shapes).values(), unflatten(end, shapes).values(), strict=True)


def _width(start: Tensor, end: Tensor) -> Tensor:
    """The root mean square of a tensor over both ends, 1 where it is 0."""
    width = torch.stack([start, end]).double().square().mean().sqrt()
    return torch.where(width > 0, width, torch.ones_like(width))


class _Search:
    """Moves the bends of a chain from 0 to ``apart`` (n,), in units of the widths."""

    def __init__(self, target: Target, apart: Tensor, generator: torch.Generator, limit: float) -> None:
        self.target, self.generator, self.limit = target, generator, limit
        self.began = time.monotonic()
        self.start, self.end = torch.zeros_like(apart)[None], apart[None]
        self.gradients = self.evaluated = 0

    def run(self) -> Curve:
        """The first chain that serves, the straight line before those of more and more bends; or the best."""
        best = self.told(self.end[:0], torch.tensor([0.0, torch.inf], dtype=torch.float64))
        try:
            for bends in self.chains():
                found = self.looked_at(bends)
                if found.joined:
                    return found
                best = min(found, best, key=lambda curve: curve.highest)
        except _Late:
            pass
        return replace(best, gradients=self.gradients, losses=self.evaluated, seconds=self.seconds)

    def chains(self) -> Iterator[Tensor]:
        """Bends (K, n) to look at, one after the other."""
        bends = self.end[:0]
        yield bends
        for count in BENDS:
            places = torch.linspace(0, 1, count + 2, device=bends.device, dtype=torch.float64)[1:-1]
            begun = _points(self.corners(bends), places)
            noise = torch.randn(begun.shape, generator=self.generator, device=begun.device)
            for moved in self.moved(begun + RATE * noise.to(begun)):
                bends = moved
                yield bends

    def moved(self, bends: Tensor) -> Iterator[Tensor]:
        """The bends (K, n) now and then, as Adam moves them down the excess loss at random points."""
        bends = bends.requires_grad_()
        optimizer = torch.optim.Adam([bends], lr=RATE)
        for step in range(1, STEPS + 1):
            shift = torch.rand(ROWS, generator=self.generator, device=bends.device, dtype=torch.float64)
            places = (torch.arange(ROWS, device=bends.device) + shift) / ROWS
            points = _points(self.corners(bends), places)
            losses, gradient = self.target(points.detach())
            self.gradients += ROWS
            above = (losses > GOAL * self.target.threshold)[:, None]
            optimizer.zero_grad()
            points.backward(torch.nan_to_num(torch.where(above, gradient, 0.0)))
            optimizer.step()
            if step % EVERY == 0:
                yield bends.detach().clone()

    def corners(self, bends: Tensor) -> Tensor:
        return torch.cat([self.start, bends, self.end])

    def looked_at(self, bends: Tensor) -> Curve:
        """A chain at a few points, and at many if it is below the threshold there."""
        losses = self.along(bends, COARSE)
        below = float(losses.max()) <= self.target.threshold
        return self.told(bends, self.along(bends, FINE) if below else losses)

    def told(self, bends: Tensor, losses: Tensor) -> Curve:
        """What there is to say of a chain with ``losses`` (P,) along it."""
        highest, change = float(losses.max()), float(losses.diff().abs().max())
        return Curve(
            joined=len(losses) > FINE and highest + change <= self.target.threshold,
            highest=highest,
            largest_step=change,
            points=len(losses),
            gradients=self.gradients,
            losses=self.evaluated,
            seconds=self.seconds,
            bends=bends,
        )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def along(self, bends: Tensor, count: int) -> Tensor:
        """Losses (count + 1,) at evenly spaced points of a chain; what is not finite counts as infinite."""
        places = torch.linspace(0, 1, count + 1, device=bends.device, dtype=torch.float64)
        found = [self.losses(_points(self.corners(bends), part)) for part in places.split(ROWS)]
        return torch.nan_to_num(torch.cat(found), nan=torch.inf)

    def losses(self, points: Tensor) -> Tensor:
        """Losses of up to :data:`ROWS` points."""
        if self.seconds > self.limit:
            raise _Late
        self.evaluated += len(points)
        rows = torch.cat([points, points[-1:].expand(ROWS - len(points), -1)])
        return self.target.losses(rows)[: len(points)]


def _points(corners: Tensor, places: Tensor) -> Tensor:
    """The points at ``places`` (M,) in [0, 1] of the chain through ``corners`` (K, n), (M, n)."""
    along = places * (len(corners) - 1)
    left = along.floor().clamp(max=len(corners) - 2).long()
    share = (along - left).to(corners)[:, None]
    return torch.lerp(corners[left], corners[left + 1], share)
