r"""Regions whose log mass is known, as networks: what integrations are checked against.

===================  ========================================================================================
:func:`ball`         a ball of which the minimum is the centre, beside that of the reference: non-central χ²
:func:`flat_bowl`    an ellipsoid under a reference so wide that its density is one number: its log volume
:func:`spiky_star`   an ℓ_p ball, p < 1, under such a reference: its log volume. Seen from its centre, where
                     the minimum lies, it is all spikes along the axes
:func:`two_balls`    the union of two overlapping balls, the minimum at the centre of the first. All of it is
                     connected; visible is, of the second, what lies in the cone that their cut spans. Both
                     are integrals over slices across the axis (χ² in n − 1 dimensions)
:func:`classifier`   logistic regression, a convex loss: the share of direct draws of the reference
===================  ========================================================================================

The first four are exact to rounding, the last to the ``error`` that it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import quad
from scipy.special import gammaln
from scipy.stats import chi2, ncx2
from torch import Tensor, nn

from volume_lib.errors import InputError
from volume_lib.integration import integrate
from volume_lib.integration.record import Mass
from volume_lib.measuring import measure
from volume_lib.validation.bodies import LinearMap, log_spectrum, quadratic_bowl, tilted_bowl
from volume_lib.volume.mass import RayMass, ray_mass

FLAT = 1e3
"""Widths of a flat reference in units of a region's longest axis: it then varies by 5e-7 at most."""


@dataclass(frozen=True)
class Region:
    """A network whose loss is at most ``threshold`` in a region of known log mass.

    ``reference``: one width for all parameters. ``exact``: log mass, nats, by region (``visible``,
    ``connected``); ``error``: the standard error of these numbers.
    """

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    threshold: float
    reference: float
    exact: dict[str, float]
    error: float = 0.0

    @property
    def n(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def integrate(self, region: str = "visible", **options: Any) -> Mass:
        """Its log mass by integration; ``options`` as :func:`~volume_lib.integration.integrate` has them."""
        return integrate(
            self.model, self.x, self.y, loss=self.loss, threshold=self.threshold, reference=self.reference,
            region=region, **options,
        )  # fmt: skip

    def by_rays(self, directions: int = 500, seed: int = 0) -> RayMass:
        """The log mass of what is visible, by rays without scaling."""
        found = measure(
            self.model, self.x, self.y, loss=self.loss, threshold=self.threshold, directions=directions,
            scaling="none", seed=seed, progress=False, device="cpu",
        )  # fmt: skip
        return ray_mass(found.sweep, found.radii.crossing, self.reference)


def _alone(name: str, model: nn.Module, loss, threshold: float, reference: float, visible: float, **more):
    """A region of a network that needs no data."""
    exact = {"visible": visible, "connected": more.pop("connected", visible)}
    x, y = torch.zeros(1, 1), torch.zeros(1, dtype=torch.long)
    return Region(name, model, x, y, loss, threshold, reference, exact, **more)


def ball(n: int, beside: float = 0.5, share: float = 1e-3) -> Region:
    """A ball about the minimum at ``beside`` standard deviations in every parameter, the reference's width
    1, that holds about this ``share`` of it."""
    away = n * beside**2
    square = float(ncx2.ppf(share, n, away))
    center = torch.full((n,), beside)

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs.double() - center.to(outputs)).square().sum(-1)

    exact = float(ncx2.logcdf(square, n, away))
    return _alone(f"ball beside, n = {n:,}", LinearMap(torch.ones(n), center), loss, square, 1.0, exact)


def flat_bowl(n: int, decades: float, *, rotated: bool = False, threshold: float = 0.1) -> Region:
    """``½ Σ λ_i w_i²`` with curvatures ``λ`` over so many decades; ``rotated``: its axes point anywhere."""
    body = tilted_bowl(log_spectrum(n, decades)) if rotated else quadratic_bowl(log_spectrum(n, decades))
    width = FLAT * math.sqrt(2 * threshold) * 10 ** (decades / 2)
    exact = body.log_volume(threshold) - 0.5 * n * math.log(2 * math.pi * width**2)
    name = f"bowl, {decades:g} decades{', rotated' if rotated else ''}, n = {n:,}"
    return _alone(name, LinearMap(body.matrix), body.per_sample_loss, threshold, width, exact)


