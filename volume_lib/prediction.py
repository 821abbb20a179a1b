r"""What one ray tells about the next: local fits of loss curves and predictions of their crossings.

Nothing here decides a result. A good prediction saves evaluations; a bad one costs some.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POINT_NOISE = 2e-7
"""Uncertainty of a point's ``log c`` from float32 losses."""
CUBIC = 0.05
"""Typical third-order term of ``log c`` as a function of ``log loss``: bounds how far a quadratic reaches."""


@dataclass(frozen=True)
class Shape:
    """Prior of ``dx/df`` and ``d²x/df²`` for ``x = log c``, ``f = log(loss/threshold)``: mean and spread."""

    slope: float = 0.3
    slope_spread: float = 0.3
    curvature: float = 0.0
    curvature_spread: float = 0.3


def fit_root(
    coefficients: np.ndarray,
    excess: np.ndarray,
    shape: Shape,
    guess: np.ndarray | None = None,
    spread: float = np.inf,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Fit ``x(f) = root + slope·f + curvature·f²/2`` to each ray's points; ``x = log c``.

    Weighted least squares with a Gaussian prior: a point's standard error grows with the cube of ``|f|``,
    as the error of a quadratic does.

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
    weight = np.where(use, 1.0 / (POINT_NOISE**2 + (CUBIC * np.abs(f) ** 3) ** 2), 0.0)
    # Rays whose guess is unknown get a reference and no weight for it; the reference keeps numbers small.
    has_guess = np.zeros(len(x), bool) if guess is None else np.isfinite(guess)
    nearest = np.take_along_axis(x, np.where(use, np.abs(f), np.inf).argmin(axis=1)[:, None], axis=1)[:, 0]
    reference = np.where(has_guess, 0.0 if guess is None else guess, nearest)
    prior_weight = np.where(has_guess, 1.0 / spread**2, 0.0)
    x = x - reference[:, None]
    basis = np.stack([np.ones_like(f), f, f * f / 2], axis=-1)
    normal = np.einsum("rp,rpi,rpj->rij", weight, basis, basis)
    right = np.einsum("rp,rpi,rp->ri", weight, basis, x)
    normal[:, 0, 0] += prior_weight + 1e-9
    normal[:, 1, 1] += 1.0 / shape.slope_spread**2
    normal[:, 2, 2] += 1.0 / shape.curvature_spread**2
    right[:, 1] += shape.slope / shape.slope_spread**2
    right[:, 2] += shape.curvature / shape.curvature_spread**2
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    known = has_guess | use.any(axis=1)
    return np.where(known, solution[:, 0] + reference, np.nan), solution[:, 1], solution[:, 2]


class History:
    """What the directions solved so far, of one model, teach about the next.

    Roots are kept by key, one array ``(directions so far,)`` of ``log c`` each, NaN where a ray has none.
    Keys are ``(landscape, target)`` for crossings, and ``("pilot", landscape, target)`` for those seen on
    a subset of the samples.
    """

    KEEP = 512
    MAX_FEATURES = 5

    def __init__(self) -> None:
        self.ladder_start: float | None = None
        self._roots: dict[tuple, np.ndarray] = {}
        self._shapes: dict[tuple, np.ndarray] = {}

    def learn(self, roots: dict[tuple, np.ndarray], shapes: dict[tuple, np.ndarray]) -> None:
        """Take a solved batch: roots ``(D,)`` by key; slopes and curvatures ``(≤ D, 2)`` by key."""
        for old, new in ((self._roots, roots), (self._shapes, shapes)):
            for key, values in new.items():
                old[key] = np.concatenate([old[key], values])[-self.KEEP :] if key in old else values
        lowest = [np.nanmin(values) for values in self._roots.values() if np.isfinite(values).any()]
        if lowest:
            self.ladder_start = float(np.exp(min(lowest)) / 2)

    def shape(self, key: tuple) -> Shape:
        """Prior of the local shape at a crossing; a wide one where nothing is known."""
        shapes = self._shapes.get(key, np.empty((0, 2)))
        if len(shapes) < 2:
            return Shape()
        (slope, curvature), (slope_spread, curvature_spread) = (
            np.median(shapes, axis=0),
            shapes.std(axis=0) + 1e-3,
        )
        return Shape(slope, slope_spread, curvature, curvature_spread)

    def predict(self, key: tuple, known: dict[tuple, np.ndarray], num_rows: int) -> tuple[np.ndarray, float]:
        """Guess ``log c`` of a crossing from other crossings of the same rays, by ridge regression.

        Args:
            key: ``(landscape, target)`` that is wanted.
            known: roots of the current batch, ``(num_rows,)`` by key.
            num_rows: rays in the batch.

        Returns:
            Guesses ``(num_rows,)``, NaN where there is nothing to go by, and their standard deviation.
        """
        landscape, target = key
        near = [("pilot", landscape, target), (landscape - 1, target)]
        near += [(k, other) for k in (landscape, landscape - 1) for (*_, other) in known if other != target]
        features = [k for k in dict.fromkeys(near) if k in known][: self.MAX_FEATURES]
        wanted = self._roots.get(key, np.empty(0))
        features = [k for k in features if k in self._roots and len(self._roots[k]) == len(wanted)]
        past = np.stack([np.ones(len(wanted)), *(self._roots[k] for k in features)], axis=1)
        now = np.stack([np.ones(num_rows), *(known[k] for k in features)], axis=1)
        complete = np.isfinite(past).all(axis=1) & np.isfinite(wanted)
        if complete.sum() < 3 * past.shape[1]:
            first = next((known[k] for k in near if k in known), np.full(num_rows, np.nan))
            return first, 0.1
        past, wanted = past[complete], wanted[complete]
        centre, level = past.mean(axis=0) * [0, *[1] * len(features)], wanted.mean()
        design = past - centre
        ridge = 1e-4 * np.diag([0, *design[:, 1:].var(axis=0)]) * len(past)
        weights = np.linalg.solve(design.T @ design + ridge, design.T @ (wanted - level))
        spread = float(np.std(wanted - level - design @ weights))
        return level + (now - centre) @ weights, 1.5 * spread + 1e-6
