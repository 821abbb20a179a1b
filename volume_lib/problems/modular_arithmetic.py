"""Addition modulo a prime: the study of grokking (Power et al. 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.networks import MLP
from volume_lib.records import Data


class ModularArithmetic(Problem):
    """What is (a + b) mod p? Cross-entropy over the p answers.

    Samples (N, 2p): the operands, one-hot, one after the other. Targets (N,): the answers. All p² pairs are
    shuffled once; the first four fifths are there for training, the others are the test set. With
    ``whole_table``, as in published studies of volumes, all pairs are both: training takes some of them, and
    the test set is the table, with the pairs that were trained on.
    """

    name = "modular_arithmetic"
    sample_kind = "pairs"
    model_classes = {"MLP": MLP}  # noqa: RUF012

    modulus = 59
    train_share = 0.8
    whole_table = False

    def __init__(self, *, modulus: int | None = None, whole_table: bool | None = None):
        if modulus is not None:
            if isinstance(modulus, bool) or not isinstance(modulus, int) or modulus < 2:
                raise InputError(f"{self.name}: modulus {modulus!r}: must be a whole number, 2 or more")
            self.modulus = modulus
        if whole_table is not None:
            self.whole_table = bool(whole_table)

    @property
    def num_classes(self) -> int:
        return self.modulus

    def load(self, root: Path | None = None) -> Data:
        p = self.modulus
        order = torch.randperm(p * p, generator=torch.Generator().manual_seed(0))
        a, b = order // p, order % p
        x = torch.cat([F.one_hot(a, p), F.one_hot(b, p)], dim=1).float()
        y = (a + b) % p
        if self.whole_table:
            return Data(x, y, x.clone(), y.clone())
        train = round(self.train_share * p * p)
        return Data(x[:train], y[:train], x[train:], y[train:])

    def default_model_kwargs(self, model_class: str) -> dict[str, Any]:
        return {"input_dim": 2 * self.modulus, "hidden_dims": [128], "output_dim": self.modulus}


class ModularArithmeticSquared(ModularArithmetic):
    """:class:`ModularArithmetic` as a regression: squared distance of the outputs from the one-hot answer.

    The square is summed over the p outputs and averaged over samples: answering 0 costs 1 whatever p is.
    With ``average_outputs`` it is averaged over outputs too, as ``torch.nn.MSELoss`` does: 1/p for that.
    """

    name = "modular_arithmetic_mse"
    loss_unit = "squared error"
    average_outputs = False

    def __init__(
        self,
        *,
        modulus: int | None = None,
        whole_table: bool | None = None,
        average_outputs: bool | None = None,
    ):
        super().__init__(modulus=modulus, whole_table=whole_table)
        if average_outputs is not None:
            self.average_outputs = bool(average_outputs)

    def per_sample_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """(N,) squared distances of ``outputs`` (N, p) from the one-hot ``y`` (N,), or their p-th part."""
        squares = (outputs - F.one_hot(y, self.modulus)).square()
        return squares.mean(-1) if self.average_outputs else squares.sum(-1)
