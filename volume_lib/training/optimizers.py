"""Update rules on the flat parameters of several models at once.

Parameters and gradients are (M, n): one row for each of M models trained side by side, which may stand
at different learning rates. Every operation is elementwise or within a row, so that a row's result does not
depend on its neighbours; with M = 1 these are the rules of ``torch.optim`` of the same names.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class SGD:
    """Gradient descent; ``weight_decay`` adds weight_decay·θ to the gradient."""

    def __init__(self, weight_decay: float = 0.0):
        self.weight_decay = weight_decay

    def step(self, parameters: Tensor, gradients: Tensor, learning_rates: Tensor | float) -> None:
        """Move ``parameters`` in place; ``learning_rates`` is a number, or (M, 1)."""
        if self.weight_decay:
            gradients.add_(parameters, alpha=self.weight_decay)
        _descend(parameters, gradients, learning_rates)

    def keep(self, rows: Tensor) -> None:
        """Forget all models but those at the indices ``rows``."""


class Adam:
    """Adam (Kingma & Ba 2015); ``decoupled`` makes its weight decay AdamW's (Loshchilov & Hutter 2019)."""

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    CLEAR_EVERY, NEGLIGIBLE = 128, 1e-30
    """After how many steps moments are cleared of what is too small to matter, and how small that is. Without
    a gradient, as in a unit that never fires, a moment decays into denormal numbers, with which
    processors are slow; it moves no parameter long before that. 1e-30·β₁¹²⁸ is still a normal number."""

    def __init__(self, weight_decay: float = 0.0, decoupled: bool = False):
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.steps = 0
        self.first: Tensor | None = None
        self.second: Tensor | None = None
        self.scratch: Tensor | None = None

    def step(self, parameters: Tensor, gradients: Tensor, learning_rates: Tensor | float) -> None:
        """Move ``parameters`` in place; ``learning_rates`` is a number, or (M, 1)."""
        if self.first is None or self.second is None or self.scratch is None:
            self.first, self.second = torch.zeros_like(parameters), torch.zeros_like(parameters)
            self.scratch = torch.empty_like(parameters)
        if self.weight_decay and self.decoupled:
            parameters.mul_(1 - learning_rates * self.weight_decay)
        elif self.weight_decay:
            gradients.add_(parameters, alpha=self.weight_decay)
        self.steps += 1
        if self.steps % self.CLEAR_EVERY == 0:
            for moment in (self.first, self.second):
                moment.mul_(moment.abs() > self.NEGLIGIBLE)
        self.first.lerp_(gradients, 1 - self.beta1)
        self.second.mul_(self.beta2).addcmul_(gradients, gradients, value=1 - self.beta2)
        # both bias corrections moved out of the elementwise work, into epsilon and the step's length
        correction = math.sqrt(1 - self.beta2**self.steps)
        scale = correction / (1 - self.beta1**self.steps)
        denominator = torch.sqrt(self.second, out=self.scratch).add_(self.epsilon * correction)
        if isinstance(learning_rates, Tensor):
            parameters.sub_(denominator.reciprocal_().mul_(self.first).mul_(learning_rates * scale))
        else:
            parameters.addcdiv_(self.first, denominator, value=-learning_rates * scale)

    def keep(self, rows: Tensor) -> None:
        """Forget all models but those at the indices ``rows``."""
        if self.first is not None and self.second is not None:
            self.first, self.second = self.first[rows], self.second[rows]
            self.scratch = torch.empty_like(self.first)


OPTIMIZERS = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": lambda weight_decay=0.0: Adam(weight_decay, decoupled=True),
}


def _descend(parameters: Tensor, gradients: Tensor, learning_rates: Tensor | float) -> None:
    if isinstance(learning_rates, Tensor):
        parameters.sub_(gradients * learning_rates)
    else:
        parameters.sub_(gradients, alpha=learning_rates)


SCHEDULES = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
}
"""Factor of the learning rate by the share of the training's steps that are done (0 to 1)."""


ASAM_ETA = 0.01
"""Added to |θ| in ASAM, so that a parameter at zero can still move."""


def sam_ascent(parameters: Tensor, gradients: Tensor, rho: float, adaptive: bool) -> Tensor:
    """Where sharpness-aware minimisation takes its gradient: (M, n) steps to add to the parameters.

    Plain SAM (Foret et al. 2021) goes ``rho``·g/‖g‖. Adaptive SAM (Kwon et al. 2021) measures in units of the
    parameters, T = |θ| + η: ``rho``·T²g/‖Tg‖. Norms are those of a model's whole gradient.
    """
    if not adaptive:
        return gradients * (rho / _row_norms(gradients))
    unit = parameters.abs() + ASAM_ETA
    scaled = unit * gradients
    return unit * scaled * (rho / _row_norms(scaled))


def _row_norms(x: Tensor) -> Tensor:
    # a gradient of exactly zero asks for no step, not for 0/0
    return x.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
