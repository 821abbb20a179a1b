r"""The landscape that chains walk in: losses and gradients of many parameter vectors at once.

Chains live in units of the reference: ``x = (θ' − θ)/σ`` for a network at ``θ'`` and its minimum at ``θ``,
so that the reference is ``N(−x₀, I)`` with ``x₀ = θ/σ``. Every energy is summed in float64: in float32 the
product ``x·x₀`` of a minimum with large weights is wrong by a nat, and no step size is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from volume_lib.errors import InputError
from volume_lib.parameters import unflatten
from volume_lib.problems.base import Stacked
from volume_lib.training.stacks import Stack, as_operand

Loss = Callable[[Any, Tensor], Tensor]
_CHUNK_BYTES = 256 * 2**20


class Target:
    """``L(x)`` (M,) and ``∂L/∂x`` (M, n) for the rows of x (M, n), M the number of chains.

    ``model`` is changed: hand over a copy, in evaluation mode. ``names``: its moved parameters;
    ``sigma`` (n,): the reference's widths in their order; ``loss``: ``(outputs, y) → (N,)``. Networks with a
    ``stacked_forward`` all of whose parameters move run as one stack, others under ``vmap``, and what vmap
    cannot do one at a time (``how`` says which). Rows hold the parameters as the stack does; :meth:`rows_of`
    converts.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        x: Any,
        y: Tensor,
        loss: Loss,
        sigma: Tensor,
        threshold: float,
        chains: int,
    ) -> None:
        self.model, self.names, self.loss, self.chains = model, list(names), loss, chains
        self.threshold, self.gradients = threshold, 0
        first = model.get_parameter(self.names[0])
        self.device, self.dtype = first.device, first.dtype
        self.shapes = {name: model.get_parameter(name).shape for name in self.names}
        flat = torch.cat([model.get_parameter(name).detach().reshape(-1) for name in self.names])
        self.count = len(y)
        self._order = None
        every = [name for name, _ in model.named_parameters()]
        self.how = (
            "stack" if every == self.names and hasattr(model, "stacked_forward") and chains > 1 else "vmap"
        )
        if self.how == "stack":
            index = torch.arange(len(flat), device=self.device)
            parts = unflatten(index[None], self.shapes).values()
            self._order = torch.cat([as_operand(part).reshape(-1) for part in parts])
            self._stack = Stack.of([model] * chains)
        self.n = len(flat)
        self.sigma = self.rows_of(sigma.to(flat))
        self.theta = self.rows_of(flat)
        self.x0 = (self.theta.double() / self.sigma.double()).to(flat)
        self.x0_square = float(self.x0.double().square().sum())
        size = self._chunk_size(x)
        self._data = [
            (
                pytree.tree_map(lambda part, i=i: part[i : i + size].to(self.device), x),
                y[i : i + size].to(self.device),
            )
            for i in range(0, self.count, size)
        ]
        self.check()

    def rows_of(self, flat: Tensor) -> Tensor:
        """A flat vector (n,) in the order of the moved parameters, as rows hold it."""
        return flat if self._order is None else flat[self._order]

    def _chunk_size(self, x: Any) -> int:
        """Samples evaluated at once: all chains' inputs, as they are copied, stay within the memory bound."""
        parts = pytree.tree_leaves(x)
        if any(len(part) != self.count for part in parts):
            raise InputError(
                f"x and y: must hold the same number of samples, not {len(parts[0])} and {self.count}"
            )
        each = sum(part[0].numel() * part.element_size() for part in parts)
        width = max((shape[0] for shape in self.shapes.values() if len(shape)), default=1)
        return max(1, _CHUNK_BYTES // (self.chains * (each + 16 * width)))

    def check(self) -> None:
        """Raise :class:`InputError` where the loss at the minimum is no number, or above the threshold."""
        try:
            found = self(self.zeros())[0]
        except (RuntimeError, NotImplementedError):
            if self.how != "vmap":
                raise
            self.how = "each"
            found = self(self.zeros())[0]
        self.minimum = float(found[0])
        if not torch.isfinite(found).all():
            raise InputError("loss: is not finite at the model's own parameters")
        if self.minimum >= self.threshold:
            raise InputError(
                f"threshold {self.threshold:g}: the model's own loss is {self.minimum:.4g}, "
                "it must lie above it"
            )

    def zeros(self) -> Tensor:
        return torch.zeros(self.chains, self.n, device=self.device, dtype=self.dtype)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (M,) float64 and their gradients in x (M, n); both may hold NaN or infinity."""
        self.gradients += 1
        rows = torch.addcmul(self.theta, x, self.sigma)
        if self.how == "stack":
            self._stack.parameters.copy_(rows)
            leaves: Any = list(self._stack.named.values())
        else:
            rows.requires_grad_()
            leaves = [rows]
        losses = torch.zeros(self.chains, dtype=torch.float64, device=self.device)
        gradient: Any = None
        for inputs, labels in self._data:
            part = self._sums(rows, inputs, labels) / self.count
            found = torch.autograd.grad(part.sum(), leaves, materialize_grads=True)
            losses += part.detach()
            gradient = found if gradient is None else [a + b for a, b in zip(gradient, found, strict=True)]
        flat = torch.cat([part.reshape(self.chains, -1) for part in gradient], dim=1)
        return losses, flat * self.sigma

    @torch.no_grad()
    def losses(self, x: Tensor) -> Tensor:
        """Losses (M,) alone, float64."""
        rows = torch.addcmul(self.theta, x, self.sigma)
        if self.how == "stack":
            self._stack.parameters.copy_(rows)
        nothing = torch.zeros(self.chains, dtype=torch.float64, device=self.device)
        return sum((self._sums(rows, *data) for data in self._data), nothing) / self.count

    def _sums(self, rows: Tensor, inputs: Any, labels: Tensor) -> Tensor:
        """The sum of the losses of some samples, (M,) float64."""
        if self.how == "each":
            return torch.stack([self._one(row, inputs, labels) for row in rows])
        if self.how == "stack":
            network = cast("Stacked", self.model)
            outputs = network.stacked_forward(self._stack.named, inputs.expand(self.chains, *inputs.shape))
            return self._sum_rows(outputs, labels)
        return vmap(lambda row: self._one(row, inputs, labels), randomness="same")(rows)

    def _sum_rows(self, outputs: Tensor, labels: Tensor) -> Tensor:
        many = labels.expand(self.chains, *labels.shape).flatten(0, 1)
        return self.loss(outputs.flatten(0, 1), many).view(self.chains, -1).sum(1, dtype=torch.float64)

    def _one(self, row: Tensor, inputs: Any, labels: Tensor) -> Tensor:
        named = unflatten(row, self.shapes)
        if isinstance(inputs, dict):
            outputs = functional_call(self.model, named, (), inputs)
        else:
            outputs = functional_call(self.model, named, inputs if isinstance(inputs, tuple) else (inputs,))
        return self.loss(outputs, labels).sum(dtype=torch.float64)
