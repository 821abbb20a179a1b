"""Samples of four numbers in three classes, and networks that tests train on them."""

from __future__ import annotations

import torch
from torch import nn

from volume_lib.problems.base import Problem
from volume_lib.problems.networks import CNN, GPT, MLP
from volume_lib.records import Data


class FourNumbers(Problem):
    """40 samples to train on, 20 to test; a subclass names its ``model_classes``."""

    name = "toy"
    num_classes = 3

    def load(self, root=None):
        x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
        y = (x[:, :3] + 0.3).argmax(1)
        return Data(x[:40], y[:40], x[40:], y[40:])

    def default_model_kwargs(self, model_class):
        return {}


class Recurrent(nn.Module):
    kind = nn.LSTM

    def __init__(self):
        super().__init__()
        self.cell, self.last = self.kind(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.cell(x.unflatten(1, (2, 2)))[0][:, -1])


class Images(CNN):
    def __init__(self):
        super().__init__(1, 2, [3], 5, 3)

    def forward(self, x):
        return super().forward(x.unflatten(1, (1, 2, 2)))


class Words(GPT):
    """The four numbers as tokens; classes from the last position."""

    def __init__(self):
        super().__init__(vocabulary=5, context=4, width=8, heads=2, layers=1)

    def forward(self, x):
        return super().forward((x > 0).long())[:, -1, :3]


class Mlp(MLP):
    def __init__(self):
        super().__init__(4, [5], 3)
