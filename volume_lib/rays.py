r"""Losses and accuracies along rays, in nested landscapes.

A ray is ``θ(c) = θ + c·S·g``: the trained parameters plus a coefficient times a scaled direction.
A landscape of size ``m`` is the mean loss over the first ``m`` samples; landscapes are nested, so
one pass with per-sample losses over the largest gives the means of all by segment sums.

Two evaluators answer the same call, ``evaluator(rows, coefficients, landscape)``, after
``evaluator.load(directions)``:

* :class:`PlainRays` puts the parameters into the model and runs it. It is what one would write
  first, the reference for tests and the baseline of the benchmarks.
* :class:`FastRays` gives the same numbers to float rounding, in a fraction of the time:

  1. *Linear stem.* If the first layer is linear in its parameters, as a ``Linear``, a ``Conv2d`` or
     an embedding is, then ``stem(x; θ + c·δ) = stem(x; θ) + c·stem(x; δ)``. Both terms are computed
     once for a direction, and every further coefficient costs one addition plus the tail.
  2. *Batches of directions* under ``torch.func.vmap`` while the work for one is small.
  3. *Chunks* of samples that stay in the processor's cache from the stem to the loss.

  Small landscapes, where rounding shows, have a float64 twin (``precise=True``).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from .directions import flatten, perturbed_shapes, unflatten
from .problems.base import Problem

CHUNK_ELEMENTS = 2**20
"""Activations (numbers) that one chunk holds at its widest layer: a few MB, about a core's cache."""


PRECISE_SAMPLES = 1024
"""Landscapes of up to this many samples can also be evaluated in float64. Rounding in float32 moves a
crossing by up to 1e-6 when few samples share it; over more samples it averages out."""


class Rays(Protocol):
    """What a search needs: see :class:`PlainRays` and :class:`FastRays`."""

    sizes: tuple[int, ...]
    num_rows: int

    def load(self, directions: Tensor) -> None: ...

    def has_precise(self, landscape: int) -> bool: ...

    def __call__(
        self,
        rows: np.ndarray,
        coefficients: np.ndarray,
        landscape: int,
        stride: int = 1,
        precise: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]: ...


