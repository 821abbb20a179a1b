"""Which parameters of a network move, and their flat vector.

The moved parameters are those whose name contains ``weight`` or ``bias``, flattened and concatenated in
the order of ``model.named_parameters()``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PERTURBED = ("weight", "bias")


def perturbed_names(model: nn.Module) -> list[str]:
    """Names of the parameters that directions move, in the order of ``named_parameters``.

    Parameters that are shared inside the model (tied weights) appear once.

    Raises:
        ValueError: the model has no such parameter.
    """
    names = [name for name, _ in model.named_parameters() if any(part in name for part in PERTURBED)]
    if not names:
        raise ValueError(
            f"{type(model).__name__} has no parameter whose name contains {' or '.join(PERTURBED)}: "
            "there is nothing to perturb"
        )
    return names


def perturbed_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Shapes of the perturbed parameters by name, in the order of :func:`perturbed_names`."""
    parameters = dict(model.named_parameters())
    return {name: parameters[name].shape for name in perturbed_names(model)}


def num_perturbed(model: nn.Module) -> int:
    """``n``: the number of perturbed parameters."""
    return sum(shape.numel() for shape in perturbed_shapes(model).values())


def flatten(model: nn.Module) -> Tensor:
    """The perturbed parameters of ``model`` as one detached vector, shape ``(n,)``."""
    parameters = dict(model.named_parameters())
    return torch.cat([parameters[name].detach().reshape(-1) for name in perturbed_names(model)])


def unflatten(vector: Tensor, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Cut ``vector`` (shape ``(..., n)``) into named tensors of the given shapes, as views.

    Leading dimensions are kept: a batch of vectors gives a batch of every parameter.
    """
    sizes = [shape.numel() for shape in shapes.values()]
    pieces = vector.split(sizes, dim=-1)
    return {
        name: piece.unflatten(-1, shape) if shape else piece.squeeze(-1)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


@torch.no_grad()
def place(model: nn.Module, vector: Tensor) -> None:
    """Set the perturbed parameters of ``model`` to those of ``vector`` ``(n,)``, in place."""
    parameters = dict(model.named_parameters())
    for name, value in unflatten(vector, perturbed_shapes(model)).items():
        parameters[name].copy_(value)
