"""What a training records is what its files give: networks × levels × optimisers × SAM × ways to end.

The files are read by torch alone, the networks evaluated in float64 by a loss written here. Every pair of
values of two different factors is met at least once (the full product has 3,024 cases).
"""

import itertools

import pytest
import torch
from small_networks import FourNumbers, Images, Mlp, Recurrent, Words
from torch import nn

from volume_lib.problems.splits import make_dataset
from volume_lib.training.runs import train_models

ROUNDING = 5e-7
"""Of a mean loss in float32, as a part of it, or of 1 where it is smaller: four roundings."""


class Layers(nn.Module):
    def __init__(self, *middle):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), *middle, nn.Linear(6, 3))

    def forward(self, x):
        return self.layers(x)


class BatchNorm(Layers):
    def __init__(self):
        super().__init__(nn.BatchNorm1d(6), nn.ReLU())


class Dropout(Layers):
    def __init__(self):
        super().__init__(nn.Tanh(), nn.Dropout(0.4))


class InPlace(Layers):
    """Changes its inputs at every call."""

    def __init__(self):
        super().__init__(nn.Tanh())

    def forward(self, x):
        return super().forward(x.sub_(0.1))


NETWORKS = [Mlp, Images, Words, Recurrent, BatchNorm, Dropout, InPlace]


class Toy(FourNumbers):
    model_classes = {kind.__name__: kind for kind in NETWORKS}  # noqa: RUF012


FACTORS = {
    "network": NETWORKS,
    "levels": [(4,), (0, 4, 8)],
    "optimizer": ["sgd", "adam", "adamw"],
    "sam": [{}, {"sam_rho": 0.1}, {"sam_rho": 0.1, "sam_adaptive": True}],
    "end": [
        {},
        {"target_train_loss": 1.05},  # met on the way by some
        {"vary": "epochs", "values": [1, 3]},
        {"vary": "batch_size", "values": [2, 5, 100]},
    ],
    "schedule": [None, "cosine", "linear"],
    "joint": ["auto", False],
}


def pairwise(factors):
    """Choices, one value of each factor, that meet every pair of values of two factors: greedily few."""
    sizes = [len(values) for values in factors.values()]
    pairs = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(range(len(sizes)), 2)
        for i, j in itertools.product(range(sizes[a]), range(sizes[b]))
    }

    def met(choice):
        return set(itertools.combinations(enumerate(choice), 2))

    every = list(itertools.product(*map(range, sizes)))
    while pairs:
        best = max(every, key=lambda choice: len(met(choice) & pairs))
        pairs -= met(best)
        yield [values[i] for values, i in zip(factors.values(), best, strict=True)]


CASES = list(pairwise(FACTORS))


def exact(network, x, y):
    """Mean cross-entropy and accuracy in float64."""
    with torch.no_grad():
        outputs = network.double().eval()(x.double())
    own = outputs[torch.arange(len(y)), y]
    return (outputs.exp().sum(1).log() - own).mean().item(), (outputs.argmax(1) == y).double().mean().item()


@pytest.mark.parametrize("network, levels, optimizer, sam, end, schedule, joint", CASES)
def test_recorded_equals_reloaded(network, levels, optimizer, sam, end, schedule, joint, tmp_path):
    problem = Toy()
    data = make_dataset(problem, base_data_size=14, dataset_quantities=list(levels), data_seed=1)
    settings = {"epochs": 3, "batch_size": 4, "learning_rate": 0.02, "target_train_loss": None, **sam, **end}
    found = train_models(
        problem, data, folder=tmp_path, model={"model_class": network.__name__}, model_seed=3,
        optimizer=optimizer, lr_schedule=schedule, joint=joint, **settings,
    )  # fmt: skip
    samples = torch.load(tmp_path / "dataset.pt", weights_only=True)
    files = sorted(tmp_path.glob("model_*.pt"))
    assert len(files) == len(found) == len(end.get("values", levels))
    for path in files:
        file = torch.load(path, weights_only=True)
        x, y = (
            torch.cat(
                [samples[f"{part}_base_train"], samples[f"{part}_additional"][: file["additional_data"]]]
            )
            for part in "xy"
        )
        for kind, own in (("train", (x, y)), ("test", (samples["x_test"], samples["y_test"]))):
            reloaded = network()
            reloaded.load_state_dict(file["state_dict"])
            loss, accuracy = exact(reloaded, *own)
            assert abs(file[f"{kind}_loss"][-1] - loss) <= ROUNDING * max(1, loss)
            assert file[f"{kind}_accs"][-1] == pytest.approx(accuracy, abs=1e-9)
        told = next(model for model in found if model.value == file[end.get("vary", "additional_data")])
        assert told.train_loss == file["train_loss"] and told.test_accs == file["test_accs"]
