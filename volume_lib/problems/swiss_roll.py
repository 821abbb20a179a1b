"""Two interlocking spirals in the plane: small, generated, and hard to learn from few samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.networks import MLP
from volume_lib.records import Data


class SwissRoll(Problem):
    """Which of two spirals does a point lie on? Binary cross-entropy of one logit.

    Samples (N, 2), targets (N,) of 0 and 1. The spirals are each other's mirror image in the origin, wind
    ``turns`` times and reach out to ``radius``; points scatter around them with the standard deviation
    ``noise`` in each coordinate, a small part of their distance, so that the classes can be told apart
    everywhere given enough samples. ``core`` is the share of an arm, by area, that is left out at the centre.
    In published data of this kind the radius grows by 1.5 a radian: turns 1.7, noise 0.3, radius 16.02,
    core 0.
    """

    name = "swiss_roll"
    sample_kind = "points"
    num_classes = 2
    class_names = ("first spiral", "second spiral")
    model_classes = {"MLP": MLP}  # noqa: RUF012

    train_size = 10_000
    test_size = 2_000
    turns = 2.5
    noise = 0.04
    radius = 2.0  # a standard deviation of the points near one
    core = 0.02

    def __init__(
        self,
        *,
        turns: float | None = None,
        noise: float | None = None,
        radius: float | None = None,
        core: float | None = None,
    ):
        for name, value, least in (
            ("turns", turns, 0.0),
            ("noise", noise, 0.0),
            ("radius", radius, 1e-9),
            ("core", core, 0.0),
        ):
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                    raise InputError(f"swiss_roll: {name} {value!r}: must be a number, {least:g} or more")
                setattr(self, name, float(value))
        if not self.core < 1:
            raise InputError(f"swiss_roll: core {self.core:g}: must be below 1")

    def load(self, root: Path | None = None) -> Data:
        generator = torch.Generator().manual_seed(0)
        x_train, y_train = self._generate(self.train_size, generator)
        x_test, y_test = self._generate(self.test_size, generator)
        return Data(x_train, y_train, x_test, y_test)

    def _generate(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        y = torch.randint(2, (size,), generator=generator)
        # the square root spreads the points evenly along the arc, whose length grows with the radius
        radius = torch.sqrt(self.core + (1 - self.core) * torch.rand(size, generator=generator))
        angle = 2 * math.pi * self.turns * radius + math.pi * y
        centre = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        points = centre + self.noise / self.radius * torch.randn(size, 2, generator=generator)
        return self.radius * points, y

    def default_model_kwargs(self, model_class: str) -> dict[str, Any]:
        return {"input_dim": 2, "hidden_dims": [32] * 5, "output_dim": 1}

    def per_sample_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Binary cross-entropy in nats: ``outputs`` (N, 1) logits of class 1, ``y`` (N,); returns (N,)."""
        return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), y.to(outputs.dtype), reduction="none")

    def correct(self, outputs: Tensor, y: Tensor) -> Tensor:
        return ((outputs.squeeze(-1) > 0) == (y > 0)).to(outputs.dtype)
