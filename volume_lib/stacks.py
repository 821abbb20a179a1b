"""Models of one shape side by side, as the rows of one matrix of parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap


class Stack:
    """The parameters of M models of one shape as the rows of one matrix, and their outputs.

    ``parameters`` and ``gradients`` are (M, n), in the order of ``named_parameters``. Every named parameter
    is a view of the first, so that an optimiser's step is a handful of operations whatever the number
    of layers.
    """

    def __init__(self, template: nn.Module, parameters: Tensor):
        self.template = template
        self.parameters = parameters
        self.gradients = torch.zeros_like(parameters)
        self.named: dict[str, Tensor] = {}
        begin = 0
        for name, parameter in template.named_parameters():
            entries = slice(begin, begin + parameter.numel())
            begin = entries.stop
            if len(parameters) == 1:  # the model's own parameters: calling it costs nothing extra
                shape, view = parameter.shape, parameter.requires_grad_()
                view.data = parameters[0, entries].view(shape)
            else:
                shape = (len(parameters), *parameter.shape)
                view = parameters[:, entries].view(shape).requires_grad_()
            self.named[name] = view

    def outputs(self, x: Tensor) -> Tensor:
        """(M, B, ...) outputs for (M, B, ...) inputs, differentiable in the parameters."""
        if len(self.parameters) == 1:
            return self.template(x[0])[None]
        if hasattr(self.template, "stacked_forward"):
            return self.template.stacked_forward(self.named, x)
        return vmap(lambda named, x: functional_call(self.template, named, (x,)))(self.named, x)

    def differentiate(self, loss: Tensor) -> None:
        """Leave the gradient of ``loss`` in ``gradients``."""
        parts = torch.autograd.grad(loss, list(self.named.values()), materialize_grads=True)
        torch.cat([part.reshape(len(self.parameters), -1) for part in parts], dim=1, out=self.gradients)

    def keep(self, rows: Tensor) -> Stack:
        """The models of these ``rows`` alone."""
        return Stack(self.template, self.parameters[rows])

    def state_dict(self, row: int) -> dict[str, Tensor]:
        """A copy of one model's parameters and buffers, on the CPU."""
        own = self.parameters[row].detach().cpu()
        shapes = {name: parameter.shape for name, parameter in self.template.named_parameters()}
        parts = own.split([shape.numel() for shape in shapes.values()])
        parameters = {
            name: part.view(shape).clone() for part, (name, shape) in zip(parts, shapes.items(), strict=True)
        }
        state = {name: value.detach().cpu().clone() for name, value in self.template.state_dict().items()}
        return state | parameters


def flat_parameters(model: nn.Module) -> Tensor:
    """All parameters of a model, (n,), in the order of ``named_parameters``."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
