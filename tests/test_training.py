"""Training: update rules against torch.optim and hand-written passes, stacks, resuming, curves."""

import io
import itertools
import re
import warnings

import pytest
import torch
from torch import nn

from volume_lib import storage
from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.networks import MLP
from volume_lib.problems.splits import make_dataset
from volume_lib.progress import Bar
from volume_lib.records import Data
from volume_lib.training import loop as fitting
from volume_lib.training import runs
from volume_lib.training.loop import Trainee, epoch_orders
from volume_lib.training.optimizers import ASAM_ETA, OPTIMIZERS, SCHEDULES, sam_ascent
from volume_lib.training.plan import Plan
from volume_lib.training.runs import JOINT_LIMIT, Run, joint_groups, train_models, train_runs
from volume_lib.training.section import TrainSettings


class TanhNet(nn.Module):
    """A network that only ``vmap`` can stack."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 3)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Toy(Problem):
    """Three classes of points in space; double precision, so that "to rounding" means 1e-12."""

    name = "toy"
    num_classes = 3
    model_classes = {"MLP": MLP, "TanhNet": TanhNet}  # noqa: RUF012

    def load(self, root=None):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(400, 3, generator=generator, dtype=torch.float64)
        y = (x @ torch.tensor([[1.0, -1, 0], [0, 1, -1], [1, 0, 1]], dtype=torch.float64)).argmax(1)
        return Data(x[:200], y[:200], x[200:], y[200:])

    def default_model_kwargs(self, model_class):
        if model_class == "MLP":
            return {"input_dim": 3, "hidden_dims": [6, 5], "output_dim": 3}
        return {"width": 4}

    def build_model(self, model_kwargs, seed, model_class=None):
        return super().build_model(model_kwargs, seed, model_class).double()


PROBLEM = Toy()


@pytest.fixture
def dataset():
    return make_dataset(PROBLEM, base_data_size=10, dataset_quantities=[0, 5, 13, 60], data_seed=1)


def train(dataset, folder, **kwargs):
    settings = {"model_seed": 3, "epochs": 6, "batch_size": 8, "learning_rate": 0.01, **kwargs}
    settings.setdefault("target_train_loss", None)
    return train_models(PROBLEM, dataset, folder=folder, **settings)


def weights(trained):
    return torch.nn.utils.parameters_to_vector(trained.model.parameters()).detach()


def reference_training(dataset, level, seed, epochs, batch_size, make_optimizer, step=None, model_class=None):
    """The loop as any PyTorch user writes it, on the batches of the seed."""
    model = PROBLEM.build_model({}, seed, model_class)
    optimizer = make_optimizer(model.parameters())
    x, y = dataset.upto(level)
    orders = epoch_orders(Trainee("", model, len(x), batch_size, [epochs], epochs, seed))
    for epoch, order in enumerate(itertools.islice(orders, epochs)):
        batches = order.split(batch_size)
        for number, batch in enumerate(batches):
            if step is not None:
                step(
                    model,
                    optimizer,
                    x[batch],
                    y[batch],
                    (epoch * len(batches) + number) / (epochs * len(batches)),
                )
            else:
                optimizer.zero_grad()
                PROBLEM.loss(model(x[batch]), y[batch]).backward()
                optimizer.step()
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


# ---- update rules

TORCH_OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@pytest.mark.parametrize("per_model_rates", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_rules_are_torchs(name, weight_decay, per_model_rates):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    gradients = torch.randn(20, 3, 7, generator=generator, dtype=torch.float64)
    rates = [0.01, 0.02, 0.05] if per_model_rates else [0.01] * 3
    ours, rule = start.clone(), OPTIMIZERS[name](weight_decay)
    lr = torch.tensor(rates, dtype=torch.float64)[:, None] if per_model_rates else 0.01
    for gradient in gradients:
        rule.step(ours, gradient.clone(), lr)
    for row, rate in enumerate(rates):
        theirs = start[row].clone()
        optimizer = TORCH_OPTIMIZERS[name]([theirs], lr=rate, weight_decay=weight_decay)
        for gradient in gradients:
            theirs.grad = gradient[row].clone()
            optimizer.step()
        torch.testing.assert_close(ours[row], theirs, rtol=1e-9, atol=1e-9)


def test_adams_moments_do_not_fade_into_denormal_numbers():
    """A gradient that vanishes for good, as a unit's that never fires: torch's weights, no denormals."""
    ours = torch.linspace(-1, 1, 7)[None].clone()
    theirs = ours[0].clone()
    rule, reference = OPTIMIZERS["adam"](), torch.optim.Adam([theirs], lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for step in range(1500):
        gradient = torch.randn(7, generator=generator) if step < 3 else torch.zeros(7)
        rule.step(ours, gradient[None].clone(), 0.01)
        theirs.grad = gradient
        reference.step()
    torch.testing.assert_close(ours[0], theirs)
    smallest = torch.finfo(torch.float32).tiny
    assert ((rule.first == 0) | (rule.first.abs() >= smallest)).all()
    assert (reference.state[theirs]["exp_avg"].abs() < smallest).all()  # what torch's moment fades into
    assert (reference.state[theirs]["exp_avg"] != 0).any()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [7, 100])
def test_training_is_the_plain_loop(dataset, tmp_path, name, batch_size):
    trained = train(dataset, tmp_path, optimizer=name, batch_size=batch_size, weight_decay=0.01)
    for found in trained:
        expected = reference_training(
            dataset, found.value, 3, 6, batch_size,
            lambda p: TORCH_OPTIMIZERS[name](p, lr=0.01, weight_decay=0.01),
        )  # fmt: skip
        torch.testing.assert_close(weights(found), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_take_the_rate_to_zero(dataset, tmp_path, schedule):
    assert SCHEDULES[schedule](0.0) == 1 and SCHEDULES[schedule](1.0) == 0
    assert SCHEDULES[schedule](0.5) == pytest.approx(0.5)

    def step(model, optimizer, x, y, progress):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * SCHEDULES[schedule](progress)
        optimizer.zero_grad()
        PROBLEM.loss(model(x), y).backward()
        optimizer.step()

    for found in train(dataset, tmp_path, lr_schedule=schedule):
        adam = lambda p: torch.optim.Adam(p, lr=0.01)  # noqa: E731
        expected = reference_training(dataset, found.value, 3, 6, 8, adam, step)
        torch.testing.assert_close(weights(found), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_sam_is_its_two_passes(dataset, tmp_path, adaptive, weight_decay, optimizer):
    rho = 0.3

    def step(model, optimizer, x, y, progress):
        """Climb to the worst point of the ball, take the gradient there, come back, descend."""
        optimizer.zero_grad()
        PROBLEM.loss(model(x), y).backward()
        before = [p.detach().clone() for p in model.parameters()]
        units = [p.abs() + ASAM_ETA if adaptive else torch.ones_like(p) for p in before]
        scaled = [u * p.grad for u, p in zip(units, model.parameters(), strict=True)]
        norm = sum((s**2).sum() for s in scaled) ** 0.5
        with torch.no_grad():
            for p, u, s in zip(model.parameters(), units, scaled, strict=True):
                p.add_(rho * u * s / norm)
        optimizer.zero_grad()
        PROBLEM.loss(model(x), y).backward()
        with torch.no_grad():
            for p, b in zip(model.parameters(), before, strict=True):
                p.copy_(b)
        optimizer.step()

    settings = {"optimizer": optimizer, "weight_decay": weight_decay, "learning_rate": 0.05}
    for joint in (False, True):
        trained = train(
            dataset, tmp_path / str(joint), sam_rho=rho, sam_adaptive=adaptive, joint=joint, **settings
        )
        for found in trained:
            expected = reference_training(
                dataset, found.value, 3, 6, 8,
                lambda p: TORCH_OPTIMIZERS[optimizer](p, lr=0.05, weight_decay=weight_decay), step,
            )  # fmt: skip
            torch.testing.assert_close(weights(found), expected, rtol=1e-8, atol=1e-8)
    plain = train(dataset, tmp_path / "plain", **settings)
    assert (weights(plain[0]) - weights(trained[0])).abs().max() > 1e-4


def test_sam_steps_have_their_radius():
    generator = torch.Generator().manual_seed(0)
    p, g = torch.randn(2, 4, 9, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(sam_ascent(p, g, 0.7, False).norm(dim=1), torch.full((4,), 0.7).double())
    step = sam_ascent(p, g, 0.7, True) / (p.abs() + ASAM_ETA)
    torch.testing.assert_close(step.norm(dim=1), torch.full((4,), 0.7).double())
    assert torch.equal(sam_ascent(p, torch.zeros_like(g), 0.7, False), torch.zeros_like(p))


# ---- side by side


@pytest.mark.parametrize("model_class", ["MLP", "TanhNet"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 100},
        {"batch_size": 1},
        {"optimizer": "sgd", "lr_schedule": "cosine", "learning_rate": 0.2},
        {"target_train_loss": 0.9, "learning_rate": 0.05, "epochs": 30},
    ],
)
def test_models_trained_together_are_those_trained_alone(dataset, tmp_path, settings, model_class):
    model = {"model_class": model_class}
    alone = train(dataset, tmp_path / "alone", joint=False, model=model, **settings)
    together = train(dataset, tmp_path / "together", joint=True, model=model, **settings)
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(weights(a), weights(b), rtol=1e-9, atol=1e-9)
        for curve in ("train_loss", "test_loss", "train_accs", "test_accs"):
            assert getattr(a, curve) == pytest.approx(getattr(b, curve), rel=1e-9, abs=1e-12)
    if "target_train_loss" in settings:
        assert len({len(m.train_loss) for m in alone}) > 1  # they ended at different epochs
        assert all(m.train_loss[-1] <= 0.9 or len(m.train_loss) == 30 for m in alone)


def test_batch_sizes_trained_together_are_those_trained_alone(dataset, tmp_path):
    settings = {"vary": "batch_size", "values": [3, 8, 10]}
    alone = train(dataset, tmp_path / "alone", joint=False, **settings)
    together = train(dataset, tmp_path / "together", joint=True, **settings)
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(weights(a), weights(b), rtol=1e-9, atol=1e-9)
    assert not torch.equal(weights(alone[0]), weights(alone[1]))


@pytest.mark.parametrize("joint", [True, False])
def test_runs_trained_together_are_those_trained_alone(tmp_path, joint):
    plan = Plan(
        PROBLEM,
        {"hidden_dims": [7]},
        TrainSettings(epochs=5, batch_size=8, learning_rate=0.01, target_train_loss=None),
    )
    runs = []
    for seed in range(3):
        data = make_dataset(PROBLEM, base_data_size=10, dataset_quantities=[0, 5 + seed], data_seed=seed)
        runs.append(Run(data, seed, tmp_path / f"run_{seed}"))
    together = train_runs(plan, runs, joint=joint)
    for run, models in zip(runs, together, strict=True):
        alone = train(
            run.dataset, tmp_path / "alone" / str(run.model_seed),
            model={"hidden_dims": [7]}, model_seed=run.model_seed, epochs=5,
        )  # fmt: skip
        for a, b in zip(alone, models, strict=True):
            torch.testing.assert_close(weights(a), weights(b), rtol=1e-9, atol=1e-9)
            assert a.settings == b.settings and a.test_loss == pytest.approx(b.test_loss, rel=1e-9)
        assert torch.equal(storage.load_dataset(run.folder).x_additional, run.dataset.x_additional)


def test_runs_trained_together_share_their_test_samples(tmp_path):
    plan = Plan(PROBLEM, {}, TrainSettings(epochs=5, batch_size=8))
    sizes = (150, 200)
    runs = [
        Run(
            make_dataset(PROBLEM, base_data_size=10, dataset_quantities=[0], data_seed=0, test_size=k),
            0,
            tmp_path,
        )
        for k in sizes
    ]
    with pytest.raises(InputError, match="same test samples"):
        train_runs(plan, runs)


def test_auto_stacks_small_models_only(dataset):
    def one(size, batch_size):
        return Trainee("", PROBLEM.build_model({}, 0), size, batch_size, [1], 1, 0)

    n = sum(p.numel() for p in PROBLEM.build_model({}, 0).parameters())
    large = JOINT_LIMIT // n + 1
    every = [one(10, 5), one(10 * large, large), one(20, 5), one(10, 10 * large)]
    assert joint_groups(every, "auto") == [[every[0], every[2], every[3]], [every[1]]]
    assert joint_groups(every, True) == [every]
    assert joint_groups(every, False) == [[own] for own in every]


# ---- determinism, resuming


def test_the_same_settings_give_the_same_weights(dataset, tmp_path):
    state = torch.random.get_rng_state()
    one, two = (train(dataset, tmp_path / name) for name in "ab")
    assert torch.equal(state, torch.random.get_rng_state())
    other = train(dataset, tmp_path / "c", model_seed=4)
    for a, b, c in zip(one, two, other, strict=True):
        assert torch.equal(weights(a), weights(b)) and a.train_loss == b.train_loss
        assert not torch.equal(weights(a), weights(c))


@pytest.mark.parametrize("size, batch_size", [(10, 3), (10, 10), (60_000, 1000)])
def test_every_epoch_meets_every_sample_once(size, batch_size):
    orders = list(
        itertools.islice(epoch_orders(Trainee("", nn.Linear(1, 1), size, batch_size, [1], 1, 0)), 3)
    )
    assert all(torch.equal(order.sort().values, torch.arange(size)) for order in orders)
    assert torch.equal(orders[0], orders[1]) == (batch_size == size)


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("model_*.pt")}


def test_models_that_are_there_are_not_trained_again(dataset, tmp_path):
    first = train(dataset, tmp_path)
    before = stamps(tmp_path)
    assert set(before) == {f"model_additional_{level}.pt" for level in (0, 5, 13, 60)}
    (tmp_path / "model_additional_13.pt").unlink()
    second = train(dataset, tmp_path)
    after = stamps(tmp_path)
    assert {n for n in before if before[n] == after[n]} == set(before) - {"model_additional_13.pt"}
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(weights(a), weights(b), rtol=1e-9, atol=1e-9)
        assert a.settings == b.settings and a.value == b.value


@pytest.mark.parametrize(
    "change", [{"learning_rate": 0.02}, {"model_seed": 5}, {"model": {"hidden_dims": [6, 4]}}, {"epochs": 7}]
)
def test_other_settings_train_anew(dataset, tmp_path, change):
    train(dataset, tmp_path)
    before = stamps(tmp_path)
    train(dataset, tmp_path, **change)
    after = stamps(tmp_path)
    assert all(before[name] != after[name] for name in before)


def test_other_samples_train_only_their_models_anew(dataset, tmp_path):
    train(dataset, tmp_path)
    before = stamps(tmp_path)
    dataset.x_additional[20] += 1  # beyond level 13
    train(dataset, tmp_path)
    after = stamps(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"model_additional_60.pt"}
    assert torch.equal(storage.load_dataset(tmp_path).x_additional, dataset.x_additional)


def test_an_interrupted_training_goes_on_at_the_first_missing_model(dataset, tmp_path, monkeypatch):
    save, saved = storage.save_model, []

    def interrupted(folder, trained):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(trained.value)
        return save(folder, trained)

    monkeypatch.setattr(storage, "save_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, tmp_path, joint=False)
    assert saved == [0, 5]
    monkeypatch.setattr(storage, "save_model", save)
    before = stamps(tmp_path)
    resumed = train(dataset, tmp_path, joint=False)
    assert all(stamps(tmp_path)[name] == stamp for name, stamp in before.items())
    for a, b in zip(resumed, train(dataset, tmp_path / "through", joint=False), strict=True):
        assert torch.equal(weights(a), weights(b))


def test_a_damaged_model_is_trained_anew_with_a_warning(dataset, tmp_path):
    expected = train(dataset, tmp_path)
    (tmp_path / "model_additional_5.pt").write_bytes(b"half a file")
    with pytest.warns(UserWarning, match=r"model_additional_5.pt.*trained anew"):
        found = train(dataset, tmp_path)
    torch.testing.assert_close(weights(found[1]), weights(expected[1]), rtol=1e-9, atol=1e-9)


def test_models_of_another_training_are_pointed_out(dataset, tmp_path):
    train(dataset, tmp_path)
    fewer = make_dataset(PROBLEM, base_data_size=10, dataset_quantities=[0, 13], data_seed=1)
    with pytest.warns(UserWarning, match=r"model_additional_5.pt, model_additional_60.pt are no models"):
        train(fewer, tmp_path)


def test_the_folder_holds_all_that_rebuilds_the_models(dataset, tmp_path):
    trained = train(dataset, tmp_path)
    for found in trained:
        path = storage.model_path(tmp_path, "additional", found.value)
        loaded = storage.load_model(path, PROBLEM)
        assert torch.equal(weights(found), weights(loaded))
        assert loaded.model_kwargs == {"input_dim": 3, "hidden_dims": [6, 5], "output_dim": 3}
        assert loaded.settings["batch_size"] == 8 and loaded.level == found.value


@pytest.mark.parametrize("joint", [True, False])
def test_the_bar_counts_samples_and_shows_loss_and_accuracy(dataset, tmp_path, monkeypatch, joint):
    bars = []

    class Watched(Bar):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, file=io.StringIO())
            self.words = []
            bars.append(self)

        def set_postfix_str(self, s="", refresh=True):
            self.words.append(s)

    monkeypatch.setattr(runs, "Bar", Watched)
    train(dataset, tmp_path, joint=joint)
    (bar,) = bars
    assert bar.total == bar.n == 6 * sum(10 + level for level in dataset.dataset_quantities)
    assert re.fullmatch(r"additional \d+: loss \d\S*, accuracy [01]\.\d{3}", bar.words[0])
    (tmp_path / "model_additional_13.pt").unlink()
    train(dataset, tmp_path, joint=joint)
    assert bars[1].total == bars[1].n == 6 * 23  # what is still missing


# ---- curves


def test_the_last_train_and_test_values_are_those_of_the_weights(dataset, tmp_path):
    for found in train(dataset, tmp_path):
        assert len(found.train_loss) == len(found.test_accs) == 6
        for (x, y), loss, accs in (
            (dataset.upto(found.value), found.train_loss, found.train_accs),
            ((dataset.x_test, dataset.y_test), found.test_loss, found.test_accs),
        ):
            outputs = found.model(x)
            assert loss[-1] == pytest.approx(PROBLEM.loss(outputs, y).item(), rel=1e-12)
            assert accs[-1] == pytest.approx(PROBLEM.correct(outputs, y).mean().item(), rel=1e-12)


def test_the_running_train_loss_is_the_mean_over_the_epochs_batches(dataset, tmp_path):
    """With a learning rate of almost zero every epoch's running loss is the loss itself."""
    for found in train(dataset, tmp_path, learning_rate=1e-12, optimizer="sgd"):
        assert found.train_loss == pytest.approx([found.train_loss[-1]] * 6, rel=1e-9)
        assert found.train_accs == pytest.approx([found.train_accs[-1]] * 6, rel=1e-12)