def spiky_star(n: int, p: float = 0.5) -> Region:
    """``Σ |w_i|^p ≤ 1``, of volume ``(2Γ(1 + 1/p))^n / Γ(1 + n/p)``."""

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        # the root's slope has no end at 0; so far below the region's size that its volume does not notice
        return (outputs.double().square() + 1e-30).pow(p / 2).sum(-1)

    log_volume = n * (math.log(2) + gammaln(1 + 1 / p)) - gammaln(1 + n / p)
    exact = float(log_volume) - 0.5 * n * math.log(2 * math.pi * FLAT**2)
    return _alone(f"ℓ_{p:g} ball, n = {n:,}", LinearMap(torch.ones(n)), loss, 1.0, FLAT, exact)


def two_balls(n: int, distance: float = 1.9, shift: float = 1.2, radius: float | None = None) -> Region:
    """Balls of one ``radius`` (default ``√n/2``) whose centres are ``distance`` radii apart. The reference of
    width 1 is centred ``shift`` radii from the first towards the second. Only from a distance of √2 on has
    the second ball parts that do not show."""
    r = 0.5 * math.sqrt(n) if radius is None else radius
    d, a = distance * r, shift * r
    if not 0 < distance < 2:
        raise InputError(f"distance {distance}: balls overlap at more than 0 and less than 2 radii")
    far = torch.zeros(n)
    far[0] = d
    start = torch.zeros(n)
    start[0] = -a

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        z = outputs.double() - start.to(outputs)
        return torch.minimum(z.square().sum(-1), (z - far.to(z)).square().sum(-1))

    def second(s: float) -> float:
        return r**2 - (s - d) ** 2

    def seen(s: float) -> float:
        """Squared distance from the axis up to which the second ball is seen through the cut."""
        return min(second(s), s**2 * ((2 * r / d) ** 2 - 1)) if s > 0 else 0.0

    exact = {
        name: _slices(lambda s, of=of: max(r**2 - s**2, of(s)), a, -r, d + r, n, [0.0, d / 2, d, r])
        for name, of in (("visible", seen), ("connected", second))
    }
    model = LinearMap(torch.ones(n), start)
    name = f"two balls, n = {n:,}"
    return _alone(name, model, loss, r**2, 1.0, exact["visible"], connected=exact["connected"])


def _slices(
    square: Callable[[float], float], shift: float, low: float, high: float, n: int, breaks: Sequence[float]
) -> float:
    """Log of ``∫ N(s − shift; 0, 1) P(χ²_{n−1} ≤ square(s)) ds``, in units of its largest slice."""

    def height(s: float) -> float:
        across = square(s)
        log_share = float(chi2.logcdf(across, n - 1)) if across > 0 else -math.inf
        return log_share - 0.5 * (s - shift) ** 2 - 0.5 * math.log(2 * math.pi)

    grid = np.linspace(low, high, 4001)
    heights = np.array([height(s) for s in grid])
    top, peak = heights.max(), float(grid[heights.argmax()])
    inside = sorted({point for point in [*breaks, peak] if low < point < high})
    parts = [
        quad(lambda s: math.exp(height(s) - top), start, end, limit=200, epsrel=1e-9, epsabs=1e-14)[0]
        for start, end in zip([low, *inside], [*inside, high], strict=True)
    ]
    return float(top + math.log(sum(parts)))


def classifier(threshold: float = 0.35, draws: int = 1_000_000, seed: int = 0) -> Region:
    """Logistic regression of 40 points in 6 dimensions that a plane parts; its share of draws."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(40, 6, generator=generator)
    labels = (x @ torch.randn(6, generator=generator) > 0).float()
    model = nn.Linear(6, 1)
    with torch.no_grad():
        model.weight.copy_(2 * torch.linalg.lstsq(x, 2 * labels - 1)[0][None])
        model.bias.zero_()

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        logits = outputs[..., 0]
        return nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")

    inside = 0
    for start in range(0, draws, 100_000):
        some = torch.randn(min(100_000, draws - start), 7, generator=generator)
        logits = some[:, :6] @ x.T + some[:, 6:]
        inside += int((loss(logits[..., None], labels.expand_as(logits)).mean(1) <= threshold).sum())
    if not inside:
        raise InputError(f"threshold {threshold:g}: none of {draws:,} draws lies inside; draw more")
    share = math.log(inside / draws)
    name = f"logistic regression, loss ≤ {threshold:g}"
    exact = {"visible": share, "connected": share}
    return Region(name, model, x, labels, loss, threshold, 1.0, exact, 1 / math.sqrt(inside))
