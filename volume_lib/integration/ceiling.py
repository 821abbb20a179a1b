r"""The soft ceiling ``exp(−(L/ℓ)^p)`` under which chains walk, in the place of a hard one at the threshold.

A power p instead of ``exp(−βL)``, p = 1, because of how many neighbours a loss has. ``D = L·s′(L)``, s the
log of the reference's density of losses, is what weighs against the ceiling, whatever p. In a bowl D is n/2
at every loss. A network that has learned nothing has far more neighbours of its loss than one between
nothing and something: there D rises with L, faster than L, and no temperature holds chains at such a loss:
they fall from one phase into the other (a transition of first order), and no average at a loss between them
exists. With p larger than the slope ``d log D/d log L`` every loss is held. A large p costs steps, since the
ceiling is stiff, and noise: L varies by ``1/√(pD)`` of itself. That weights of the loss's own value tame
such transitions is known from physics (Gaussian ensembles: Hetherington 1987; Challa and Hetherington 1988).
"""

from __future__ import annotations

from torch import Tensor

from volume_lib.integration.sampler import Landscape, Point


class Pressed:
    """``(L/ℓ)^p/β`` (M,) and its gradient (M, n): what chains feel under a ceiling. L is counted from
    ``floor``."""

    def __init__(self, landscape: Landscape, point: Point, power: float, floor: float) -> None:
        self.landscape, self.point, self.power, self.floor = landscape, point, power, floor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = self.landscape(x)
        excess = (loss - self.floor).clamp_min(1e-300)
        pressure = (excess / self.point.ceiling) ** self.power / self.point.beta
        return pressure, gradient * (self.power * pressure / excess).to(gradient)[:, None]
