"""Training of networks that act differently while they are trained, or cannot be stacked: right, or not."""

import copy
import itertools
import random

import numpy as np
import pytest
import torch
from small_networks import FourNumbers, Images, Mlp, Recurrent, Words
from torch import nn

from volume_lib import storage
from volume_lib.cutoffs import loss_against_data, test_accuracies
from volume_lib.errors import InputError
from volume_lib.problems.splits import make_dataset
from volume_lib.records import Data, TrainedModel
from volume_lib.training.fit import unfitted
from volume_lib.training.loop import Trainee, epoch_orders
from volume_lib.training.modes import seed_of_draws
from volume_lib.training.runs import train_models


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class BatchNorm(Small):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6, bias=False)  # a bias would be lost in the mean of the batch
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


class Dropout(Small):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.4)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.first(x))))


class OwnDropout(Small):
    """Dropout without a module, and by Python's and NumPy's draws too."""

    def forward(self, x):
        h = torch.tanh(self.first(x))
        if self.training:
            h = h * (torch.rand_like(h) > 0.2) * (1 + 0.1 * random.random() + 0.1 * np.random.rand())
        return self.last(h)


class Gated(Recurrent):
    kind = nn.GRU


class Looping(Small):
    def forward(self, x):
        h = super().forward(x)
        return h / 2 if h.abs().max().item() > 50 else h


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        return h * h

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


class OwnFunction(Small):
    def forward(self, x):
        return self.last(Square.apply(self.first(x)))


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(4, 2)
        self.experts = nn.ModuleList(nn.Linear(4, 3) for _ in range(2))

    def forward(self, x):
        shares, chosen = self.router(x).softmax(1).max(1)
        out = x.new_zeros(len(x), 3)
        for i, expert in enumerate(self.experts):
            if (chosen == i).any():
                out[chosen == i] = expert(x[chosen == i]) * shares[chosen == i, None]
        return out


class InPlace(Small):
    def forward(self, x):
        return super().forward(x.sub_(0.1))


class InPlaceInLargeBatches(Small):
    def forward(self, x):
        return super().forward(x.sub_(0.1) if len(x) > 15 else x - 0.1)


class InPlaceNowAndThen(Small):
    """In batches of a size that nobody asks about beforehand: the seven test samples."""

    def forward(self, x):
        return super().forward(x.sub_(0.1) if len(x) == 7 else x - 0.1)


class OutOfPlace(Small):
    def forward(self, x):
        return super().forward(x - 0.1)


class RandomFeatures(Small):
    """Buffers of its own for every seed: side by side, one network's would serve all."""

    def __init__(self):
        super().__init__()
        self.register_buffer("features", torch.randn(4, 4))

    def forward(self, x):
        return super().forward(torch.cos(x @ self.features))


# ---- that cannot be trained


class Noisy(Small):
    def forward(self, x):
        return super().forward(x + 1e-3 * torch.randn_like(x))


class OwnStatistics(Small):
    """Running statistics that its state_dict does not hold."""

    def __init__(self):
        super().__init__()
        self.centre = torch.zeros(6)

    def forward(self, x):
        h = self.first(x)
        if self.training:
            self.centre = 0.5 * self.centre + 0.5 * h.detach().mean(0)
        return self.last(torch.tanh(h - self.centre))


class BatchStatistics(Small):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


class WithoutGradient(Small):
    def forward(self, x):
        return super().forward(x).detach()


MODAL = [BatchNorm, Dropout, OwnDropout]
ALONE = [Recurrent, Gated, Looping, OwnFunction, Experts, *MODAL]
EVERY = [Mlp, Images, Words, Small, InPlace, *ALONE]


class Toy(FourNumbers):
    model_classes = {  # noqa: RUF012
        kind.__name__: kind
        for kind in [
            *EVERY,
            OutOfPlace,
            InPlaceInLargeBatches,
            InPlaceNowAndThen,
            RandomFeatures,
            Noisy,
            OwnStatistics,
            BatchStatistics,
            WithoutGradient,
        ]
    }


PROBLEM = Toy()


def dataset(levels=(0, 6), test_size=None):
    return make_dataset(
        PROBLEM, base_data_size=12, dataset_quantities=list(levels), data_seed=1, test_size=test_size
    )


def train(kind, folder, data=None, **settings):
    settings = {"model_seed": 3, "epochs": 4, "batch_size": 4, "learning_rate": 0.02, **settings}
    settings.setdefault("target_train_loss", None)
    return train_models(
        PROBLEM, data or dataset(), folder=folder, model={"model_class": kind.__name__}, **settings
    )


