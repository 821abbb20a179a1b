"""The preflight: what breaks an assumption is refused by name, or computed another way, right and said."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from volume_lib import storage
from volume_lib.abilities import abilities
from volume_lib.calls import undisturbed
from volume_lib.errors import InputError
from volume_lib.measuring.entry import measure
from volume_lib.parameters import flatten, place
from volume_lib.preflight import preflight
from volume_lib.problems.base import Problem
from volume_lib.rays import curvature
from volume_lib.rays.directions import draw, draw_batch
from volume_lib.rays.fast import FastRays
from volume_lib.rays.losses import PlainRays
from volume_lib.rays.scaling import compute_scale
from volume_lib.records import Data, Dataset, TrainedModel
from volume_lib.slices import plane_losses, random_plane
from volume_lib.sweep.run import run_sweep
from volume_lib.sweep.section import PerturbSettings
from volume_lib.sweep.settings import SweepSettings
from volume_lib.sweep.walk import walk

SIZE, CLASSES = 12, 3


class Flat(Problem):
    """Points of four numbers, three classes; the network is handed in."""

    name = "flat"
    num_classes = CLASSES
    model_classes = {"Net": nn.Module}  # noqa: RUF012

    def load(self, root=None):
        x = samples()
        return Data(x, labels(), x, labels())

    def default_model_kwargs(self, model_class):
        return {}


def samples(*shape: int) -> Tensor:
    return torch.randn(SIZE, *(shape or (4,)), generator=torch.Generator().manual_seed(0))


def labels() -> Tensor:
    return torch.arange(SIZE) % CLASSES


# ---- networks that break one assumption each, and what they should have been


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))

    def forward(self, x):
        return self.layers(x)


class InPlace(Plain):
    def forward(self, x):
        return self.layers(x.sub_(0.1))


class OutOfPlace(Plain):
    def forward(self, x):
        return self.layers(x - 0.1)


class InPlaceStem(Plain):
    """Declares a stem that changes what it is given."""

    stem_parameter_names = ("layers.0.weight", "layers.0.bias")

    def stem(self, x):
        return self.layers[0](x.sub_(0.1))

    def tail(self, h):
        return self.layers[2](torch.tanh(h))

    def forward(self, x):
        return self.tail(self.stem(x))


class Noisy(Plain):
    def forward(self, x):
        return self.layers(x + 1e-3 * torch.randn_like(x))


class NumpyNoise(Plain):
    def forward(self, x):
        return self.layers(x * float(1 + 1e-3 * np.random.rand()))


class RarelyNoisy(Plain):
    def forward(self, x):
        out = self.layers(x)
        return out * 2 if torch.rand(()) < 0.3 else out


class Drifting(Plain):
    """Not random, but never the same: it counts its calls."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.layers(x) * (1 + 1e-3 * self.calls)


class InPlaceInLargeBatches(Plain):
    def forward(self, x):
        return self.layers(x.sub_(0.1) if len(x) > 6 else x - 0.1)


class Counting(Plain):
    """Another output at every so many calls."""

    calls, every = 0, 7

    def forward(self, x):
        self.calls += 1
        return self.layers(x) * (1.2 if self.calls % self.every == 0 else 1)


class Turning(Counting):
    """Another network after so many calls, later than the preflight looks."""

    every = 70

    def forward(self, x):
        self.calls += 1
        return self.layers(x) * (1.2 if self.calls > self.every else 1)


class Ageing(Plain):
    """Each call is like the one before it, to rounding; fifty calls are not."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.layers(x) * (1 + 1e-6 * self.calls)


class SometimesInPlace(Turning):
    """Rarely changes its inputs, to what they were."""

    def forward(self, x):
        self.calls += 1
        return self.layers(x.mul_(1) if self.calls % self.every == 0 else x)


class AnothersStem(InPlaceStem):
    """Its stem is not what its forward begins with."""

    def stem(self, x):
        return self.layers[0](x)

    def forward(self, x):
        return self.tail(self.layers[0](x - 0.1))


class BatchStatistics(Plain):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x):
        return self.layers(self.norm(x))


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM):
        super().__init__()
        torch.manual_seed(0)
        self.cell = kind(2, 4, batch_first=True)
        self.out = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.out(self.cell(x.unflatten(1, (2, 2)))[0][:, -1])


class Gated(Recurrent):
    def __init__(self):
        super().__init__(nn.GRU)


class Routed(nn.Module):
    """Each sample goes through the expert that its router names."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.router = nn.Linear(4, 2)
        self.experts = nn.ModuleList(nn.Linear(4, CLASSES) for _ in range(2))

    def forward(self, x):
        chosen = self.router(x).argmax(1)
        out = x.new_zeros(len(x), CLASSES)
        for i, expert in enumerate(self.experts):
            if (chosen == i).any():
                out[chosen == i] = expert(x[chosen == i])
        return out


