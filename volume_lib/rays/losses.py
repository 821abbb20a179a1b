r"""Losses and accuracies along rays, in nested landscapes.

A ray is ``θ(c) = θ + c·S·g``: the trained parameters plus a coefficient times a scaled direction.
A landscape of size ``m`` is the mean loss over the first ``m`` samples; landscapes are nested, so
one pass with per-sample losses over the largest gives the means of all by segment sums.

Two evaluators answer the same call, ``rays(rows, coefficients, landscape)`` after
``rays.load(directions)``: :class:`PlainRays`, here, puts the parameters into the model and runs it;
:class:`volume_lib.rays.fast.FastRays` gives the same numbers to float rounding in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from volume_lib.abilities import abilities, fitting, give_copies, ready, samples_together
from volume_lib.calls import doubled
from volume_lib.parameters import flatten, moved_shapes, place
from volume_lib.problems.base import Problem

PLAIN_ELEMENTS = 2**26
"""Activations (numbers) of the widest layer that a plain forward pass may hold: a quarter of a gigabyte."""


class Rays(Protocol):
    """What a search needs of an evaluator."""

    sizes: tuple[int, ...]
    num_rows: int

    def load(self, directions: Tensor) -> None:
        """Take directions ``(D, n)``, unscaled; the rows of later calls index them."""

    def has_precise(self, landscape: int) -> bool:
        """Whether ``precise=True`` gives more digits in this landscape."""
        ...

    def __call__(
        self,
        rows: np.ndarray,
        coefficients: np.ndarray,
        landscape: int,
        stride: int = 1,
        precise: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean losses and accuracies at one coefficient on each given ray.

        Args:
            rows: indices into the loaded directions, increasing, shape ``(R,)``.
            coefficients: one coefficient for each of them, shape ``(R,)``.
            landscape: the largest landscape wanted; all smaller ones come with it.
            stride: 1 for the exact means; ``s`` for the means over every s-th sample only.
            precise: compute in float64 where :meth:`has_precise`.

        Returns:
            ``(losses, accuracies)``, float64 arrays of shape ``(R, landscape + 1)``.
        """
        ...


