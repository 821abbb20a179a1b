"""Addition modulo a prime: the study of grokking (Power et al. 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from volume_lib.problems.base import Problem
from volume_lib.problems.networks import MLP
from volume_lib.records import Data


class ModularArithmetic(Problem):
    """What is (a + b) mod p? Cross-entropy over the p answers.

    Samples (N, 2p): the operands, one-hot, one after the other. Targets (N,): the answers. All p² pairs are
    shuffled once; the first four fifths are there for training, the others are the test set. Another prime
    is a problem of one's own::

        class Small(ModularArithmetic):
            modulus = 31
    """

    name = "modular_arithmetic"
    sample_kind = "pairs"
    model_classes = {"MLP": MLP}  # noqa: RUF012

    modulus = 59
    train_share = 0.8

    @property
    def num_classes(self) -> int:
        return self.modulus

    def load(self, root: Path | None = None) -> Data:
        p = self.modulus
        order = torch.randperm(p * p, generator=torch.Generator().manual_seed(0))
        a, b = order // p, order % p
        x = torch.cat([F.one_hot(a, p), F.one_hot(b, p)], dim=1).float()
        y = (a + b) % p
        train = round(self.train_share * p * p)
        return Data(x[:train], y[:train], x[train:], y[train:])

    def default_model_kwargs(self, model_class: str) -> dict[str, Any]:
        return {"input_dim": 2 * self.modulus, "hidden_dims": [128], "output_dim": self.modulus}


class ModularArithmeticSquared(ModularArithmetic):
    """:class:`ModularArithmetic` as a regression: squared distance of the outputs from the one-hot answer.

    The square is summed over the p outputs and averaged over samples: answering 0 costs 1 whatever p is.
    """

    name = "modular_arithmetic_mse"
    loss_unit = "squared error"

    def per_sample_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """(N,) squared distances of ``outputs`` (N, p) from the one-hot ``y`` (N,)."""
        return (outputs - F.one_hot(y, self.modulus)).square().sum(-1)