class Looping(Plain):
    """Control flow on values: halved until small."""

    def forward(self, x):
        h = self.layers(x)
        while h.abs().max().item() > 50:
            h = h / 2
        return h


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        return h * h

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


class OwnFunction(Plain):
    def forward(self, x):
        return self.layers[2](_Square.apply(self.layers[0](x)))


class SinglePrecisionConstant(Plain):
    def __init__(self):
        super().__init__()
        self.table = torch.eye(4)  # not a buffer: model.double() does not reach it

    def forward(self, x):
        return self.layers(x @ self.table)


class CastInside(Plain):
    def forward(self, x):
        return self.layers(x.float())


class Bytes(Plain):
    def forward(self, x):
        return self.layers(x.float() / 255)


ONE_AT_A_TIME = [Recurrent, Gated, Routed, Looping, OwnFunction]


class Weighted(Flat):
    weights = torch.tensor([1.0, 2.0, 3.0])

    def per_sample_loss(self, outputs, y):
        return F.cross_entropy(outputs, y, weight=self.weights, reduction="none")


# ---- tools


def ask(model, x=None, problem=None, **kwargs):
    problem = problem or Flat()
    x = samples() if x is None else x
    return preflight(model, x, labels(), loss=problem.per_sample_loss, accuracy=problem.correct, **kwargs)


def trained(model, value=0, loss=0.5):
    curves = {name: [loss] for name in ("train_loss", "test_loss", "train_accs", "test_accs")}
    return TrainedModel(model, "Net", {}, 0, "flat", "data", value, **curves, value=value)


def data(x=None) -> Dataset:
    x = samples() if x is None else x
    return Dataset(x[:8], labels()[:8], x[8:], labels()[8:], x, labels(), [0, 4], "data", "flat", 0)


def sweep(model, folder, x=None, problem=None, threshold=2.0, **kwargs):
    """Threshold radii (2 landscapes, D) and the paths of the files."""
    own = data(x)
    settings = {"num_directions": 2, "loss_thresholds": [threshold], "scaling": "none", **kwargs}
    paths = run_sweep(problem or Flat(), [trained(model, 4)], own, folder, **settings)
    radii = []
    for path in paths:
        rays = storage.load_sweep(path).wiggle_results
        radii.append([ray["coefficients"][np.argmax(ray["loss"] > threshold)] for ray in rays])
    return np.array(radii), paths


def bisected(model, x, problem=None, threshold=2.0, n_directions=2):
    """The same crossings by bisection of full passes in float64, after a dense scan for the first."""
    problem = problem or Flat()
    model = model.double()
    theta, found = flatten(model), []
    for size in (8, 12):
        row = []
        for seed in range(n_directions):
            direction = draw(seed, len(theta)).double()

            def above(c, direction=direction, size=size):
                with torch.no_grad():
                    place(model, theta + c * direction)
                    return problem.loss(model(x[:size].double().clone()), labels()[:size]).item() > threshold

            scan = np.geomspace(0.05, 100, 120)
            k = next(i for i, c in enumerate(scan) if above(c))
            lo, hi = scan[k - 1], scan[k]
            while hi / lo - 1 > 1e-9:
                lo, hi = (lo, m) if above(m := (lo + hi) / 2) else (m, hi)
            row.append(hi)
        found.append(row)
    place(model, theta)
    return np.array(found)


# ---- inputs


