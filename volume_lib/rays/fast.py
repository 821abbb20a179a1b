r"""The fast evaluator of rays: linear stems, batches of directions, cache-sized chunks.

1. *Linear stem.* If the first layer is linear in its parameters, as a ``Linear``, a ``Conv2d`` or an
   embedding is, then ``stem(x; θ + c·δ) = stem(x; θ) + c·stem(x; δ)``. Both terms are computed once for a
   direction, and every further coefficient costs one addition plus the tail.
2. *Batches of directions* go through the tail together while the work for one is small: under
   ``torch.func.vmap``, or by the model's own ``stacked_tail``.
3. *Chunks* of samples stay in the processor's cache from the stem to the loss.
4. *Precision.* Small landscapes, where rounding shows in a crossing, have a float64 twin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from volume_lib import abilities
from volume_lib.abilities import samples_together
from volume_lib.calls import doubled
from volume_lib.parameters import copied, unflatten
from volume_lib.problems.base import Problem, Stacked, Stemmed
from volume_lib.rays.losses import Evaluator, exact_convolutions
from volume_lib.training.stacks import as_operand

LOADED_BYTES = 2**28
"""Directions with their stems are loaded up to this size, budget permitting; more gains nothing."""
PRECISE_SAMPLES = 1024
"""Landscapes of up to this many samples can also be evaluated in float64. Rounding in float32 moves a
crossing by up to 1e-6 and more when few samples decide it; over more samples it averages out."""


class FastRays(Evaluator):
    """The numbers of :class:`PlainRays`, to float rounding, in a fraction of the time.

    Args:
        problem, model, x, y, sizes, scale, device, thresholds: as for :class:`Evaluator`.
        memory_budget: bytes that loaded directions with their stems may take (:attr:`max_rows`).
        precise: whether small landscapes get a float64 twin, for crossings to 1e-6.

    A model takes the fast path when it declares ``stem``, ``tail`` and ``stem_parameter_names``, with
    ``forward(x) == tail(stem(x))`` and the stem linear in its parameters; any other ``nn.Module`` takes
    the general path, a full pass for each coefficient.

    Results do not depend on chunk sizes, nor on the batch a direction comes in, beyond float rounding.
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
        precise: bool = True,
        thresholds: Sequence[float] = (),
    ) -> None:
        super().__init__(problem, model, x, y, sizes, scale, device, thresholds)
        self.chunk = samples_together(self.width)
        # A convolution under vmap becomes a grouped one, slower than one direction at a time.
        self.batched = self.able.together and all(len(shape) <= 2 for shape in self.shapes.values())
        small = [size for size in self.sizes if size <= PRECISE_SAMPLES]
        self.twin: FastRays | None = None
        if precise and small and self.able.float64 and self.theta.dtype == torch.float32:
            x64, y64 = doubled(self.x[: small[-1]]), doubled(self.y[: small[-1]])
            double_model = copied(self.model).double()
            self.twin = FastRays(problem, double_model, x64, y64, small, scale, device, memory_budget / 2)
            memory_budget /= 2
        self._find_stem(memory_budget)

    def _find_stem(self, memory_budget: float) -> None:
        """Settle whether the model's stem is used, which parameters go where, and how many rows fit."""
        declared = all(hasattr(self.model, name) for name in ("stem", "tail", "stem_parameter_names"))
        network = cast("Stemmed", self.model)
        declared = declared and not self.shapes.keys().isdisjoint(network.stem_parameter_names)
        # only a call of the whole network gets a copy of its inputs
        declared = declared and not getattr(self.model, "gets_copies", False)
        itemsize, n = self.theta.element_size(), len(self.theta)
        self.stem_shape: torch.Size | None = None
        per_row = 3 * itemsize * n  # the direction, the scaled direction, the parameters
        if declared:
            with torch.no_grad():
                shape = network.stem(self.x[:1]).shape[1:]
            with_stem = per_row + itemsize * len(self.x) * math.prod(shape)
            if 2 * with_stem <= memory_budget:  # else: the stems of one direction do not fit
                self.stem_shape, per_row = shape, with_stem
        self.max_rows = max(1, int(min(memory_budget, LOADED_BYTES) // per_row))
        if self.twin:
            self.max_rows = min(self.max_rows, self.twin.max_rows)
        stem_names = set(network.stem_parameter_names) if self.stem_shape else set()
        tied = set(getattr(self.model, "tied_parameter_names", ()))
        self._stem_columns = _Columns(self.shapes, [name for name in self.shapes if name in stem_names])
        self._tail_columns = _Columns(
            self.shapes, [name for name in self.shapes if name not in stem_names or name in tied]
        )
        self._tail_theta = self._tail_columns.of(self.theta)
        self._tail = _Part(self.model, "tail" if self.stem_shape else "forward")
        parameters = {name: value.detach() for name, value in self.model.named_parameters()}
        self._frozen = {name: value for name, value in parameters.items() if name not in self.shapes}
        if self.stem_shape:
            self._stem = _Part(self.model, "stem")
            # Along a direction frozen parameters add nothing to the stem.
            self._still = {
                name: torch.zeros_like(self._frozen[name]) for name in stem_names & {*self._frozen}
            }
            self._stem_base = self._through_stem(self._stem_columns.of(self.theta)[None], {})[0]
            self._stem_buffer = self._stem_base.new_empty(0)
            self._moved = self._stem_base.new_empty(self.chunk, *self._stem_base.shape[1:])

    def has_precise(self, landscape: int) -> bool:
        """Whether ``precise=True`` gives more digits in this landscape."""
        return self.twin is not None and landscape < len(self.twin.sizes)

    def load(self, directions: Tensor) -> None:
        """Take directions ``(D, n)``, unscaled, and compute their stems; rows of later calls index them.

        ``D`` may be at most :attr:`max_rows` if the memory budget is to be kept.
        """
        self.num_rows = len(directions)
        deltas = directions.to(self.theta) * self.scale
        self._tail_deltas = self._tail_columns.of(deltas)
        if self.stem_shape:
            if len(self._stem_buffer) < self.num_rows:
                self._stem_buffer = self._stem_base.new_empty(0)  # let the old go before the new is made
                self._stem_buffer = self._stem_base.new_empty(self.num_rows, *self._stem_base.shape)
            self._through_stem(self._stem_columns.of(deltas), self._still, self._stem_buffer)
        if self.twin:
            self.twin.load(directions)

    @torch.no_grad()
    def _through_stem(self, vectors: Tensor, frozen: dict[str, Tensor], out: Tensor | None = None) -> Tensor:
        """``stem(x; vector)`` of all samples for each of ``vectors`` ``(R, n_stem)``: ``(R, N, …)``.

        ``frozen``: what takes the place of the model's own frozen parameters.
        """
        stems: Tensor = (
            out
            if out is not None
            else self.x.new_empty(len(vectors), len(self.x), *(self.stem_shape or ()), dtype=self.theta.dtype)
        )
        group = self._rows_together(len(self.x), vectors.shape[1])
        with exact_convolutions(self.device):
            for a in range(0, len(vectors), group):
                parameters = unflatten(vectors[a : a + group], self._stem_columns.shapes)
                together = len(vectors[a : a + group])
                parameters |= _repeated(frozen, together)
                if together > 1:
                    stems[a : a + together] = self._stem.call_stacked(parameters, self.x, None)
                    continue

                def fill(stem: Callable[[Tensor], Tensor], row: Tensor = stems[a]) -> None:
                    for part in self._parts(len(self.x)):
                        row[part] = stem(self.x[part])

                self._stem.call(parameters, fill)
        return stems

    def _parts(self, size: int, stride: int = 1) -> list[slice]:
        step = self.chunk * stride
        return [slice(a, min(a + step, size), stride) for a in range(0, size, step)]

    def _rows_together(self, samples: int, parameters: int) -> int:
        """How many directions go through the model in one call; more than one only if in one chunk."""
        if not self.batched or samples > self.chunk:
            return 1
        return max(1, abilities.BATCH_ELEMENTS // max(samples * self.width, parameters))

    @torch.no_grad()
    def __call__(
        self,
        rows: np.ndarray,
        coefficients: np.ndarray,
        landscape: int,
        stride: int = 1,
        precise: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean losses and accuracies: see :class:`volume_lib.rays.losses.Rays`."""
        if precise and self.twin is not None and self.has_precise(landscape):
            return self.twin(rows, coefficients, landscape, stride)
        samples = -(-self.sizes[landscape] // stride)
        parts = self._parts(self.sizes[landscape], stride)
        c = torch.as_tensor(coefficients, device=self.device).to(self.theta.dtype)
        group = self._rows_together(samples, len(self._tail_theta))
        results = []
        with exact_convolutions(self.device):
            for a in range(0, len(rows), group):
                chosen = self._selection(rows[a : a + group])
                results.append(self._evaluate_group(chosen, c[a : a + group], parts))
        self.samples_evaluated += len(rows) * samples
        losses, corrects = (torch.cat(parts) for parts in zip(*results, strict=True))
        return self._means(losses, landscape, stride), self._means(corrects, landscape, stride)

    def _selection(self, rows: np.ndarray) -> slice | Tensor:
        """Rows as a slice where they are neighbours, which spares a copy; else as indices."""
        if rows[-1] - rows[0] + 1 == len(rows):
            return slice(int(rows[0]), int(rows[-1]) + 1)
        return torch.as_tensor(rows, device=self.device)

    def _evaluate_group(self, rows: slice | Tensor, c: Tensor, parts: list[slice]) -> tuple[Tensor, Tensor]:
        """Per-sample losses and accuracies, each ``(R, m)``, of the samples in ``parts``."""
        vectors = torch.addcmul(self._tail_theta, c[:, None], self._tail_deltas[rows])
        parameters = unflatten(vectors, self._tail_columns.shapes)
        if len(c) > 1:
            inputs, y = self._inputs(rows, c, parts[0]), self.y[parts[0]]
            if self.stem_shape and hasattr(self.model, "stacked_tail"):
                everything = parameters | _repeated(self._frozen, len(c))
                operands = {name: as_operand(value) for name, value in everything.items()}
                outputs = cast("Stacked", self.model).stacked_tail(operands, inputs)
            else:
                outputs = self._tail.call_stacked(parameters, inputs, 0 if self.stem_shape else None)
            return vmap(self._per_sample, in_dims=(0, None))(outputs, y)

        def through(tail: Callable[[Tensor], Tensor]) -> list[tuple[Tensor, Tensor]]:
            inputs = ((self._inputs(rows, c, part), self.y[part]) for part in parts)
            return [self._per_sample(tail(h[0] if self.stem_shape else h), y) for h, y in inputs]

        losses, corrects = zip(*self._tail.call(parameters, through), strict=True)
        return torch.cat(losses)[None], torch.cat(corrects)[None]

    def _inputs(self, rows: slice | Tensor, c: Tensor, part: slice) -> Tensor:
        """What the tail takes: moved stems ``(R, b, …)``, or the samples ``(b, …)`` if there is no stem."""
        if not self.stem_shape:
            return self.x[part]
        base, moved = self._stem_base[part], self._stem_buffer[rows, part]
        if len(c) == 1:
            return torch.add(base, moved[0], alpha=float(c[0]), out=self._moved[: len(base)])[None]
        return torch.addcmul(base, moved, c.view(-1, *[1] * base.dim()))


class _Columns:
    """Some of the parameters, cut out of flat vectors ``(…, n)``."""

    def __init__(self, shapes: dict[str, torch.Size], names: list[str]) -> None:
        self.shapes = {name: shapes[name] for name in names}
        self._slices: list[slice] = []
        start = 0
        for name, shape in shapes.items():
            stop = start + shape.numel()
            if name in self.shapes:
                if self._slices and self._slices[-1].stop == start:
                    self._slices[-1] = slice(self._slices[-1].start, stop)
                else:
                    self._slices.append(slice(start, stop))
            start = stop

    def of(self, vectors: Tensor) -> Tensor:
        if len(self._slices) == 1:
            return vectors[..., self._slices[0]]
        return torch.cat([vectors[..., s] for s in self._slices], -1) if self._slices else vectors[..., :0]


class _Part(nn.Module):
    """One method of a model (``stem``, ``tail`` or ``forward``) as a function of its parameters."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, use: Callable[[Callable[[Tensor], Tensor]], Any]) -> Any:
        return use(self.model if self.method == "forward" else getattr(self.model, self.method))

    def call(self, parameters: dict[str, Tensor], use: Callable[[Callable[[Tensor], Tensor]], Any]) -> Any:
        """``use(method)`` while the model has the single set of ``parameters``, ``(1, …)`` each."""
        return self._call({name: value[0] for name, value in parameters.items()}, use)

    def call_stacked(self, parameters: dict[str, Tensor], inputs: Tensor, inputs_dim: int | None) -> Tensor:
        """``method(inputs)`` for each of the stacked ``parameters`` ``(R, …)``."""

        def one(single: dict[str, Tensor], its_inputs: Tensor) -> Tensor:
            return self._call(single, lambda method: method(its_inputs))

        return vmap(one, in_dims=(0, inputs_dim))(parameters, inputs)

    def _call(self, parameters: dict[str, Tensor], use: Callable[..., Any]) -> Any:
        return functional_call(self, {f"model.{name}": value for name, value in parameters.items()}, (use,))


def _repeated(parameters: dict[str, Tensor], times: int) -> dict[str, Tensor]:
    """The same parameters ``(…)`` for each of several directions, ``(R, …)``, without copies."""
    return {name: value.expand(times, *value.shape) for name, value in parameters.items()}
