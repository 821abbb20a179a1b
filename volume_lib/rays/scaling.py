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

FLOOR = 1e-2
"""Smallest scale of a row, in units of its layer's (see :func:`filter_scale`): below any that is in use."""


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
    the scaling stays linear in the direction and has a determinant.

    **The floor.** A row that training has let decay says how small it became, not how far it may move: its
    reach is that of the other rows of its layer, which read the same inputs. A row of m entries with the
    scale s instead of its layer's R is explored over s/R of that reach, and leaves up to ``m·log(R/s)`` nats
    of the volume unseen: without end as its norm goes to zero, although the network no longer changes. So a
    row gets at least :data:`FLOOR` times the root mean square R of its layer's norms, and a layer's R is at
    least :data:`FLOOR` times that of all rows of the network (1 if all are zero). What may be unseen is
    then at most ``m·log(1/FLOOR)`` for a row, and scale and volume are continuous as a norm goes to zero.
    """
    parameters = dict(model.named_parameters())
    norms = {
        name: torch.linalg.vector_norm(parameters[name].detach().flatten(1).double().cpu(), dim=1)
        for name in moved_names(model)
        if parameters[name].dim() > 1
    }
    # A network that diverged is above every threshold; its scale has only to be a number.
    norms = {name: torch.where(own.isfinite(), own, 0.0) for name, own in norms.items()}
    everywhere = _root_mean_square(torch.cat(list(norms.values()))) if norms else 0.0
    scales = []
    for name in moved_names(model):
        parameter = parameters[name]
        if parameter.dim() < 2:
            scales.append(torch.ones(parameter.numel()))
            continue
        layer = max(_root_mean_square(norms[name]), FLOOR * everywhere) or 1.0
        floored = norms[name].clamp(min=FLOOR * layer)
        scales.append(floored.repeat_interleave(parameter[0].numel()).float())
    return torch.cat(scales)


def _root_mean_square(values: Tensor) -> float:
    """Root of the mean square; 0 of none. Of size one within, as squares of tiny numbers vanish."""
    largest = values.max().item() if len(values) else 0.0
    return largest * (values / largest).square().mean().sqrt().item() if largest else 0.0


def _curvature_scale(model: nn.Module, problem: Problem | None, x: Tensor | None, y: Tensor | None) -> Tensor:
    """``∝ (curvature + damping)^(-1/2)``, starting from the filter scaling."""
    if problem is None or x is None or y is None:
        raise InputError('scaling "curvature" needs the problem, x and y: it is the curvature of their loss')
    return curvature.curvature_scale(model, filter_scale(model), problem, x, y)


SCALINGS: dict[str, Callable[..., Tensor]] = {
    "none": no_scale,
    "filter": filter_scale,
    "curvature": _curvature_scale,
}
"""What ``scaling=`` may be."""