@pytest.mark.parametrize("kind", [InPlace, InPlaceStem])
def test_inputs_changed_in_place_are_the_callers_no_more(kind, tmp_path, capsys):
    x = samples()
    before = x.clone()
    report = ask(kind(), x)
    assert torch.equal(x, before)
    assert report.abilities.copies and "each call gets a copy" in report.answers["inputs after a call"]
    own = data(x)
    found, _ = sweep(kind(), tmp_path / "a", x)
    assert torch.equal(x, before) and torch.equal(own.x_test, before)
    assert "each call gets a copy" in capsys.readouterr().out
    right = bisected(OutOfPlace(), before)
    np.testing.assert_allclose(found, right, rtol=2e-6)
    plain, _ = sweep(OutOfPlace(), tmp_path / "b", x)
    np.testing.assert_allclose(found, plain, rtol=2e-6)
    grid = [
        sweep(k(), tmp_path / k.__name__, x, search="grid", max_coefficient=9.0)[0]
        for k in (kind, OutOfPlace)
    ]
    np.testing.assert_array_equal(*grid)


def test_inputs_changed_in_large_batches_only_are_the_callers_too(tmp_path, capsys):
    x = samples()
    before = x.clone()
    assert ask(InPlaceInLargeBatches(), x).abilities.copies
    found, _ = sweep(InPlaceInLargeBatches(), tmp_path, x)
    assert torch.equal(x, before) and "each call gets a copy" in capsys.readouterr().out
    np.testing.assert_allclose(found, bisected(OutOfPlace(), before), rtol=2e-6)


