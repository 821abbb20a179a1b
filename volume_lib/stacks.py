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

    def __init__(self, models: Sequence[nn.Module]):
        # a single model is called as it is, which costs nothing extra
        operands = len(models) > 1 and hasattr(models[0], "stacked_forward")
        rows = [[_stored(p.detach(), operands).flatten() for p in model.parameters()] for model in models]
        self._hold(models[0], torch.stack([torch.cat(row) for row in rows]), operands)

    def _hold(self, template: nn.Module, parameters: Tensor, operands: bool) -> None:
        self.template, self.parameters, self.operands = template, parameters, operands
        self.gradients = torch.zeros_like(parameters)
        self.named: dict[str, Tensor] = {}
        columns = self._split(parameters)
        for (name, parameter), entries in zip(template.named_parameters(), columns, strict=True):
            if len(parameters) == 1 and not operands:
                self.named[name] = parameter.requires_grad_()
                parameter.data = entries.view(parameter.shape)
                continue
            one = parameter.detach()[None]
            shape = (as_operand(one) if operands else one).shape[1:]
            self.named[name] = entries.view(len(parameters), *shape).requires_grad_()

    def _split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The columns of (..., n) that belong to each parameter."""
        return rows.split([parameter.numel() for parameter in self.template.parameters()], dim=-1)

    def outputs(self, x: Tensor) -> Tensor:
        """(M, B, ...) outputs for (M, B, ...) inputs, differentiable in the parameters."""
        if self.operands:
            return self.template.stacked_forward(self.named, x)
        if len(self.parameters) == 1:
            return self.template(x[0])[None]
        return vmap(lambda named, x: functional_call(self.template, named, (x,)))(self.named, x)

    def differentiate(self, loss: Tensor) -> None:
        """Leave the gradient of ``loss`` in ``gradients``."""
        parts = torch.autograd.grad(loss, list(self.named.values()), materialize_grads=True)
        torch.cat([part.reshape(len(self.parameters), -1) for part in parts], dim=1, out=self.gradients)

    def keep(self, rows: Tensor) -> Stack:
        """The models of these ``rows`` alone."""
        kept = object.__new__(Stack)
        kept._hold(self.template, self.parameters[rows], self.operands)
        return kept

    def state_dict(self, row: int) -> dict[str, Tensor]:
        """A copy of one model's parameters and buffers, on the CPU."""
        state = {name: value.detach().cpu().clone() for name, value in self.template.state_dict().items()}
        entries = self._split(self.parameters[row].detach().cpu())
        for (name, parameter), own in zip(self.template.named_parameters(), entries, strict=True):
            shape = _stored(parameter, self.operands).shape
            state[name] = _stored(own.view(shape), self.operands).contiguous().clone()
        return state


def as_operand(parameter: Tensor) -> Tensor:
    """Stacked parameters (M, ...) as a batch of products takes them: matrices turned, vectors as one row.

    (M, a, b) becomes (M, b, a), and (M, a) becomes (M, 1, a). This is how ``stacked_forward`` and
    ``stacked_tail`` of a model want them.
    """
    if parameter.dim() == 3:
        return parameter.mT
    return parameter.unsqueeze(1) if parameter.dim() == 2 else parameter


def _stored(parameter: Tensor, operand: bool) -> Tensor:
    """One model's parameter as a row of the stack holds it, and back: a matrix turned, or as it is."""
    return parameter.mT if operand and parameter.dim() == 2 else parameter
