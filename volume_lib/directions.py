"""Seeded random directions in parameter space.

A direction is a standard-normal vector ``g ~ N(0, I_n)`` over the perturbed parameters of a model:
those whose name contains ``weight`` or ``bias``, flattened and concatenated in the order of
``model.named_parameters()``. An integer seed is all that is needed to draw one again; it is drawn
on the CPU in float32, so that a seed means the same direction on any device and in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def draw(seed: int, n: int) -> Tensor:
    """The direction of ``seed``: ``n`` standard-normal numbers, float32, on the CPU."""
    return torch.randn(n, generator=torch.Generator().manual_seed(int(seed)))


def draw_batch(seeds: Sequence[int], n: int) -> Tensor:
    """Directions of several seeds, shape ``(D, n)``; each row is what :func:`draw` gives for its seed."""
    batch = torch.empty(len(seeds), n)
    for row, seed in zip(batch, seeds, strict=True):
        torch.randn(n, generator=torch.Generator().manual_seed(int(seed)), out=row)
    return batch


def norms(directions: Tensor) -> Tensor:
    """Euclidean norms of directions ``(D, n)``, summed in float64; shape ``(D,)``."""
    return torch.linalg.vector_norm(directions, dim=-1, dtype=torch.float64)


def reproduce_direction(seed: int, model: nn.Module) -> dict[str, Tensor]:
    """The direction of ``seed`` by parameter name, before any scaling.

    With the ``perturbation_seed`` of a sweep, or one of ``top_r_val_seeds`` in ``results.json``, this
    is the direction that was measured.

    >>> model = nn.Linear(3, 2)
    >>> direction = reproduce_direction(7, model)
    >>> {name: tuple(part.shape) for name, part in direction.items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    return unflatten(draw(seed, num_perturbed(model)), perturbed_shapes(model))
