r"""What one ray tells about the next: local fits of loss curves and predictions of their crossings.

No prediction decides a result: a good one saves evaluations, a bad one costs some.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np

from volume_lib.rays.losses import Rays

POINT_NOISE = 2e-7
"""Uncertainty of a point's ``log c`` from float32 losses."""
THIRD, THIRD_SPREAD = 0.03, 0.1
"""``d³x/df³`` of ``x = log c``, ``f = log loss``, as it is along most rays: mean and spread."""
MISFIT = 0.01
"""A point's distance from such a cubic, as a multiple of ``|f|³``: bounds how far points reach."""


@dataclass(frozen=True)
class Shape:
    """Prior of ``dx/df`` and ``d²x/df²`` for ``x = log c``, ``f = log(loss/threshold)``: mean and spread.

    ``slope`` may differ from ray to ray: an array ``(R,)``, NaN where unknown.
    """

    slope: float | np.ndarray = 0.3
    slope_spread: float = 0.3
    curvature: float = 0.0
    curvature_spread: float = 0.3

    def of(self, rows: np.ndarray) -> Shape:
        """The prior of some of the rays."""
        return replace(self, slope=self.slope[rows]) if isinstance(self.slope, np.ndarray) else self


def fit_root(
    coefficients: np.ndarray,
    excess: np.ndarray,
    shape: Shape,
    guess: np.ndarray | None = None,
    spread: float = np.inf,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Fit ``x(f) = root + slope·f + curvature·f²/2 + third·f³/6`` to each ray's points; ``x = log c``.

    Weighted least squares with a Gaussian prior: a point's standard error grows with the cube of ``|f|``.

    Args:
        coefficients: evaluated coefficients, ``(R, P)``.
        excess: ``f = log(loss/threshold)`` at them, ``(R, P)``; NaN where there is no point.
        shape: prior of slope and curvature.
        guess, spread: prior of the root, ``(R,)``, NaN where unknown, and its standard deviation.

    Returns:
        ``(root, slope, curvature)``, each ``(R,)``. ``root`` is NaN for a ray with no point and no guess.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.log(coefficients)
    use = np.isfinite(x) & np.isfinite(excess) & (np.abs(excess) < 3)
    f, x = np.where(use, excess, 0.0), np.where(use, x, 0.0)
    weight = np.where(use, 1.0 / (POINT_NOISE**2 + (MISFIT * np.abs(f) ** 3) ** 2), 0.0)
    # Rays whose guess is unknown get a reference and no weight for it; the reference keeps numbers small.
    has_guess = np.zeros(len(x), bool) if guess is None else np.isfinite(guess)
    nearest = np.take_along_axis(x, np.where(use, np.abs(f), np.inf).argmin(axis=1)[:, None], axis=1)[:, 0]
    reference = np.where(has_guess, 0.0 if guess is None else guess, nearest)
    prior_weight = np.where(has_guess, 1.0 / spread**2, 0.0)
    x = x - reference[:, None]
    basis = np.stack([np.ones_like(f), f, f * f / 2, f**3 / 6], axis=-1)
    normal = np.einsum("rp,rpi,rpj->rij", weight, basis, basis)
    right = np.einsum("rp,rpi,rp->ri", weight, basis, x)
    normal[:, 0, 0] += prior_weight + 1e-9
    normal[:, 1, 1] += 1.0 / shape.slope_spread**2
    normal[:, 2, 2] += 1.0 / shape.curvature_spread**2
    normal[:, 3, 3] += 1.0 / THIRD_SPREAD**2
    right[:, 3] += THIRD / THIRD_SPREAD**2
    slope = np.where(np.isnan(shape.slope), Shape.slope, shape.slope)
    right[:, 1] += slope / shape.slope_spread**2
    right[:, 2] += shape.curvature / shape.curvature_spread**2
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    known = has_guess | use.any(axis=1)
    return np.where(known, solution[:, 0] + reference, np.nan), solution[:, 1], solution[:, 2]


class History:
    """What the directions solved so far, of one model, teach about the next.

    Quantities are kept by name, one array ``(directions so far,)`` each, NaN where a ray has none. The names
    are ``("root", landscape, target)``, ``log c`` of a crossing; ``("slope", …)``, ``("curvature", …)``,
    the shape of the curve there; and ``("pilot root", …)``, ``("pilot slope", …)``, the same on a subset
    of the samples.

    It also keeps what is the same for all directions: the losses of the model itself (:meth:`at_zero`).
    """

    KEEP = 512
    MAX_FEATURES = 5

    def __init__(self) -> None:
        self.ladder_start: float | None = None
        self.latest: dict[tuple, np.ndarray] = {}
        self._past: dict[tuple, np.ndarray] = {}
        self._at_zero: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def at_zero(self, rays: Rays, landscape: int = -1, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Losses and accuracies of the model itself, ``(landscape + 1,)`` each: the same for every ray."""
        landscape %= len(rays.sizes)
        if (landscape, stride) not in self._at_zero:
            losses, accs = rays(np.zeros(1, dtype=int), np.zeros(1), landscape, stride)
            self._at_zero[landscape, stride] = losses[0], accs[0]
        return self._at_zero[landscape, stride]

    def learn(self, batch: dict[tuple, np.ndarray]) -> None:
        """Take what was found in a solved batch, which :attr:`latest` then is: arrays ``(D,)`` by name."""
        self.latest = batch
        for name, values in batch.items():
            self._past[name] = np.concatenate([self._past.get(name, values[:0]), values])[-self.KEEP :]
        roots = [values for (kind, *_), values in self._past.items() if kind == "root"]
        lowest = [np.nanmin(values) for values in roots if np.isfinite(values).any()]
        if lowest:
            self.ladder_start = float(np.exp(min(lowest)) / 2)

    def root(
        self, landscape: int, target: Hashable, known: dict[tuple, np.ndarray], num_rows: int
    ) -> tuple[np.ndarray, float]:
        """Guess ``log c`` of a crossing from what is ``known`` of the same rays, arrays ``(num_rows,)``.

        Returns guesses ``(num_rows,)``, NaN where there is nothing to go by, and their standard deviation.
        """
        features = [("pilot root", landscape, target), *self._neighbours("root", landscape, target, known)]
        guess = self._regress(("root", landscape, target), features, known, num_rows)
        if guess is None:
            first = next((known[name] for name in features if name in known), np.full(num_rows, np.nan))
            return first, 0.1
        return guess[0], 1.5 * guess[1] + 1e-6

    def shape(self, landscape: int, target: Hashable, known: dict[tuple, np.ndarray], num_rows: int) -> Shape:
        """Prior of the local shape at a crossing; a wide one where nothing is known."""
        features = [("pilot slope", landscape, target), *self._neighbours("slope", landscape, target, known)]
        slope = self._regress(("slope", landscape, target), features, known, num_rows)
        curvature = self._past.get(("curvature", landscape, target), np.empty(0))
        curvature = curvature[np.isfinite(curvature)]
        if slope is None or len(curvature) < 2:
            return Shape()
        return Shape(slope[0], slope[1] + 1e-3, float(np.median(curvature)), _spread(curvature) + 1e-3)

    @staticmethod
    def _neighbours(
        kind: str, landscape: int, target: Hashable, known: dict[tuple, np.ndarray]
    ) -> list[tuple]:
        """The same quantity in the next smaller landscape and at other thresholds."""
        others = [t for t in dict.fromkeys(t for *_, t in known) if t != target]
        names = [(kind, landscape - 1, target)]
        return names + [(kind, k, other) for k in (landscape, landscape - 1) for other in others]

    def _regress(
        self, name: tuple, features: list[tuple], known: dict[tuple, np.ndarray], num_rows: int
    ) -> tuple[np.ndarray, float] | None:
        """Ridge regression of a quantity on ``features`` over past rays, applied to the rays at hand."""
        wanted = self._past.get(name, np.empty(0))
        features = [f for f in features if f in known and len(self._past.get(f, ())) == len(wanted) > 0]
        # A first batch of directions is enough for one feature, later ones for more.
        features = features[: max(0, min(self.MAX_FEATURES, len(wanted) // 3 - 1))]
        past = np.stack([np.ones(len(wanted)), *(self._past[f] for f in features)], axis=1)
        now = np.stack([np.ones(num_rows), *(known[f] for f in features)], axis=1)
        complete = np.isfinite(past).all(axis=1) & np.isfinite(wanted)
        if complete.sum() < 3 * past.shape[1]:
            return None
        past, wanted = past[complete], wanted[complete]
        centre, level = past.mean(axis=0) * [0, *[1] * len(features)], wanted.mean()
        design = past - centre
        ridge = 1e-4 * np.diag([0, *design[:, 1:].var(axis=0)]) * len(past) + 1e-12 * np.eye(past.shape[1])
        weights = np.linalg.solve(design.T @ design + ridge, design.T @ (wanted - level))
        spread = _spread(wanted - level - design @ weights)
        return level + (now - centre) @ weights, spread


def _spread(values: np.ndarray) -> float:
    """Standard deviation of values ``(D,)``, as their middle half has it: a few strange rays do not count."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(high - low) / 1.349
