"""Diagonal scalings: how a standard-normal direction becomes a change of parameters.

The ray of a direction ``g`` is ``θ + c·S·g``. ``S`` does not change which log volume is estimated
(``log_det_scaling`` makes up for it), only how well the estimate converges.

=============  ==========================================================================================
``none``       ``S = 1``
``filter``     each output row's norm for parameters of two or more dimensions, 1 for the others
``curvature``  ``∝ (curvature + damping)^(-1/2)``, determinant 1 (:mod:`volume_lib.rays.curvature`)
=============  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from volume_lib.errors import InputError
from volume_lib.parameters import moved_names, num_moved
from volume_lib.problems.base import Problem
from volume_lib.rays import curvature


def compute_scale(
    scaling: str,
    model: nn.Module,
    problem: Problem | None = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
) -> Tensor:
    """The diagonal of ``S``: shape (n,), positive, flat in the order of ``moved_names``, on the CPU.

    ``scaling`` is one of :data:`SCALINGS`; ``curvature`` needs the problem and the samples ``x`` (N, …),
    ``y`` (N,) whose loss it is to fit. Raises :class:`InputError` for any other.
    """
    if scaling not in SCALINGS:
        raise InputError(f"scaling must be one of {', '.join(SCALINGS)}, not {scaling!r}")
    return SCALINGS[scaling](model, problem, x, y)


def log_det(scale: Tensor) -> float:
    """Log determinant of the scaling, in nats: the sum of the logarithms, in float64."""
    return float(scale.double().log().sum())


def no_scale(model: nn.Module, *_unused: object) -> Tensor:
    """``S = 1``."""
    return torch.ones(num_moved(model))


@torch.no_grad()
def filter_scale(model: nn.Module, *_unused: object) -> Tensor:
    """The norm of each output row for parameters of two or more dimensions, 1 for the others.

    A row is everything that makes one output (a filter, a neuron's weights, a token's embedding): the
    first dimension counts rows, the norm runs over all others (Li et al. 2018, "Visualizing the Loss
    Landscape of Neural Nets"). There, the direction's row is normalised as well; here it is not, so that
    the scaling stays linear in the direction and has a determinant. A row that is exactly zero gets 1:
    with 0 it could not move at all and the determinant would vanish.
    """
    parameters = dict(model.named_parameters())
    scales = []
    for name in moved_names(model):
        parameter = parameters[name]
        if parameter.dim() < 2:
            scales.append(torch.ones(parameter.numel()))
            continue
        rows = parameter.detach().flatten(1).double()
        norms = torch.linalg.vector_norm(rows, dim=1)
        norms = torch.where(norms > 0, norms, 1.0)
        scales.append(norms.repeat_interleave(rows.shape[1]).float().cpu())
    return torch.cat(scales)


def curvature_scale(model: nn.Module, problem: Problem | None, x: Tensor | None, y: Tensor | None) -> Tensor:
    """``∝ (curvature + damping)^(-1/2)``, starting from the filter scaling."""
    if problem is None or x is None or y is None:
        raise InputError('scaling "curvature" needs the problem, x and y: it is the curvature of their loss')
    return curvature.curvature_scale(model, filter_scale(model), problem, x, y)


SCALINGS: dict[str, Callable[..., Tensor]] = {
    "none": no_scale,
    "filter": filter_scale,
    "curvature": curvature_scale,
}
"""What ``scaling=`` may be."""