def test_large_sets_are_evaluated_in_parts(dataset, tmp_path, monkeypatch):
    whole = train(dataset, tmp_path / "whole")
    monkeypatch.setattr(fitting, "EVALUATION_BATCH", 7)
    parts = train(dataset, tmp_path / "parts")
    for a, b in zip(whole, parts, strict=True):
        assert a.test_loss == pytest.approx(b.test_loss, rel=1e-12) and a.test_accs == b.test_accs


def test_test_curves_cost_little_and_have_a_hundred_points():
    interval = fitting.test_interval
    assert interval(500, 60_000, 10_000) == 1
    assert interval(500, 60, 10_000) == 5
    assert interval(50, 60, 10_000) == 1
    assert interval(10_000, 60_000, 10_000) == 1
    for epochs, train_size, test_size in itertools.product(
        (10, 500, 3000), (60, 2000, 60_000), (100, 10_000)
    ):
        k = interval(epochs, train_size, test_size)
        assert k <= -(-epochs // 100)
        assert k == 1 or test_size / k >= 0.3 * train_size * (k - 1) / k


# ---- what varies


def test_lengths_are_snapshots_of_one_training(dataset, tmp_path):
    lengths = train(dataset, tmp_path / "lengths", vary="epochs", values=[2, 3, 6])
    assert [len(m.train_loss) for m in lengths] == [2, 3, 6]
    assert [(m.key, m.value, m.level) for m in lengths] == [("epochs", v, 0) for v in (2, 3, 6)]
    assert (tmp_path / "lengths" / "model_epochs_3.pt").exists()
    for found in lengths:
        alone = train(dataset, tmp_path / str(found.value), epochs=found.value)[0]
        torch.testing.assert_close(weights(found), weights(alone), rtol=1e-9, atol=1e-9)
        assert found.train_loss == pytest.approx(alone.train_loss, rel=1e-9)


def test_lengths_resume_and_extend(dataset, tmp_path):
    train(dataset, tmp_path, vary="epochs", values=[2, 6])
    before = stamps(tmp_path)
    train(dataset, tmp_path, vary="epochs", values=[2, 4, 6])
    assert all(stamps(tmp_path)[name] == stamp for name, stamp in before.items())
    assert (tmp_path / "model_epochs_4.pt").exists()


def test_a_schedule_spans_the_whole_training_not_a_snapshot(dataset, tmp_path):
    found = train(dataset, tmp_path / "a", vary="epochs", values=[2, 4], epochs=8, lr_schedule="linear")
    longer = train(dataset, tmp_path / "b", vary="epochs", values=[2, 4], epochs=4, lr_schedule="linear")
    assert found[0].settings["schedule_epochs"] == 8
    assert not torch.equal(weights(found[0]), weights(longer[0]))


def test_a_target_ends_the_training(dataset, tmp_path):
    found = train(dataset, tmp_path, target_train_loss=0.5, epochs=400, learning_rate=0.02)
    for model in found:
        assert len(model.train_loss) < 400 and model.train_loss[-1] <= 0.5
        assert min(model.train_loss[:-1]) > 0.4


# ---- bad input


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"optimizer": "adma"}, "optimizer: 'adma' must be one of sgd, adam, adamw .did you mean .adam."),
        ({"lr_schedule": "cosin"}, 'lr_schedule.*cosin.*did you mean "cosine"'),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay: -1.0 must be 0 or more"),
        ({"epochs": 0}, "epochs: 0 must be 1 or more"),
        ({"batch_size": 2.5}, "batch_size: 2.5 must be a whole number"),
        ({"target_train_loss": 0.0}, "target_train_loss: 0.0 must be above 0"),
        ({"sam_rho": -0.1}, "sam_rho"),
        ({"epoch": 3}, 'epoch: unknown argument .did you mean "epochs"'),
        ({"sam_adaptive": True}, "sam_adaptive: needs a sam_rho above 0"),
        ({"vary": "batchsize", "values": [1]}, 'vary: .batchsize. .*did you mean "batch_size"'),
        ({"vary": "epochs"}, "values"),
        ({"vary": "epochs", "values": [3, 2]}, "values: .*each value above the last"),
        ({"vary": "epochs", "values": [3, 7]}, "values: 7 is beyond the end of the training, epochs 6"),
        ({"vary": "epochs", "values": [3], "target_train_loss": 0.1}, "target_train_loss"),
        ({"values": [3]}, "vary and values: give both"),
        ({"joint": "yes"}, 'joint .yes.: must be true, false or "auto"'),
        ({"device": "gpu"}, 'device "gpu"'),
        ({"model": {"model_class": "MPL"}}, 'model_class "MPL"'),
        ({"model": {"widths": [3]}}, 'MLP takes no "widths"'),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(dataset, tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        train(dataset, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_a_diverging_training_says_which_and_what_to_do(dataset, tmp_path):
    with (
        warnings.catch_warnings(),
        pytest.raises(InputError, match=r"additional \d+: the training loss"),
    ):
        warnings.simplefilter("ignore")
        train(dataset, tmp_path, optimizer="sgd", learning_rate=1e200, joint=False)