class _Evaluator:
    """What both evaluators share: the data, the parameters and the sizes of the landscapes."""

    def __init__(
        self,
        problem: Problem,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        sizes: Sequence[int],
        scale: Tensor,
        device: torch.device | str = "cpu",
    ) -> None:
        if list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] > len(x):
            raise ValueError(f"sizes must increase within 1..{len(x)} (the samples given); got {list(sizes)}")
        self.problem = problem
        self.model = copy.deepcopy(model).to(device).eval().requires_grad_(False)
        self.x, self.y = x[: sizes[-1]].to(device), y[: sizes[-1]].to(device)
        self.sizes = tuple(int(size) for size in sizes)
        self.shapes = perturbed_shapes(self.model)
        self.theta = flatten(self.model)
        self.scale = scale.to(self.theta)
        if self.scale.shape != self.theta.shape:
            raise ValueError(f"scale has shape {tuple(scale.shape)}; the model perturbs {len(self.theta)}")
        self.device = self.theta.device
        self.num_rows = 0
        self.width = _widest_activation(self.model, self.x)
        self.chunk = max(16, CHUNK_ELEMENTS // self.width)
        self.samples_evaluated = 0  # rows × samples over all calls: the benchmarks' count of work

    def _means(self, sums: Tensor, stride: int) -> np.ndarray:
        """Segment sums ``(R, K)`` → means over each nested landscape ``(R, K)``, float64."""
        counts = torch.tensor([-(-size // stride) for size in self.sizes[: sums.shape[1]]])
        return (sums.cumsum(1).cpu() / counts).numpy()

    def _add_segments(self, sums: Tensor, values: Tensor, start: int, stride: int) -> None:
        """Add per-sample values ``(R, b)`` of strided positions ``start…start+b`` to their segments."""
        previous = 0
        for k in range(sums.shape[1]):
            bound = -(-self.sizes[k] // stride)
            lo, hi = max(previous - start, 0), min(bound - start, values.shape[1])
            if lo < hi:
                sums[:, k] += values[:, lo:hi].sum(1, dtype=torch.float64)
            previous = bound

    def _per_sample(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.problem.per_sample_loss(outputs, y), self.problem.correct(outputs, y)


class PlainRays(_Evaluator):
    """Full forward passes, one direction and one coefficient at a time.

    Args:
        problem: gives the per-sample loss and accuracy.
        model: the minimum; copied, never changed.
        x, y: samples of the largest landscape, in order.
        sizes: increasing landscape sizes ``m``; landscape ``k`` is the first ``sizes[k]`` samples.
        scale: positive diagonal of the scaling ``S``, shape ``(n,)``.
        device: where to compute.
    """

    def load(self, directions: Tensor) -> None:
        """Take directions ``(D, n)`` (unscaled); rows of later calls index them."""
        self._deltas = directions.to(self.theta) * self.scale
        self.num_rows = len(directions)
        self._parameters = dict(self.model.named_parameters())

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
        """Mean losses and accuracies, each ``(R, landscape + 1)``: see :meth:`FastRays.__call__`."""
        size = self.sizes[landscape]
        losses = torch.zeros(len(rows), landscape + 1, dtype=torch.float64, device=self.device)
        corrects = torch.zeros_like(losses)
        step = self.chunk * stride
        for i, (row, c) in enumerate(zip(rows, coefficients, strict=True)):
            for name, value in unflatten(self.theta + float(c) * self._deltas[row], self.shapes).items():
                self._parameters[name].copy_(value)
            for start in range(0, size, step):
                part = slice(start, min(start + step, size), stride)
                loss, correct = self._per_sample(self.model(self.x[part]), self.y[part])
                self._add_segments(losses[i : i + 1], loss[None], start // stride, stride)
                self._add_segments(corrects[i : i + 1], correct[None], start // stride, stride)
        self.samples_evaluated += len(rows) * -(-size // stride)
        return self._means(losses, stride), self._means(corrects, stride)


class FastRays(_Evaluator):
    """The same numbers through linear stems, batches of directions and cache-sized chunks.

    Args:
        problem, model, x, y, sizes, scale, device: as for :class:`PlainRays`.
        memory_budget: bytes that loaded directions and their stems may take (:attr:`max_rows`).

    A model takes the fast path when it declares ``stem``, ``tail`` and ``stem_parameter_names``
    (DESIGN: ``forward(x) == tail(stem(x))``, the stem linear in its parameters); any other
    ``nn.Module`` takes the general path, a full pass for each coefficient.

    Results do not depend on the chunk sizes, nor on the batch a direction comes in, beyond float rounding.
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
        memory_budget: float = 1e9,
    ) -> None:
        super().__init__(problem, model, x, y, sizes, scale, device)
        small = [size for size in self.sizes if size <= PRECISE_SAMPLES]
        self.twin: FastRays | None = None
        if small and self.theta.dtype == torch.float32:
            x64, y64 = _double(self.x[: small[-1]]), _double(self.y[: small[-1]])
            twin_model = copy.deepcopy(self.model).double()
            self.twin = FastRays(problem, twin_model, x64, y64, small, scale, device, memory_budget / 2)
        itemsize = self.theta.element_size()
        self.stem_out = self._find_stem()
        per_row = itemsize * (2 * len(self.theta) + len(self.x) * math.prod(self.stem_out or (0,)))
        if self.stem_out and 2 * per_row > memory_budget:
            self.stem_out = None  # the stems of one direction do not fit: take the general path
            per_row = itemsize * 2 * len(self.theta)
        self.max_rows = max(1, int(memory_budget // per_row))
        if self.twin:
            self.max_rows = min(self.max_rows, self.twin.max_rows)
        self._split_parameters()
        # A convolution under vmap becomes a grouped one, slower than one direction at a time.
        self.batched = all(len(shape) <= 2 for shape in self.shapes.values())
        self._tail = _Part(self.model, "tail" if self.stem_out else "forward")
        if self.stem_out:
            self._stem = _Part(self.model, "stem")
            self._stem_base = torch.empty(
                len(self.x), *self.stem_out, dtype=self.theta.dtype, device=self.device
            )
            with torch.no_grad(), _exact_convolutions():
                for part in self._parts(len(self.x)):
                    self._stem_base[part] = self.model.stem(self.x[part])

    def _find_stem(self) -> tuple[int, ...] | None:
        if not all(hasattr(self.model, name) for name in ("stem", "tail", "stem_parameter_names")):
            return None
        with torch.no_grad():
            return tuple(self.model.stem(self.x[:1]).shape[1:])

    def _split_parameters(self) -> None:
        """Which of the perturbed parameters the stem uses and which the tail uses (tied ones: both)."""
        stem = set(self.model.stem_parameter_names) if self.stem_out else set()
        tied = set(getattr(self.model, "tied_parameter_names", ())) if self.stem_out else set()
        self._stem_shapes = {name: shape for name, shape in self.shapes.items() if name in stem}
        self._tail_shapes = {
            name: shape for name, shape in self.shapes.items() if name not in stem or name in tied
        }
        places = torch.arange(len(self.theta), device=self.device)
        by_name = unflatten(places, self.shapes)

        def index(shapes: dict[str, torch.Size]) -> Tensor:
            return torch.cat([by_name[name].reshape(-1) for name in shapes]) if shapes else places[:0]

        self._stem_index, self._tail_index = index(self._stem_shapes), index(self._tail_shapes)
        self._tail_theta = self.theta[self._tail_index]

    def _parts(self, size: int, stride: int = 1) -> list[slice]:
        step = self.chunk * stride
        return [slice(a, min(a + step, size), stride) for a in range(0, size, step)]

    def load(self, directions: Tensor) -> None:
        """Take directions ``(D, n)`` (unscaled) and compute their stems; rows of later calls index them.

        ``D`` should be at most :attr:`max_rows`.
        """
        self.num_rows = len(directions)
        if self.twin:
            self.twin.load(directions)
        deltas = directions.to(self.theta) * self.scale
        self._tail_deltas = deltas[:, self._tail_index] if self.stem_out else deltas
        if self.stem_out:
            self._load_stems(deltas[:, self._stem_index])

    @torch.no_grad()
    def _load_stems(self, deltas: Tensor) -> None:
        shape = (self.num_rows, len(self.x), *self.stem_out)
        old = getattr(self, "_stem_deltas", None)
        if old is None or old.shape != shape:
            self._stem_deltas = old = None  # let the old go before the new one is made
            self._stem_deltas = torch.empty(shape, dtype=self.theta.dtype, device=self.device)
        group = self._rows_together(len(self.x), deltas.shape[1])
        with _exact_convolutions():
            for part in self._parts(len(self.x)):
                for a in range(0, self.num_rows, group):
                    rows = slice(a, a + group)
                    self._stem_deltas[rows, part] = self._call_batch(
                        self._stem, unflatten(deltas[rows], self._stem_shapes), self.x[part], None
                    )

    def _rows_together(self, samples: int, parameters: int) -> int:
        """How many directions go through the model in one call."""
        if not self.batched or samples > self.chunk:
            return 1
        return max(1, CHUNK_ELEMENTS // max(samples * self.width, parameters))

    @staticmethod
    def _call_batch(
        part: _Part, parameters: dict[str, Tensor], inputs: Tensor, inputs_dim: int | None
    ) -> Tensor:
        """``part`` of the model for a batch of parameters ``(R, …)``; a single row goes without vmap."""
        if len(next(iter(parameters.values()), inputs)) == 1:
            one = inputs if inputs_dim is None else inputs[0]
            return part.call({name: value[0] for name, value in parameters.items()}, one)[None]
        return vmap(part.call, in_dims=(0, inputs_dim))(parameters, inputs)

    def has_precise(self, landscape: int) -> bool:
        """Whether ``precise=True`` gives more digits in this landscape."""
        return self.twin is not None and landscape < len(self.twin.sizes)

    @torch.no_grad()
    def __call__(
        self,
        rows: np.ndarray,
        coefficients: np.ndarray,
        landscape: int,
        stride: int = 1,
        precise: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean losses and accuracies at one coefficient for each given direction.

        Args:
            rows: indices into the loaded directions, shape ``(R,)``.
            coefficients: one coefficient for each of them, shape ``(R,)``.
            landscape: the largest landscape wanted; all smaller ones come with it.
            stride: 1 for the exact means; ``s`` for the means over every s-th sample only.
            precise: compute in float64 where :meth:`has_precise`.

        Returns:
            ``(losses, accuracies)``, float64 arrays of shape ``(R, landscape + 1)``.
        """
        if precise and self.has_precise(landscape):
            return self.twin(rows, coefficients, landscape, stride)
        size = self.sizes[landscape]
        coefficients_t = torch.as_tensor(coefficients, device=self.device).to(self.theta.dtype)
        losses = torch.zeros(len(rows), landscape + 1, dtype=torch.float64, device=self.device)
        corrects = torch.zeros_like(losses)
        group = self._rows_together(-(-size // stride), self._tail_deltas.shape[1])
        with _exact_convolutions():
            for a in range(0, len(rows), group):
                together = slice(a, a + group)
                self._evaluate_group(
                    self._selection(rows[together]),
                    coefficients_t[together],
                    size,
                    stride,
                    losses[together],
                    corrects[together],
                )
        self.samples_evaluated += len(rows) * -(-size // stride)
        return self._means(losses, stride), self._means(corrects, stride)

    def _selection(self, rows: np.ndarray) -> slice | Tensor:
        """Rows as a slice where they are neighbours, which spares a copy; else as indices."""
        if rows[-1] - rows[0] + 1 == len(rows):
            return slice(int(rows[0]), int(rows[-1]) + 1)
        return torch.as_tensor(rows, device=self.device)

    def _evaluate_group(
        self, rows: slice | Tensor, c: Tensor, size: int, stride: int, losses: Tensor, corrects: Tensor
    ) -> None:
        vectors = torch.addcmul(self._tail_theta, c[:, None], self._tail_deltas[rows])
        parameters = unflatten(vectors, self._tail_shapes)
        for part in self._parts(size, stride):
            if self.stem_out:
                inputs, inputs_dim = self._stems(rows, c, part), 0
            else:
                inputs, inputs_dim = self.x[part], None
            if len(c) > 1 and self.stem_out and hasattr(self.model, "stacked_tail"):
                outputs = self.model.stacked_tail(parameters, inputs)
            else:
                outputs = self._call_batch(self._tail, parameters, inputs, inputs_dim)
            loss, correct = self._per_sample_batch(outputs, self.y[part])
            self._add_segments(losses, loss, part.start // stride, stride)
            self._add_segments(corrects, correct, part.start // stride, stride)

    def _stems(self, rows: slice | Tensor, c: Tensor, part: slice) -> Tensor:
        base, moved = self._stem_base[part], self._stem_deltas[rows, part]
        if len(c) == 1:
            return torch.add(base, moved[0], alpha=float(c[0]))[None]
        return torch.addcmul(base, moved, c.view(-1, *[1] * base.dim()))

    def _per_sample_batch(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if len(outputs) == 1:
            loss, correct = self._per_sample(outputs[0], y)
            return loss[None], correct[None]
        return vmap(self._per_sample, in_dims=(0, None))(outputs, y)


class _Part(nn.Module):
    """One method of a model (``stem``, ``tail`` or ``forward``) as a function of its parameters."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, inputs: Tensor) -> Tensor:
        return getattr(self.model, self.method)(inputs)

    def call(self, parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(
            self, {f"model.{name}": value for name, value in parameters.items()}, (inputs,)
        )


def _widest_activation(model: nn.Module, x: Tensor) -> int:
    """Numbers that the widest layer puts out for one sample."""
    widest = [1]

    def note(_module, _inputs, output) -> None:
        if isinstance(output, Tensor):
            widest.append(output.numel())

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    with torch.no_grad():
        model(x[:1])
    for hook in hooks:
        hook.remove()
    return max(widest)


def _double(values: Tensor) -> Tensor:
    """Inputs or targets in float64; indices and labels stay what they are."""
    return values.double() if values.is_floating_point() else values


def _exact_convolutions():
    """Keep GPUs from rounding the inputs of convolutions to 10 bits (TF32)."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