class OfTwo(nn.Module):
    """A network of two inputs; it changes the first."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, a, b):
        return self.network(a) + 0 * b[:, :1]


@pytest.mark.parametrize("kind", [InPlace, InPlaceInLargeBatches])
@pytest.mark.parametrize("several", [False, True])
def test_measured_inputs_are_the_callers_too(kind, several):
    x, other = samples(), torch.ones(SIZE, 2)
    before = x.clone()

    def volume(network):
        given = (OfTwo(network), (x, other)) if several else (network, x)
        return measure(*given, labels(), threshold=2.0, directions=3, progress=False)

    found = volume(kind())
    assert torch.equal(x, before)
    assert found.log_volume == pytest.approx(volume(OutOfPlace()).log_volume, rel=1e-6)
    assert any("each call gets a copy" in note for note in found.notes)


def test_a_slice_leaves_the_inputs_alone():
    x = samples()
    before = x.clone()
    values = [
        plane_losses(Flat(), k(), random_plane(k()), np.linspace(-1, 1, 3), np.zeros(1), x, labels())
        for k in (InPlace, OutOfPlace)
    ]
    assert torch.equal(x, before)
    np.testing.assert_allclose(*values, rtol=1e-6)


# ---- noise


@pytest.mark.parametrize("kind", [Noisy, NumpyNoise, RarelyNoisy, Drifting, Counting, Ageing])
def test_noise_is_refused_and_its_size_named(kind, tmp_path):
    with pytest.raises(
        InputError, match=r"the loss is not the same twice: it differs by [\d.e-]+ on one sample"
    ):
        ask(kind())
    with pytest.raises(InputError, match=r"additional 4: the loss is not the same twice"):
        sweep(kind(), tmp_path)
    assert not list(tmp_path.rglob("*.npz"))


LATE = [
    *((Turning, "the loss at (coefficient|the minimum)", search) for search in ("crossing", "grid")),
    *(
        (SometimesInPlace, "changes its inputs in place in some calls", search)
        for search in ("crossing", "grid")
    ),
    (AnothersStem, "its stem and tail are not its forward", "crossing"),  # the grid uses no stem
]


@pytest.mark.parametrize("kind, message, search", LATE)
def test_what_shows_only_after_many_calls_is_not_recorded(kind, message, search, tmp_path):
    with pytest.raises(InputError, match=message):
        sweep(kind(), tmp_path, num_directions=12, search=search)
    assert not list(tmp_path.rglob("*.npz"))  # neither files nor what a second try would go on from
    if search == "crossing":
        with pytest.raises(InputError, match=message):
            measure(kind(), samples(), labels(), threshold=2.0, directions=12, progress=False)


def test_losses_compared_again_cost_less_than_a_hundredth():
    """In samples through the network, of 500 directions."""
    compared, model = [], Plain()
    rays = FastRays(Flat(), model, samples(), labels(), (8, 12), torch.ones(flatten(model).numel()))
    settings = SweepSettings.of(PerturbSettings.checked(num_directions=500, loss_thresholds=[2.0]))
    original = rays.mean_losses
    rays.mean_losses = lambda *given: (compared.append(1), original(*given))[1]
    walk(rays, 256, settings)
    assert 5 <= len(compared) <= 10
    assert len(compared) * SIZE < 0.01 * rays.samples_evaluated


def test_dropout_in_eval_mode_is_no_noise():
    assert not ask(nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, CLASSES))).notes


def test_random_states_are_left_alone():
    models = Noisy(), NumpyNoise()
    state, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    for model in models:
        with pytest.raises(InputError):
            ask(model)
    assert torch.equal(state, torch.get_rng_state()) and (numpys == np.random.get_state()[1]).all()
    with undisturbed(seed=5):
        one = torch.rand(3), np.random.rand(3)
    with undisturbed(seed=5):
        two = torch.rand(3), np.random.rand(3)
    assert torch.equal(one[0], two[0]) and (one[1] == two[1]).all()


# ---- the loss


def mean(outputs, y):
    return F.cross_entropy(outputs, y)


def column(outputs, y):
    return F.cross_entropy(outputs, y, reduction="none")[:, None]


def as_float(outputs, y):
    return F.cross_entropy(outputs, y).item()


@pytest.mark.parametrize(
    "loss, shape", [(mean, r"\(\); is it a mean"), (column, r"\(4, 1\)"), (as_float, "float")]
)
def test_a_loss_of_another_shape_is_refused_by_name_and_shape(loss, shape, tmp_path):
    with pytest.raises(
        InputError, match=r"loss: must give one number for each sample, shape \(4,\).*" + shape
    ):
        preflight(Plain(), samples(), labels(), loss=loss)
    problem = Flat()
    problem.per_sample_loss = loss
    with pytest.raises(InputError, match=r"additional 4: loss: must give one number .*" + shape):
        sweep(Plain(), tmp_path, problem=problem, search="grid")


def test_an_accuracy_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"accuracy: must give one number for each sample"):
        preflight(
            Plain(), samples(), labels(), loss=Flat().per_sample_loss,
            accuracy=lambda outputs, y: (outputs.argmax(1) == y).float().mean(),
        )  # fmt: skip


def test_a_loss_that_depends_on_the_batch_is_refused():
    with pytest.raises(InputError, match="depends on the others in its batch"):
        ask(BatchStatistics())

    def broadcast(outputs, y):  # (N, 3) and (N,) of N = 4 would not even be told from right at N = 1
        return (outputs[:, :1] - y).square().mean(1)

    with pytest.raises(InputError, match="outputs and targets of one shape"):
        preflight(Plain(), samples(), labels().float(), loss=broadcast)


def test_nan_is_named():
    x = samples()
    x[2, 1] = torch.nan
    with pytest.raises(InputError, match=r"the loss is not a number .NaN., on sample 2"):
        ask(Plain(), x)
    model = Plain()
    model.layers[2].weight.data[0, 0] = torch.inf
    with pytest.raises(InputError, match=r"parameter layers.2.weight: holds NaN or infinity"):
        ask(model)


def test_inputs_that_do_not_fit_are_told_in_one_line():
    with pytest.raises(
        InputError, match=r"the network does not run on inputs \(4, 7\) float32: RuntimeError"
    ) as e:
        ask(Plain(), samples(7))
    assert "\n" not in str(e.value)


# ---- ways around


@pytest.mark.parametrize("kind", ONE_AT_A_TIME)
def test_what_vmap_cannot_do_goes_one_at_a_time(kind, tmp_path, capsys):
    assert not ask(kind()).abilities.together
    found, _ = sweep(kind(), tmp_path)
    assert "one at a time" in capsys.readouterr().out
    np.testing.assert_allclose(found, bisected(kind(), samples()), rtol=2e-6)


@pytest.mark.parametrize("kind", ONE_AT_A_TIME)
def test_one_at_a_time_is_the_plain_way(kind):
    model, x, y = kind(), samples(), labels()
    scale = compute_scale("filter", model)
    both = [rays(Flat(), model, x, y, [8, 12], scale) for rays in (FastRays, PlainRays)]
    rows, c = np.arange(4), np.array([0.0, 0.1, 0.3, 0.7])
    for rays in both:
        rays.load(draw_batch(range(4), len(scale)))
    for mine, plain in zip(both[0](rows, c, 1), both[1](rows, c, 1), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [OwnFunction, Routed])
def test_curvature_goes_one_at_a_time(kind, monkeypatch):
    for name, value in (("ROUNDS", 2), ("MAX_ROUNDS", 2), ("POINTS", 2), ("SAMPLES", 4)):
        monkeypatch.setattr(curvature, name, value)
    scale = compute_scale("curvature", kind(), Flat(), samples(), labels())
    assert scale.isfinite().all() and (scale > 0).all()
    assert scale.double().log().sum().item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    "model, problem, x",
    [
        (SinglePrecisionConstant(), Flat(), samples()),
        (CastInside(), Flat(), samples()),
        (Plain(), Weighted(), samples()),
        (Bytes(), Flat(), (samples() * 60 + 120).clamp(0, 255).to(torch.uint8)),
    ],
)
def test_what_does_not_run_in_float64_runs_in_float32(model, problem, x, tmp_path, capsys):
    report = ask(model, x, problem)
    assert not report.abilities.float64 and "float32 only" in report.answers["float64"]
    found, _ = sweep(model, tmp_path, x, problem, threshold=5.0)
    assert "float32 only" in capsys.readouterr().out
    assert not FastRays(problem, model, x, labels(), [8], compute_scale("none", model)).has_precise(0)
    grid = PlainRays(problem, model, x, labels(), [8, 12], compute_scale("none", model))
    grid.load(draw_batch(range(2), len(grid.theta)))
    for k in (0, 1):
        losses, _ = grid(np.arange(2), found[k], k)
        np.testing.assert_allclose(losses[:, k], 5.0, rtol=3e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_from_the_stored_weights(dtype, tmp_path, capsys):
    model = Plain().to(dtype)
    report = ask(model)
    name = str(dtype).removeprefix("torch.")
    assert report.answers["stored weights"] == f"computed in float32 from the stored {name}"
    found, paths = sweep(model, tmp_path)
    assert f"from the stored {name}" in capsys.readouterr().out
    np.testing.assert_allclose(found, bisected(Plain().to(dtype).float(), samples()), rtol=2e-6)
    stored = storage.load_sweep(paths[0]).state_dict
    assert all(value.dtype == np.float32 for value in stored.values())
    assert all(np.array_equal(stored[k], v.float().numpy()) for k, v in model.state_dict().items())
    assert next(model.parameters()).dtype == dtype  # the caller's model is as it was
    before = [path.stat().st_mtime_ns for path in paths]
    sweep(model, tmp_path)  # and is found again
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_inputs_of_another_precision_are_taken_to_the_networks(tmp_path):
    found, _ = sweep(Plain(), tmp_path / "a", samples().double())
    np.testing.assert_array_equal(found, sweep(Plain(), tmp_path / "b", samples())[0])


class Bowl(nn.Module):
    """Squared outputs: a loss that float32 resolves to its last digit only where it is not small beside 1."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, CLASSES, bias=False)

    def forward(self, x):
        return self.layer(x)


