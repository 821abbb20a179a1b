r"""Slices of loss landscapes: the loss on a plane in parameter space.

A plane is ``θ(a, b) = origin + a·u + b·v``. Through three minima, ``u`` and ``v`` are orthonormal, so that
distances in the picture are distances between parameters; on a random plane they are scaled random
directions, so that ``a`` and ``b`` are the coefficients of rays and the line ``b = 0`` is the ray of a seed
(Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", show both kinds).

>>> from volume_lib.problems import get_problem
>>> problem = get_problem("swiss_roll")
>>> models = [problem.build_model({}, seed=seed) for seed in range(3)]
>>> plane = plane_through(*models)
>>> [bool(torch.allclose(plane.point(*at), flatten(m))) for at, m in zip(plane.anchors, models)]
[True, True, True]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from volume_lib.errors import InputError
from volume_lib.parameters import copied, flatten, moved_shapes, num_moved, place
from volume_lib.problems.base import Problem
from volume_lib.progress import Bar
from volume_lib.rays.directions import draw
from volume_lib.rays.fast import FastRays
from volume_lib.rays.scaling import compute_scale

BUDGET = 2**28
"""Bytes that the points of a slice which are evaluated together may take."""


@dataclass(frozen=True)
class Plane:
    """``θ(a, b) = origin + a·u + b·v``; all (n,), over the moved parameters.

    ``anchors`` (K, 2): coordinates of the minima that the plane was laid through. ``unit``: of a and b.
    """

    origin: Tensor
    u: Tensor
    v: Tensor
    anchors: np.ndarray
    unit: str

    def point(self, a: float, b: float) -> Tensor:
        """Parameters (n,) at the coordinates ``(a, b)``."""
        return self.origin + a * self.u + b * self.v

    def window(self, margin: float = 0.4, points: int = 41) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (A,), (B,) of a grid around the anchors, ``margin`` of their extent beyond them."""
        low, high = self.anchors.min(axis=0), self.anchors.max(axis=0)
        pad = margin * (high - low).max()
        a, b = (np.linspace(low[i] - pad, high[i] + pad, points) for i in range(2))
        return a, b


def plane_through(first: nn.Module, second: nn.Module, third: nn.Module) -> Plane:
    """The plane through three networks of one shape, its origin at the first and ``u`` towards the second.

    Raises :class:`InputError` if their shapes differ or they lie on one line.
    """
    if not moved_shapes(first) == moved_shapes(second) == moved_shapes(third):
        raise InputError("a plane goes through three networks of the same shape; these differ")
    origin, b, c = (flatten(model).double().cpu() for model in (first, second, third))
    u, towards = b - origin, c - origin
    length = u.norm()
    u = u / length
    along = towards @ u
    v = towards - along * u
    height = v.norm()
    if not (length > 0 and height > 1e-9 * towards.norm()):
        raise InputError("a plane needs three networks that do not lie on one line; two of these coincide")
    anchors = np.array([[0.0, 0.0], [float(length), 0.0], [float(along), float(height)]])
    return Plane(origin.float(), u.float(), (v / height).float(), anchors, "parameter distance")


def random_plane(model: nn.Module, seeds: tuple[int, int] = (0, 1), scaling: str = "filter") -> Plane:
    """The plane of two random directions through a network, scaled as the rays of a sweep are.

    ``seeds`` are perturbation seeds; ``scaling`` is ``"filter"`` or ``"none"``.
    """
    if seeds[0] == seeds[1]:
        raise InputError(f"seeds {seeds}: a plane needs two different directions")
    n = num_moved(model)
    scale = compute_scale(scaling, model)
    u, v = (scale * draw(seed, n) for seed in seeds)
    return Plane(flatten(model).cpu(), u, v, np.zeros((1, 2)), "coefficient")


def moved(model: nn.Module, parameters: Tensor) -> nn.Module:
    """A copy of ``model`` with its moved parameters set to ``parameters`` (n,)."""
    twin = copied(model)
    place(twin, parameters)
    return twin


def plane_losses(
    problem: Problem,
    model: nn.Module,
    plane: Plane,
    a: np.ndarray,
    b: np.ndarray,
    x: Tensor,
    y: Tensor,
    sizes: Sequence[int] | None = None,
    *,
    progress: bool = True,
) -> np.ndarray:
    """Mean losses (L, B, A) on the grid of ``a`` (A,) and ``b`` (B,), one slice for each landscape.

    ``x`` (N, …), ``y`` (N, …): the samples of the largest landscape; ``sizes``: of how many of the first of
    them each landscape consists, increasing (default: all, L = 1). An infinite or NaN loss stays one.
    """
    sizes = [len(x)] if sizes is None else list(sizes)
    if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] > len(x):
        raise InputError(f"sizes must increase within 1..{len(x)}, the number of samples; got {sizes}")
    device = next(model.parameters()).device
    origin = moved(model, plane.origin)
    # Every point of the grid is one step along a direction of its own.
    scale = torch.ones(len(plane.origin))
    # Rounding that moves a crossing by 1e-6 is not seen in a picture.
    rays = FastRays(problem, origin, x, y, sizes, scale, device, memory_budget=BUDGET, precise=False)
    grid = torch.cartesian_prod(torch.as_tensor(b), torch.as_tensor(a)).float()
    losses = np.empty((len(grid), len(sizes)))
    batch = min(rays.max_rows, 256)
    for start in Bar(range(0, len(grid), batch), desc="slice", unit="batch", disable=not progress):
        at = grid[start : start + batch]
        rays.load(at[:, 1:] * plane.u + at[:, :1] * plane.v)
        losses[start : start + batch] = rays(np.arange(len(at)), np.ones(len(at)), len(sizes) - 1)[0]
    return losses.T.reshape(len(sizes), len(b), len(a))