class Evaluator:
    """What both evaluators share: the data, the parameters and the sizes of the landscapes.

    Args:
        problem: gives the per-sample loss and accuracy.
        model: the minimum; copied, never changed.
        x, y: samples of the largest landscape, in order.
        sizes: increasing landscape sizes ``m``; landscape ``k`` is the first ``sizes[k]`` samples.
        scale: positive diagonal of the scaling ``S``, shape ``(n,)``.
        device: where to compute.
        thresholds: losses that are to be told apart; where float32 rounds too much for them, and the network
            runs in float64, everything is computed in float64.

    Weights of half precision are computed with in float32; a network that changes its inputs gets copies
    (:mod:`volume_lib.abilities`).
    """

    def __init__(
        self,
        problem: Problem,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        sizes: Sequence[int],
        scale: Tensor,
        device: torch.device | str = "cpu",
        thresholds: Sequence[float] = (),
    ) -> None:
        if list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] > len(x):
            raise ValueError(f"sizes must increase within 1..{len(x)} (the samples given); got {list(sizes)}")
        self.problem = problem
        self.model = ready(model)[0].to(device)
        self.x, self.y = fitting(self.model, x[: sizes[-1]].to(device)), y[: sizes[-1]].to(device)
        self.able = able = abilities(self.model, self.x, self.y, problem.per_sample_loss, problem.correct)
        self.width = able.width
        if able.copies:
            give_copies(self.model)
        if able.float64 and any(able.too_coarse(threshold) for threshold in thresholds):
            self.model, self.x, self.y = self.model.double(), doubled(self.x), doubled(self.y)
        self.sizes = tuple(int(size) for size in sizes)
        self.shapes = moved_shapes(self.model)
        self.theta = flatten(self.model)
        self.scale = scale.to(self.theta)
        if self.scale.shape != self.theta.shape:
            raise ValueError(f"scale has shape {tuple(scale.shape)}; the model moves {len(self.theta)}")
        self.device = self.theta.device
        self.num_rows = 0
        self._versions = _versions(self.x, self.y)
        self.samples_evaluated = 0  # rows × samples over all calls: the benchmarks' count of work

    @torch.no_grad()
    def _full_passes(
        self, delta: Tensor, coefficient: float, landscape: int, stride: int, chunk: int
    ) -> list[Tensor]:
        """Per-sample losses and accuracies ``(m,)`` at ``θ + c·delta``, ``delta`` (n,)."""
        x, y = (values[: self.sizes[landscape] : stride] for values in (self.x, self.y))
        place(self.model, self.theta + float(coefficient) * delta, self.shapes)
        with exact_convolutions(self.device):
            results = [
                self._per_sample(self.model(part_x), part_y)
                for part_x, part_y in zip(x.split(chunk), y.split(chunk), strict=True)
            ]
        self.samples_evaluated += len(y)
        return [torch.cat(parts) for parts in zip(*results, strict=True)]

    @torch.no_grad()
    def mean_losses(self, direction: Tensor, coefficient: float) -> np.ndarray:
        """Mean losses ``(K,)`` in all landscapes on the ray of ``direction`` (n,), unscaled, by full passes.

        It takes no short cut: what an evaluator gave can be compared with it.
        """
        delta = direction.to(self.theta) * self.scale
        last = len(self.sizes) - 1
        losses, _ = self._full_passes(delta, coefficient, last, 1, samples_together(self.width))
        place(self.model, self.theta, self.shapes)
        return self._means(losses[None], last, 1)[0]

    def changed_inputs(self) -> bool:
        """Whether the samples were written to since this evaluator was made."""
        return self._versions != _versions(self.x, self.y)

    def _means(self, values: Tensor, landscape: int, stride: int) -> np.ndarray:
        """Means of per-sample values ``(R, m)`` over the landscapes up to one: ``(R, landscape + 1)``."""
        bounds = [-(-size // stride) for size in self.sizes[: landscape + 1]]
        starts = [0, *bounds[:-1]]
        sums = [values[:, a:b].sum(1, dtype=torch.float64) for a, b in zip(starts, bounds, strict=True)]
        return (torch.stack(sums, 1).cumsum(1).cpu() / torch.tensor(bounds)).numpy()

    def _per_sample(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.problem.per_sample_loss(outputs, y), self.problem.correct(outputs, y)


class PlainRays(Evaluator):
    """Full forward passes, one direction and one coefficient at a time.

    What one would write first: the reference for tests and the baseline of the benchmarks.
    """

    def load(self, directions: Tensor) -> None:
        """Take directions ``(D, n)``, unscaled; rows of later calls index them."""
        self._deltas = directions.to(self.theta) * self.scale
        self.num_rows = len(directions)

    def has_precise(self, landscape: int) -> bool:
        """Never: the plain procedure computes in the model's own precision."""
        return False

    @torch.no_grad()
    def __call__(
        self,
        rows: np.ndarray,
        coefficients: np.ndarray,
        landscape: int,
        stride: int = 1,
        precise: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean losses and accuracies: see :class:`Rays`."""
        chunk = max(1, PLAIN_ELEMENTS // self.width)
        results = [
            self._full_passes(self._deltas[row], c, landscape, stride, chunk)
            for row, c in zip(rows, coefficients, strict=True)
        ]
        losses, corrects = (torch.stack(parts) for parts in zip(*results, strict=True))
        return self._means(losses, landscape, stride), self._means(corrects, landscape, stride)


def exact_convolutions(device: torch.device) -> AbstractContextManager:
    """Keep GPUs from rounding the inputs of convolutions to 10 bits (TF32), which moves crossings by 1e-3."""
    if device.type != "cuda":  # setting the flags would take longer than a small pass
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def _versions(*tensors: Tensor) -> list[int]:
    """How often each was written to, as torch counts it; tensors of inference mode are not counted."""
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors]
