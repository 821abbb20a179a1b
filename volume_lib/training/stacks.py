"""Models of one shape side by side, as the rows of one matrix of parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap


class Stack:
    """The parameters of M models of one shape as the rows of one matrix, and their outputs.

    ``parameters`` and ``gradients`` are (M, n). Every named parameter is a view of the first, so that an
    optimiser's step is a handful of operations whatever the number of layers. A row holds the
    parameters in the order of ``named_parameters``, each as its layer multiplies by it (:func:`as_operand`)
    where the models have a ``stacked_forward``: what a step would otherwise turn around, and back in its
    gradient, is a fifth of it.
    """

    def __init__(self, template: nn.Module, parameters: Tensor, operands: bool):
        self.template, self.parameters, self.operands = template, parameters, operands
        self.gradients = torch.zeros_like(parameters)
        self.named: dict[str, Tensor] = {}
        columns = parameters.split([parameter.numel() for parameter in template.parameters()], dim=1)
        for (name, parameter), entries in zip(template.named_parameters(), columns, strict=True):
            if self.is_template:
                self.named[name] = parameter.requires_grad_()
                parameter.data = entries.view(parameter.shape)
            else:
                shape = self._as_held(parameter.detach()[None]).shape[1:]
                self.named[name] = entries.view(len(parameters), *shape).requires_grad_()

    @classmethod
    def of(cls, models: Sequence[nn.Module]) -> Stack:
        """The stack of these models."""
        operands = len(models) > 1 and hasattr(models[0], "stacked_forward")
        columns = []
        for same in zip(*(model.parameters() for model in models), strict=True):
            stacked = torch.stack([parameter.detach() for parameter in same])
            columns.append((as_operand(stacked) if operands else stacked).flatten(1))
        return cls(models[0], torch.cat(columns, dim=1), operands)

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
            return self.template.stacked_forward(self.named, x)
        if self.is_template:
            return self.template(x[0])[None]
        return vmap(lambda named, x: functional_call(self.template, named, (x,)))(self.named, x)

    def differentiate(self, loss: Tensor) -> None:
        """Leave the gradient of ``loss`` in ``gradients``."""
        parts = torch.autograd.grad(loss, list(self.named.values()), materialize_grads=True)
        torch.cat([part.reshape(len(self.parameters), -1) for part in parts], dim=1, out=self.gradients)

    def keep(self, rows: Tensor) -> Stack:
        """The models of these ``rows`` alone."""
        return Stack(self.template, self.parameters[rows], self.operands)

    def state_dict(self, row: int) -> dict[str, Tensor]:
        """A copy of one model's parameters and buffers, on the CPU."""
        state = {name: value.detach().cpu().clone() for name, value in self.template.state_dict().items()}
        if not self.is_template:
            for name, parameter in self.template.named_parameters():
                own = self._as_held(self.named[name].detach()[row : row + 1]).reshape(parameter.shape)
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
