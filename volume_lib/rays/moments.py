r"""What a Gaussian reference needs to know of a ray: two numbers for each moved tensor.

Under ``N(0, diag σ²)`` the log density along ``θ + ρ·S·ĝ`` is, up to a constant, ``−slope·ρ − ½·bend·ρ²``.
Where σ is one number for each tensor t, as it is at initialisation,

    slope = Σ_t slope_t/σ_t² / ‖g‖,   slope_t = Σ_{i in t} (S g)_i θ_i
    bend  = Σ_t bend_t/σ_t² / ‖g‖²,   bend_t  = Σ_{i in t} (S g)_i²

so that the file of a sweep can hold them and serve any such reference, without a direction drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor


class Moments:
    """``moments(directions)`` (D, n) → (D, 2, P): slopes and bends for the P moved tensors of ``sizes``.

    ``theta``, ``scale`` (n,): the minimum and the diagonal of the scaling. Summed in float64: in float32 the
    slope of a large network's ray is wrong by a nat at its end. One direction after the other, so that a
    direction's numbers do not depend on those that it is drawn with.
    """

    def __init__(self, theta: Tensor, scale: Tensor, sizes: Sequence[int]) -> None:
        self.theta = theta.detach().cpu().double().numpy()
        self.scale = scale.detach().cpu().double().numpy()
        self.filled = np.flatnonzero(sizes)
        self.starts = np.cumsum([0, *sizes])[self.filled]
        self.count = len(sizes)

    def __call__(self, directions: Tensor) -> np.ndarray:
        found = np.zeros((len(directions), 2, self.count))
        for row, direction in zip(found, directions, strict=True):
            moved = direction.double().numpy() * self.scale
            row[0, self.filled] = np.add.reduceat(moved * self.theta, self.starts)
            row[1, self.filled] = np.add.reduceat(moved * moved, self.starts)
        return found
