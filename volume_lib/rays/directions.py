"""Seeded random directions in parameter space.

A direction is a standard-normal vector ``g ~ N(0, I_n)`` over the moved parameters of a model
(:mod:`volume_lib.parameters`), flattened and concatenated in the order of ``model.named_parameters()``.
An integer seed is all that is needed to draw one again; it is drawn on the CPU in float32, so that a
seed means the same direction on any device and in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from volume_lib.parameters import moved_shapes, num_moved, unflatten


def draw(seed: int, n: int) -> Tensor:
    """The direction of ``seed``: ``n`` standard-normal numbers, float32, on the CPU."""
    return draw_batch([seed], n)[0]


def draw_batch(seeds: Sequence[int], n: int) -> Tensor:
    """Directions of several seeds, shape ``(D, n)``; each row is what :func:`draw` gives for its seed."""
    batch = torch.empty(len(seeds), n, dtype=torch.float32, device="cpu")
    for row, seed in zip(batch, seeds, strict=True):
        row.normal_(generator=torch.Generator().manual_seed(int(seed)))
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
    return unflatten(draw(seed, num_moved(model)), moved_shapes(model))
