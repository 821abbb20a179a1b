r"""Bodies of known volume, as problems: they take the path of a network from the sweep to ``results.json``.

A body is the sublevel set ``{w : gauge(A w) ≤ T}`` of one of three losses,

==================  =======================  ==========================================
gauge               loss of ``z = A w``      log volume of ``{w : loss ≤ T}``, in nats
==================  =======================  ==========================================
``ball``            ``½ Σ z_i²``             ``log V_n + n/2·log 2T − log|det A|``
``box``             ``max |z_i|``            ``n·log 2T − log|det A|``
``cross_polytope``  ``Σ |z_i|``              ``n·log 2T − log n! − log|det A|``
==================  =======================  ==========================================

with ``V_n`` the volume of the unit ball and ``A`` diagonal or dense. All are convex, so that the
estimate of :mod:`volume_lib.volume.estimate` converges to exactly these numbers from any point inside.

>>> import math
>>> square = box([1.0, 3.0])  # |w_1| ≤ T, |w_2| ≤ 3T
>>> math.isclose(math.exp(square.log_volume(2.0)), 4 * 12, rel_tol=1e-6)
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.records import Data, Dataset, TrainedModel
from volume_lib.volume.estimate import log_ball_volume

GAUGES = ("ball", "box", "cross_polytope")


class LinearMap(nn.Module):
    """The "network" of a body: a parameter ``weight`` (n,) and ``z = A·weight``, whatever the input.

    ``matrix``: (n,) for a diagonal ``A`` or (n, n); it is a buffer, never moved. ``start``: where the
    minimum sits, (n,); the body's centre, 0, by default.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, start: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.weight = nn.Parameter(torch.zeros(len(matrix)) if start is None else start.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, …), whatever they hold, to outputs (N, n)."""
        z = self.matrix * self.weight if self.matrix.dim() == 1 else self.matrix @ self.weight
        return z.expand(len(x), -1)

    def stacked_forward(self, named: dict[str, Tensor], x: Tensor) -> Tensor:
        """Many maps side by side: weights (M, 1, n) and inputs (M, N, …) to outputs (M, N, n)."""
        weight = named["weight"]
        z = self.matrix * weight if self.matrix.dim() == 1 else weight @ self.matrix.T
        return z.expand(-1, x.shape[1], -1)