def kl_to_its_own(model):
    """The divergence of the outputs from those of the minimum itself: zero there, 1e-8 very near."""
    with torch.no_grad():
        own = model.double()(samples().double()).log_softmax(1)
    model.float()
    problem = Flat()
    problem.per_sample_loss = lambda outputs, y: (y.exp() * (y - outputs.log_softmax(1))).sum(1)
    problem.correct = lambda outputs, y: (outputs.argmax(1) == y.argmax(1)).to(outputs.dtype)
    return problem, own.float()


def test_a_threshold_near_rounding_is_computed_in_float64():
    model = Bowl()
    problem, targets = kl_to_its_own(model)
    many, own = samples().repeat(100, 1), targets.repeat(100, 1)  # too large a landscape for the usual twin
    rays = FastRays(problem, model, many, own, [1200], compute_scale("none", model), thresholds=[1e-8])
    assert rays.theta.dtype == torch.float64
    usual = FastRays(problem, model, many, own, [1200], compute_scale("none", model), thresholds=[0.1])
    assert usual.theta.dtype == torch.float32
    report = preflight(model, many, own, loss=problem.per_sample_loss, thresholds=[1e-8, 0.1])
    assert report.answers["thresholds and rounding"].startswith("1e-08 computed in float64")
    table = SinglePrecisionConstant()
    report = ask(table, thresholds=[1e-8])
    assert re.match(
        r"1e-08 near the rounding .* radii are uncertain by up to \d",
        report.answers["thresholds and rounding"],
    )


