r"""Which region is measured: all that is *connected* below the threshold, or what is *visible* from the
minimum.

A point is visible where the straight line from the minimum to it stays below the threshold: what rays
measure. So the visible region is ``{M ≤ T}`` with

    M(x) = max over 0 ≤ t ≤ 1 of L(t·x),

and replacing L by M turns the edge of the region, at which a move could only be refused, into a
height that chains feel before they reach it. Where the maximum lies at t = 1, M is L; where it lies
before, its gradient is ``t·∇L(t·x)`` at the maximum (the envelope theorem).
"""

from __future__ import annotations

import torch
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.integration.target import Target

REGIONS = ("visible", "connected")
POINTS = 8
"""Points of a segment at which M looks for its maximum; a parabola through three of them places it."""
FINE = 64
"""Points at which the samples' segments are looked at again, to say how much was passed over."""


class Visible:
    """``M(x)`` (M,) and its gradient (M, n), as a :class:`Target` gives those of L.

    ``before``: the share of the last call's rows whose maximum lay before t = 1.
    """

    def __init__(self, target: Target, points: int = POINTS) -> None:
        self.target, self.before = target, 0.0
        self.t = torch.linspace(0, 1, points + 1, device=target.device, dtype=torch.float64)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        target, t = self.target, self.t
        along = along_segment(target, x, t)
        top = along.argmax(0)
        inner = (top > 0) & (top < len(t) - 1)
        self.before = float((top < len(t) - 1).double().mean())
        mid = top.clamp(1, len(t) - 2)[None]
        left, here, right = (along.gather(0, mid + step)[0] for step in (-1, 0, 1))
        bend = (2 * here - left - right).clamp_min(1e-300)
        place = torch.where(inner, t[mid[0]] + ((right - left) / (2 * bend)).clamp(-1, 1) * t[1], t[top])
        place = torch.nan_to_num(place, nan=1.0).clamp_min(float(t[1]) / 2)
        place = torch.where(torch.isfinite(along).all(0), place, torch.ones_like(place))
        scale = place.to(x)[:, None]
        losses, gradient = target(x * scale)
        return losses, gradient * scale


def along_segment(target: Target, x: Tensor, t: Tensor) -> Tensor:
    """Losses (len(t), M) at the points ``t·x`` of the segments from the minimum to the rows of x; t[0] =
    0."""
    rows = [torch.full((len(x),), target.minimum, dtype=torch.float64, device=x.device)]
    return torch.stack(rows + [target.losses(x * float(part)) for part in t[1:]])


def visible_share(target: Target, x: Tensor, points: int = FINE) -> float:
    """The share of the rows of x below the threshold that are visible from the minimum, 1 if none is
    below."""
    t = torch.linspace(0, 1, points + 1, device=x.device, dtype=torch.float64)
    along = along_segment(target, x, t)
    below = along[-1] <= target.threshold
    seen = below & (along <= target.threshold).all(0)
    return float(seen.sum() / below.sum()) if below.any() else 1.0


def check_region(region: str) -> None:
    if region not in REGIONS:
        raise InputError(f'region "{region}": must be one of {", ".join(REGIONS)}')
