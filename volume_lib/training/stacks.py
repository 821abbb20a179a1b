"""Models of one shape side by side, as the rows of one matrix of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from volume_lib.parameters import copied, frozen_names, moved_names, moved_shapes, tied_names
from volume_lib.problems.base import Stacked


class Stack:
    """The parameters of M models of one shape as the rows of one matrix, and their outputs.

    ``parameters`` and ``gradients`` are (M, n). Every named parameter is a view of the first, so that an
    optimiser's step is a handful of operations whatever the number of layers. A row holds the
    moved parameters (:mod:`volume_lib.parameters`), each as its layer multiplies by it (:func:`as_operand`)
    where the models have a ``stacked_forward``: what a step would otherwise turn around, and back in its
    gradient, is a fifth of it. ``frozen`` parameters, (M, …) by name, are used and never trained.
    """

    def __init__(self, template: nn.Module, parameters: Tensor, frozen: dict[str, Tensor], operands: bool):
        self.template, self.parameters, self.operands = template, parameters, operands
        self.frozen = frozen
        self.gradients = torch.zeros_like(parameters)
        self.named: dict[str, Tensor] = {}
        shapes = moved_shapes(template)
        columns = parameters.split([shape.numel() for shape in shapes.values()], dim=1)
        for (name, own), entries in zip(shapes.items(), columns, strict=True):
            parameter = template.get_parameter(name)
            if self.is_template:
                self.named[name] = parameter
                parameter.data = entries.view(own)
            else:
                shape = self._as_held(parameter.detach()[None]).shape[1:]
                self.named[name] = entries.view(len(parameters), *shape).requires_grad_()
        if self.is_template:
            for name, values in frozen.items():
                template.get_parameter(name).data = values[0]

    @classmethod
    def of(cls, models: Sequence[nn.Module]) -> Stack:
        """The stack of these models."""
        operands = len(models) > 1 and hasattr(models[0], "stacked_forward")
        operands &= not getattr(models[0], "gets_copies", False)  # copies come with a call of the network

        def stacked(name: str) -> Tensor:
            values = torch.stack([model.get_parameter(name).detach() for model in models])
            return as_operand(values) if operands else values

        columns = [stacked(name).reshape(len(models), -1) for name in moved_names(models[0])]
        frozen = {name: stacked(name) for name in frozen_names(models[0])}
        return cls(copied(models[0]), torch.cat(columns, dim=1), frozen, operands)

    @property
    def is_template(self) -> bool:
        """Whether the one model is the template itself: to call it as it is costs nothing extra."""
        return len(self.parameters) == 1 and not self.operands

    def _as_held(self, stacked: Tensor) -> Tensor:
        """A parameter (M, ...) as the rows hold it; applied to that, as it was, but for a vector's shape."""
        return as_operand(stacked) if self.operands else stacked

    def outputs(self, x: Tensor) -> Tensor:
        """(M, B, ...) outputs for (M, B, ...) inputs, differentiable in the parameters."""
        if self.operands:
            return cast("Stacked", self.template).stacked_forward(self.named | self.frozen, x)
        if self.is_template:
            return self.template(x[0])[None]
        return vmap(lambda named, x: functional_call(self.template, named, (x,)))(self.named | self.frozen, x)

    def differentiate(self, loss: Tensor) -> None:
        """Leave the gradient of ``loss`` in ``gradients``."""
        parts = torch.autograd.grad(loss, list(self.named.values()), materialize_grads=True)
        torch.cat([part.reshape(len(self.parameters), -1) for part in parts], dim=1, out=self.gradients)

    def keep(self, rows: Tensor) -> Stack:
        """The models of these ``rows`` alone."""
        frozen = {name: values[rows] for name, values in self.frozen.items()}
        return Stack(self.template, self.parameters[rows], frozen, self.operands)

    def state_dict(self, row: int) -> dict[str, Tensor]:
        """A copy of one model's parameters and buffers, on the CPU."""
        state = {name: value.detach().cpu().clone() for name, value in self.template.state_dict().items()}
        if not self.is_template:
            held = self.named | self.frozen
            for names in tied_names(self.template):
                shape = self.template.get_parameter(names[0]).shape
                own = self._as_held(held[names[0]].detach()[row : row + 1]).reshape(shape)
                for name in names:  # as state_dict holds it, under each of its names
                    state[name] = own.cpu().clone(memory_format=torch.contiguous_format)
        return state


def as_operand(parameter: Tensor) -> Tensor:
    """Stacked parameters (M, ...) as a batch of products takes them: matrices turned, vectors as one row.

    (M, a, b) becomes (M, b, a), and (M, a) becomes (M, 1, a). This is how ``stacked_forward`` and
    ``stacked_tail`` of a model want them.
    """
    if parameter.dim() == 3:
        return parameter.mT
    return parameter.unsqueeze(1) if parameter.dim() == 2 else parameter