# ---- the minimum


def test_a_minimum_above_its_thresholds_is_told(tmp_path, capsys):
    report = ask(Plain(), thresholds=[0.1, 5.0])
    assert re.match(
        r"[\d.]+ is above the thresholds 0.1: no volume there", report.answers["loss at the minimum"]
    )
    assert report.notes
    sweep(Plain(), tmp_path, threshold=0.1)
    assert "additional 4: loss at the minimum: 1" in capsys.readouterr().out


def test_a_recorded_loss_is_compared():
    loss = Flat().loss(Plain()(samples()), labels()).item()
    assert ask(Plain(), recorded_loss=loss).answers["recorded and computed loss"] == "equal"
    other = ask(Plain(), recorded_loss=loss + 0.01)
    assert "the record is not of these weights" in other.notes[-1]


def test_the_record_has_one_line_for_each_question():
    report = ask(Plain(), thresholds=[5.0], moved=["layers.0.weight"], recorded_loss=1.0)
    assert len(str(report).splitlines()) == len(report.answers) == 12
    assert report.answers["parameters that move"] == "layers.0.weight"


def test_it_costs_little():
    """In samples through the network: fewer than a hundredth of what 500 directions take."""
    calls, model = [], Plain()
    model.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    ask(model)
    assert 0 < sum(calls) < 0.01 * 500 * 5 * SIZE


# ---- seeds and global state


@pytest.mark.parametrize(
    "wrong",
    [
        {"perturbation_seed": 2**63 - 2, "num_directions": 3},
        {"perturbation_seed": -1},
        {"perturbation_seed": 0.5},
        {"num_directions": 2.5},
        {"num_directions": True},
    ],
)
def test_seeds_of_directions_have_bounds(wrong):
    settings = {"num_directions": 3, "perturbation_seed": 0, "loss_thresholds": [0.1], "acc_threshold": None}
    settings |= {"search": "crossing", "scaling": "none", "max_coefficient": None, **wrong}
    with pytest.raises(InputError, match=next(reversed(wrong)) if len(wrong) == 1 else "perturbation_seed"):
        PerturbSettings.checked(**settings)
    fits = settings | {"perturbation_seed": 2**63 - 3, "num_directions": 3}
    assert SweepSettings.of(PerturbSettings.checked(**fits)).seeds[-1] == 2**63 - 1


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True])
def test_model_seeds_have_bounds(seed):
    with pytest.raises(InputError, match="model_seed"):
        Flat().build_model({}, seed)


def test_directions_and_networks_do_not_depend_on_torchs_defaults():
    from volume_lib.problems import get_problem
    from volume_lib.problems.splits import make_dataset

    def everything():
        roll = get_problem("swiss_roll")
        own = make_dataset(
            roll, base_data_size=5, dataset_quantities=[0, 3], dataset_type="noise", data_seed=0
        )
        return [
            draw(3, 7),
            draw_batch([3, 4], 7),
            flatten(roll.build_model({}, 0)),
            own.x_base_train,
            own.x_additional,
        ]

    expected = everything()
    torch.set_default_dtype(torch.float64)
    try:
        for value, right in zip(everything(), expected, strict=True):
            assert value.dtype == right.dtype and torch.equal(value, right)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_problems_file_does_not_change_torchs_defaults(tmp_path):
    from volume_lib.problems import get_problem

    (tmp_path / "mine.py").write_text(
        "import torch\ntorch.set_default_dtype(torch.float64)\n"
        "from volume_lib.problems.swiss_roll import SwissRoll\nclass Mine(SwissRoll):\n    pass\n"
    )
    get_problem("mine.py:Mine", tmp_path)
    assert torch.get_default_dtype() == torch.float32


def test_abilities_leave_the_network_as_it_was():
    model = Plain().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    abilities(model, samples(), labels(), Flat().per_sample_loss)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