def evaluated(model, x, y):
    """Mean loss and accuracy in eval mode, as anyone would take them from a model that was read."""
    with torch.no_grad():
        outputs = model.eval()(x.clone())
    return PROBLEM.loss(outputs, y).item(), PROBLEM.correct(outputs, y).mean().item()


def vector(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def check_recorded(found, folder, data):
    """What the records say is what the files give."""
    models, again = storage.load_models_and_data(folder, PROBLEM)
    assert torch.equal(again.x_test, data.x_test)
    for record, model in zip(found, models, strict=True):
        x, y = data.upto(record.level)
        assert (model.train_loss[-1], model.train_accs[-1]) == pytest.approx(
            evaluated(model.model, x, y), rel=1e-5
        )
        told = model.test_loss[-1], model.test_accs[-1]
        assert told == pytest.approx(evaluated(model.model, data.x_test, data.y_test), rel=1e-5)
        mine, read = record.model.state_dict(), model.model.state_dict()
        assert all(torch.equal(mine[key], read[key]) for key in read) and mine.keys() == read.keys()


# ---- recorded equals reloaded: of usual networks, in all ways to train, in test_recorded_reloaded.py


@pytest.mark.parametrize("levels", [(4,), (0, 6)])
@pytest.mark.parametrize("kind", [Gated, Looping, OwnFunction, Experts, OwnDropout])
def test_recorded_equals_reloaded(kind, levels, tmp_path):
    data = dataset(levels)
    before = copy.deepcopy(data)
    check_recorded(train(kind, tmp_path, data), tmp_path, data)
    assert torch.equal(data.x_base_train, before.x_base_train) and torch.equal(data.x_test, before.x_test)


# ---- train mode in steps, eval mode in records


def reference(kind, level, data, epochs=4, batch_size=4, sam_rho=0.0):
    """The loop as anyone writes it: train mode and the seed's draws in steps, eval mode for the curves."""
    model = PROBLEM.build_model({}, 3, kind.__name__)
    x, y = data.upto(level)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for p in model.parameters():  # an expert without samples has a gradient, of zero
        p.grad = torch.zeros_like(p)
    curve = []
    with torch.random.fork_rng(devices=[]):
        seed = seed_of_draws(3)
        torch.manual_seed(seed)
        states = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        for order in itertools.islice(
            epoch_orders(Trainee("", model, len(x), batch_size, [epochs], epochs, 3)), epochs
        ):
            for batch in order.split(batch_size):
                model.train()
                state = torch.get_rng_state()
                optimizer.zero_grad(set_to_none=False)
                PROBLEM.loss(model(x[batch]), y[batch]).backward()
                if sam_rho:
                    kept = [p.detach().clone() for p in model.parameters()]
                    buffers = {k: v.clone() for k, v in model.named_buffers()}
                    norm = sum(p.grad.square().sum() for p in model.parameters()).sqrt()
                    with torch.no_grad():
                        for p in model.parameters():
                            p.add_(p.grad, alpha=float(sam_rho / norm))
                    torch.set_rng_state(state)
                    optimizer.zero_grad(set_to_none=False)
                    PROBLEM.loss(model(x[batch]), y[batch]).backward()
                    with torch.no_grad():
                        for p, k in zip(model.parameters(), kept, strict=True):
                            p.copy_(k)
                        for k, v in model.named_buffers():
                            v.copy_(buffers[k])
                optimizer.step()
            curve.append(evaluated(model, x, y)[0])
        random.setstate(states[0])
        np.random.set_state(states[1])
    return model.eval(), curve


@pytest.mark.parametrize("sam_rho", [0.0, 0.2])
@pytest.mark.parametrize("kind", MODAL)
def test_steps_are_in_train_mode_and_curves_in_eval_mode(kind, sam_rho, tmp_path):
    if kind is OwnDropout and sam_rho:
        pytest.skip("Python's own draws are not repeated in the second pass")
    data = dataset()
    for found in train(kind, tmp_path, data, sam_rho=sam_rho):
        expected, curve = reference(kind, found.value, data, sam_rho=sam_rho)
        torch.testing.assert_close(vector(found.model), vector(expected), rtol=1e-4, atol=1e-5)
        for key, value in expected.state_dict().items():  # running statistics from training batches only
            torch.testing.assert_close(found.model.state_dict()[key], value, rtol=1e-4, atol=1e-5)
        assert found.train_loss == pytest.approx(curve, rel=1e-4)


def test_test_samples_do_not_enter_the_statistics(tmp_path):
    few, many = (train(BatchNorm, tmp_path / str(size), dataset(test_size=size)) for size in (3, 20))
    for a, b in zip(few, many, strict=True):
        assert all(
            torch.equal(value, b.model.state_dict()[key]) for key, value in a.model.state_dict().items()
        )
    assert few[0].model.norm.num_batches_tracked == 4 * 3


@pytest.mark.parametrize("kind", [Dropout, OwnDropout])
def test_draws_come_from_the_seed_and_disturb_nobody(kind, tmp_path):
    torch.manual_seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    one = train(kind, tmp_path / "one")
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()
    torch.manual_seed(2)
    random.seed(7)
    two = train(kind, tmp_path / "two")
    alone = train(kind, tmp_path / "alone", dataset((6,)))  # the same without its neighbour
    for a, b in zip(one, two, strict=True):
        assert torch.equal(vector(a.model), vector(b.model)) and a.train_loss == b.train_loss
    other = train(kind, tmp_path / "other", model_seed=4)
    assert not torch.equal(vector(other[0].model), vector(one[0].model))
    assert alone[0].train_loss != other[1].train_loss
    # base and additional samples of a level are the same in both
    torch.testing.assert_close(vector(alone[0].model), vector(one[1].model))


# ---- one at a time


@pytest.mark.parametrize("kind", ALONE)
def test_what_cannot_be_stacked_is_trained_one_at_a_time_and_it_is_said(kind, tmp_path, capsys):
    together = train(kind, tmp_path / "a", joint=True)
    assert "trained one at a time (" in "".join(capsys.readouterr())
    alone = train(kind, tmp_path / "b", joint=False)
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(vector(a.model), vector(b.model)) and a.train_loss == b.train_loss
    if kind not in MODAL:
        for found in together:
            expected, _ = reference(kind, found.value, dataset())
            torch.testing.assert_close(vector(found.model), vector(expected), rtol=1e-4, atol=1e-5)


def test_networks_with_buffers_of_their_own_keep_them(tmp_path):
    from volume_lib.training.plan import Plan
    from volume_lib.training.runs import Run, train_runs
    from volume_lib.training.section import TrainSettings

    settings = TrainSettings(epochs=3, batch_size=4, learning_rate=0.02, target_train_loss=None)
    plan = Plan(PROBLEM, {"model_class": "RandomFeatures"}, settings)
    runs = [Run(dataset(), seed, tmp_path / str(seed)) for seed in (3, 4)]
    for run, models in zip(runs, train_runs(plan, runs, joint=True), strict=True):
        own = PROBLEM.build_model({}, run.model_seed, "RandomFeatures").features
        for found in models:
            assert torch.equal(found.model.features, own)
            again = train(
                RandomFeatures, tmp_path / "alone" / str(run.model_seed), model_seed=run.model_seed, epochs=3
            )
            torch.testing.assert_close(vector(found.model), vector(again[found.value > 0].model))


@pytest.mark.parametrize("kind", [InPlace, InPlaceInLargeBatches])
@pytest.mark.parametrize("settings", [{}, {"sam_rho": 0.1}, {"sam_rho": 0.1, "batch_size": 100}])
def test_inputs_changed_in_place_are_copies(kind, settings, tmp_path):
    data = dataset()
    before = copy.deepcopy(data)
    inside, outside = (train(k, tmp_path / k.__name__, data, **settings) for k in (kind, OutOfPlace))
    for a, b in zip(inside, outside, strict=True):
        torch.testing.assert_close(vector(a.model), vector(b.model))
        assert a.test_loss == pytest.approx(b.test_loss, rel=1e-5)
    assert torch.equal(data.x_base_train, before.x_base_train) and torch.equal(data.x_test, before.x_test)


@pytest.mark.parametrize("joint", [False, True])
def test_inputs_changed_after_they_were_asked_about_stop_the_training(joint, tmp_path):
    with pytest.raises(InputError, match="additional 0: forward changed the samples in place"):
        train(InPlaceNowAndThen, tmp_path, dataset(test_size=7), joint=joint)
    assert not list(tmp_path.glob("model_*.pt"))


# ---- refused


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        (Noisy, {}, "additional 0: the loss is not the same twice"),
        (BatchStatistics, {}, "depends on the others in its batch"),
        (
            OwnStatistics,
            {},
            r"what training changes is not all in its state_dict \(reloaded, a loss differs by",
        ),
        (WithoutGradient, {}, "the network does not train on a batch"),
        (
            BatchNorm,
            {"batch_size": 11},
            "does not train on a batch of 1 sample, the smallest that its batch_size",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before(kind, settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        train(kind, tmp_path, **settings)
    assert not list(tmp_path.glob("model_*"))


def test_a_mean_instead_of_a_loss_of_each_sample_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Toy, "per_sample_loss", lambda self, outputs, y: nn.functional.cross_entropy(outputs, y)
    )
    with pytest.raises(InputError, match=r"loss: must give one number for each sample, shape \(4,\).*mean"):
        train(Small, tmp_path)


def test_inputs_of_another_precision_are_taken_to_the_networks(tmp_path, monkeypatch):
    plain = train(Small, tmp_path / "plain")
    load = Toy.load

    def doubled(self, root=None):
        data = load(self, root)
        return Data(data.x_train.double(), data.y_train, data.x_test.double(), data.y_test)

    monkeypatch.setattr(Toy, "load", doubled)
    for a, b in zip(train(Small, tmp_path / "double"), plain, strict=True):
        torch.testing.assert_close(vector(a.model), vector(b.model))


# ---- the end of a training


def test_networks_that_did_not_fit_are_named_at_the_end(tmp_path, capsys):
    found = train(Small, tmp_path, target_train_loss=1e-6, epochs=2)
    told = capsys.readouterr().out
    for model in found:
        assert f"{model.key} {model.value} (training loss {model.train_loss[-1]:.3g})" in told
    assert "did not fit: " in told and "above target_train_loss 1e-06" in told
    assert unfitted(found, 1e-6) == {f"additional {m.value}": m.train_loss[-1] for m in found}
    train(Small, tmp_path, target_train_loss=1e-6, epochs=2, loss_thresholds=[0.1, 50.0])  # below the largest
    assert "did not fit" not in capsys.readouterr().out
    train(Small, tmp_path, target_train_loss=1e-6, epochs=2, loss_thresholds=[1e-5, 1e-4])
    assert "above the largest loss threshold 0.0001: no volume there" in capsys.readouterr().out
    assert unfitted(found) == {} and unfitted(found, 0.1, [50.0]) == {}


def test_curves_against_data_leave_the_data_alone():
    x, y = dataset().upto(6)
    before = dataset()
    tables = []
    for kind in (InPlace, OutOfPlace):
        data, curves = (
            dataset(),
            {name: [1.0] for name in ("train_loss", "test_loss", "train_accs", "test_accs")},
        )
        model = PROBLEM.build_model({}, 3, kind.__name__).eval()
        found = TrainedModel(model, kind.__name__, {}, 3, "toy", "data", 0, **curves)
        first = loss_against_data(PROBLEM, [found, found], data)
        accuracies = [test_accuracies(PROBLEM, [found], data)[1] for _ in range(2)]
        assert torch.equal(data.x_test, before.x_test) and accuracies[0] == accuracies[1]
        tables.append(first["Model_0"]["loss_curve"])
    assert tables[0] == pytest.approx(tables[1], rel=1e-6) and len(tables[0]) == len(x) == len(y)


def said(capsys) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_what_is_refused_leaves_nothing_behind_and_what_is_replaced_is_said_before(tmp_path, capsys):
    data = dataset()
    with pytest.raises(InputError):
        train(Noisy, tmp_path / "new", data)
    assert not list(tmp_path.rglob("*.pt"))

    train(Mlp, tmp_path / "run", data, learning_rate=0.01, epochs=1)
    assert "replaced" not in said(capsys)
    before = (tmp_path / "run" / "dataset.pt").read_bytes()
    with pytest.raises(InputError, match="not the same twice"):
        train(Noisy, tmp_path / "run", dataset((0, 4)))
    assert (tmp_path / "run" / "dataset.pt").read_bytes() == before
    train(Mlp, tmp_path / "run", data, learning_rate=0.01, epochs=1)
    assert "replaced" not in said(capsys)  # the same again: nothing is trained
    train(Mlp, tmp_path / "run", data, learning_rate=0.02, epochs=1)
    told = said(capsys)
    assert "model_additional_0.pt (learning_rate 0.01 → 0.02)" in told and "model_additional_6.pt" in told