class Body(Problem):
    """A body of known volume. Build one by :func:`quadratic_bowl`, :func:`tilted_bowl`, :func:`ellipsoid`,
    :func:`box` or :func:`cross_polytope`; its only sample is a placeholder.

    The accuracy is ``exp(−loss)``, so that an accuracy threshold ``a`` is the loss threshold ``−log a``.
    """

    num_classes = 1
    model_classes: ClassVar[dict[str, type[nn.Module]]] = {"LinearMap": LinearMap}

    def __init__(self, gauge: str, matrix: Sequence[float] | np.ndarray | Tensor) -> None:
        if gauge not in GAUGES:
            raise InputError(f"gauge must be one of {', '.join(GAUGES)}, not {gauge!r}")
        self.matrix = torch.as_tensor(np.asarray(matrix, dtype=np.float32))
        used = self.matrix.double()  # the body that the float32 model has, not the one that was asked for
        if used.dim() == 1:
            log_det = used.abs().log().sum()
        elif used.dim() == 2 and used.shape[0] == used.shape[1]:
            log_det = torch.linalg.slogdet(used).logabsdet
        else:
            raise InputError(f"matrix must be (n,) or (n, n), not {tuple(used.shape)}")
        if not math.isfinite(log_det):
            raise InputError("matrix must be invertible: a body that is flat in a direction has no volume")
        self.name = gauge
        self.gauge = gauge
        self.log_det = float(log_det)

    @property
    def n(self) -> int:
        return len(self.matrix)

    def log_volume(self, threshold: float) -> float:
        """Exact log volume of ``{w : loss(w) ≤ threshold}``, in nats."""
        if self.gauge == "ball":
            unit = log_ball_volume(self.n) + 0.5 * self.n * math.log(2 * threshold)
        else:
            unit = self.n * math.log(2 * threshold)
            unit -= math.lgamma(self.n + 1) if self.gauge == "cross_polytope" else 0
        return unit - self.log_det

    def per_sample_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        # In float64: among a million float32 terms, those of small curvature would drown.
        z = outputs.double()
        if self.gauge == "ball":
            return 0.5 * z.square().sum(-1)
        return z.abs().amax(-1) if self.gauge == "box" else z.abs().sum(-1)

    def correct(self, outputs: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-self.per_sample_loss(outputs, y))

    def load(self, root: Path | None = None) -> Data:
        x, y = torch.zeros(1, 1), torch.zeros(1, dtype=torch.long)
        return Data(x, y, x, y)

    def default_model_kwargs(self, model_class: str) -> dict[str, Any]:
        return {"matrix": self.matrix}

    def dataset(self) -> Dataset:
        """One base sample and no additional ones: the landscape of level 0."""
        data = self.load()
        return Dataset(
            *(data.x_train, data.y_train),
            *(data.x_train[:0], data.y_train[:0]),
            *(data.x_test, data.y_test),
            dataset_quantities=[0],
            dataset_type="data",
            problem=self.name,
            data_seed=0,
        )

    def minimum(self, start: Sequence[float] | None = None) -> TrainedModel:
        """The body's centre, or the point ``start`` (n,), in the form of a trained model."""
        point = None if start is None else torch.as_tensor(start, dtype=torch.float32)
        model = LinearMap(self.matrix, point)
        data = self.load()
        with torch.no_grad():
            loss = float(self.loss(model(data.x_train), data.y_train))
        accuracy = math.exp(-loss)
        return TrainedModel(
            model, "LinearMap", {"matrix": self.matrix}, 0, self.name, "data", 0,
            [loss], [loss], [accuracy], [accuracy],
        )  # fmt: skip


def quadratic_bowl(spectrum: Sequence[float] | np.ndarray | Tensor) -> Body:
    """``½ Σ λ_i w_i²`` for the curvatures ``λ`` (n,) > 0."""
    curvatures = np.asarray(spectrum, dtype=np.float64)
    if not (curvatures > 0).all():
        raise InputError("spectrum must be positive: along a direction without curvature the bowl has no end")
    return Body("ball", np.sqrt(curvatures))


def tilted_bowl(spectrum: Sequence[float] | np.ndarray | Tensor, seed: int = 0) -> Body:
    """A quadratic bowl of the curvatures ``λ`` (n,) > 0 whose axes point in random directions."""
    curvatures = np.asarray(spectrum, dtype=np.float64)
    square = np.random.default_rng(seed).standard_normal((len(curvatures), len(curvatures)))
    return ellipsoid(np.sqrt(curvatures)[:, None] * np.linalg.qr(square).Q)


def ellipsoid(matrix: np.ndarray | Tensor) -> Body:
    """``½ ‖A w‖²`` for any invertible ``A`` (n, n): its axes need not be those of the parameters."""
    return Body("ball", matrix)


def box(half_widths: Sequence[float] | np.ndarray) -> Body:
    """``max |w_i| / a_i`` for the half widths ``a`` (n,) at threshold 1."""
    return Body("box", 1 / np.asarray(half_widths, dtype=np.float64))


def cross_polytope(half_axes: Sequence[float] | np.ndarray) -> Body:
    """``Σ |w_i| / a_i`` for the half axes ``a`` (n,) at threshold 1."""
    return Body("cross_polytope", 1 / np.asarray(half_axes, dtype=np.float64))


def log_spectrum(n: int, decades: float) -> np.ndarray:
    """Curvatures (n,), evenly spaced in the logarithm over ``decades`` powers of ten below 1."""
    return np.logspace(0, -decades, n)
