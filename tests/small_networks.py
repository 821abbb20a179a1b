"""Networks that tests train, on samples of four numbers in three classes."""

from __future__ import annotations

from torch import nn

from volume_lib.problems.networks import CNN, GPT, MLP


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
