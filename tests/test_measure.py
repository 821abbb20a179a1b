"""The front door: any network, in memory, against a float64 bisection of its own and against the workflow."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from volume_lib import InputError, Volume, compare, measure, run_sweep, storage
from volume_lib.integration import Options
from volume_lib.parameters import moved_names
from volume_lib.problems.base import Problem
from volume_lib.problems.losses import LOSSES
from volume_lib.problems.networks import CNN, MLP
from volume_lib.records import Dataset, TrainedModel
from volume_lib.volume.radii import threshold_radii

N = 12


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def classes(number, *shape):
    return torch.randint(number, shape or (N,), generator=torch.Generator().manual_seed(1))


class ViT(nn.Module):
    """A class token, position embeddings, LayerScale: parameters without weight or bias in their names."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, 2)
        self.cls_token = nn.Parameter(0.1 * torch.randn(1, 1, 8))
        self.pos_embed = nn.Parameter(0.1 * torch.randn(1, 5, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.gamma = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = self.patches(x).flatten(2).mT
        h = torch.cat([self.cls_token.expand(len(h), -1, -1), h], 1) + self.pos_embed
        return self.head(self.gamma * self.block(h)[:, 0])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(7, 4), nn.LSTM(4, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0][:, -1])


class LoRA(nn.Module):
    """A frozen base, and two factors that move."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(5, 5).requires_grad_(False)
        self.lora_a, self.lora_b = nn.Parameter(torch.randn(5, 2)), nn.Parameter(torch.randn(2, 5))
        self.head = nn.Linear(5, 3).requires_grad_(False)

    def forward(self, x):
        return self.head(torch.relu(self.base(x) + x @ self.lora_a @ self.lora_b))


def resnet():
    from torchvision.models import resnet18

    return resnet18(num_classes=10)


CASES = {
    "mlp": (lambda: MLP(5, [6], 3), normal(N, 5), classes(3), "cross_entropy"),
    "cnn": (lambda: CNN(1, 4, [3], 6, 3), normal(N, 1, 4, 4), classes(3), "cross_entropy"),
    "resnet": (resnet, normal(1, 3, 16, 16), classes(10, 1), "cross_entropy"),
    "vit": (ViT, normal(N, 1, 4, 4), classes(3), "cross_entropy"),
    "lstm": (Recurrent, classes(7, N, 5), classes(3), "cross_entropy"),
    "lora": (LoRA, normal(N, 5), classes(3), "cross_entropy"),
    "regression": (lambda: MLP(5, [6], 2), normal(N, 5), normal(N, 2), "mse"),
    "one output": (lambda: MLP(5, [6], 1), normal(N, 5), normal(N), "mse"),
    "labels": (lambda: MLP(5, [6], 4), normal(N, 5), classes(2, N, 4), "bce"),
    "kl": (lambda: MLP(5, [6], 3), normal(N, 5), None, "kl"),
    "pixels": (
        lambda: nn.Conv2d(2, 3, 3, padding=1),
        normal(N, 2, 4, 4),
        classes(3, N, 4, 4),
        "cross_entropy",
    ),
}


def build(case):
    torch.manual_seed(0)
    return CASES[case][0]()


PLAIN = {  # the losses as torch has them, means over samples and whatever belongs to one
    "cross_entropy": lambda outputs, y, start: F.cross_entropy(outputs, y),
    "mse": lambda outputs, y, start: F.mse_loss(outputs.reshape(y.shape), y.double()),
    "bce": lambda outputs, y, start: F.binary_cross_entropy_with_logits(outputs, y.double()),
    "kl": lambda outputs, y, start: F.kl_div(
        outputs.log_softmax(-1).flatten(0, -2), start.log_softmax(-1).flatten(0, -2),
        log_target=True, reduction="batchmean",
    ),
}  # fmt: skip


def plain_ray(model, run, loss, seed, names=None):
    """``c → loss`` in float64 along the filter-scaled ray of a seed, from the definitions alone."""
    double = copy.deepcopy(model).double().eval()
    parameters = {name: p.detach() for name, p in double.named_parameters()}
    names = [n for n, p in model.named_parameters() if p.requires_grad] if names is None else names
    size = sum(parameters[name].numel() for name in names)
    g = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    moves, start = {}, 0
    for name in names:
        value = parameters[name]
        part = g[start : start + value.numel()].double().view(value.shape)
        start += value.numel()
        if value.dim() > 1:
            rows = value.flatten(1).norm(dim=1)
            part = part * torch.where(rows > 0, rows, 1.0).float().double().view(-1, *[1] * (value.dim() - 1))
        moves[name] = part
    with torch.no_grad():
        first = run(double, {})

    @torch.no_grad()
    def at(c):
        return loss(run(double, {name: parameters[name] + c * moves[name] for name in names}), first).item()

    return at, g.double().norm().item()


def bisected(at, threshold, near, ratio=1.15, rungs=8):
    """The first crossing by a plain scan up from far below, then bisection to 1e-8."""
    low = near / ratio**rungs
    assert not at(low) > threshold
    high = low * ratio
    while not at(high) > threshold:
        low, high = high, high * ratio
    while high / low - 1 > 1e-8:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if at(middle) > threshold else (middle, high)
    return high


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) if c == "resnet" else c for c in CASES]
)
def test_radii_are_those_of_a_float64_bisection_and_of_the_workflow(case, tmp_path):
    _, x, y, loss = CASES[case]
    model, count = build(case), 1 if case == "resnet" else 3
    before = copy.deepcopy(model.state_dict())
    volume = measure(model, x, y, loss=loss, rise=0.1, directions=count, seed=5, progress=False)

    def run(double, moved):
        return functional_call(double, moved, (x.double() if x.is_floating_point() else x,))

    solved = volume.radii.radius / volume.radii.lower - 1 < 2e-6
    assert solved.any() and volume.num_censored == 0
    for i in np.flatnonzero(solved):
        at, norm = plain_ray(model, run, lambda o, first: PLAIN[loss](o, y, first), 5 + int(i))
        assert volume.threshold == pytest.approx(at(0) + 0.1, rel=1e-6)
        found = volume.radii.radius[i] / norm
        rungs = 2 if case == "resnet" else 8
        assert found == pytest.approx(bisected(at, at(0) + 0.1, found, rungs=rungs), rel=2e-6)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    np.testing.assert_allclose(workflow_radii(case, volume, count, tmp_path), volume.radii.radius, rtol=2e-6)
    assert (
        volume.n
        == sum(volume.moved.values())
        == sum(p.numel() for p in model.parameters() if p.requires_grad)
    )
    assert list(volume.frozen) == [n for n, p in model.named_parameters() if not p.requires_grad]


class OfCase(Problem):
    """The same loss and weights in the workflow's terms."""

    num_classes = 3

    def __init__(self, case):
        self.name, self.loss_of = case, LOSSES[CASES[case][3]]
        self.model_classes = {"Net": nn.Module}

    def load(self, root=None):
        raise NotImplementedError

    def default_model_kwargs(self, model_class):
        return {}

    def per_sample_loss(self, outputs, y):
        return self.loss_of(outputs, y)

    def correct(self, outputs, y):
        return torch.zeros_like(self.loss_of(outputs, y))


def workflow_radii(case, volume, count, folder):
    _, x, y, _ = CASES[case]
    model = build(case).eval()
    if y is None:
        with torch.no_grad():
            y = model(x)
    dataset = Dataset(x, y, x[:0], y[:0], x[:1], y[:1], [0], "data", case, 0)
    trained = TrainedModel(model, "Net", {}, 0, case, "data", 0, [0.0], [0.0], [0.0], [0.0])
    (path,) = run_sweep(
        OfCase(case), [trained], dataset, folder, num_directions=count, perturbation_seed=5,
        loss_thresholds=[volume.threshold], device="cpu",
    )  # fmt: skip
    return threshold_radii(storage.load_sweep(path), volume.threshold).radius


def test_a_causal_language_model_by_kl_and_by_tokens():
    transformers = pytest.importorskip("transformers", reason="the [test] extra has it")
    config = transformers.GPT2Config(vocab_size=17, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    ids = classes(17, 6, 5)
    mask = torch.ones_like(ids)
    mask[0, 3:] = 0
    assert "lm_head.weight" not in moved_names(model)  # tied to the token embedding, and moved once with it
    x = {"input_ids": ids, "attention_mask": mask}
    counted = mask.double()

    def run(double, moved):
        return functional_call(double, moved, (), x).logits

    def by_kl(outputs, first):
        p, q = first.log_softmax(-1), outputs.log_softmax(-1)
        each = (p.exp() * (p - q)).sum(-1)
        return ((each * counted).sum(1) / counted.sum(1)).mean()

    def by_tokens(outputs, first):
        return F.cross_entropy(outputs[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    def next_token(outputs, y):
        return LOSSES["cross_entropy"](outputs[:, :-1], y[:, 1:])

    for loss, y, mine in (("kl", None, by_kl), (next_token, ids, by_tokens)):
        volume = measure(model, x, y, loss=loss, rise=0.1, directions=2, progress=False)
        assert volume.n == sum(p.numel() for p in model.parameters())
        for i in range(2):
            at, norm = plain_ray(model, run, mine, i)
            found = volume.radii.radius[i] / norm
            assert found == pytest.approx(bisected(at, at(0) + 0.1, found), rel=3e-6)
    with pytest.raises(InputError, match=r"y: equals the inputs; .*y = x\[:, 1:\]"):
        measure(model, ids, ids, directions=1)


# ---- forms of input


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, left, right):
        return {"logits": self.a(left) * self.b(right)}


class Pairs(torch.utils.data.Dataset):
    def __init__(self, *parts):
        self.parts = parts

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, i):
        return tuple(part[i] for part in self.parts)


def radii(*args, **options):
    return measure(*args, threshold=3.0, directions=4, progress=False, **options).radii.radius


def test_every_form_of_the_same_samples_gives_the_same_radii(tmp_path):
    torch.manual_seed(0)
    model, left, right, y = TwoInputs(), normal(N, 3), normal(N, 2), classes(4)
    expected = radii(model, (left, right), y)
    forms = {
        "mapping": ({"right": right, "left": left}, y),
        "arrays": ((left.numpy(), right.numpy().astype(np.float64)), y.numpy().astype(np.uint8)),
        "data set": (Pairs(left, right, y), None),
        "tensor data set": (torch.utils.data.TensorDataset(left, right, y), None),
    }
    for name, (x, targets) in forms.items():
        np.testing.assert_allclose(radii(model, x, targets), expected, rtol=1e-6, err_msg=name)
    one = MLP(3, [4], 4)
    expected = radii(one, left, y)
    for kind in (np.float32, np.float64, ">f4"):
        file = np.memmap(tmp_path / "x", dtype=kind, mode="w+", shape=(N, 3))
        file[:] = left.numpy()
        if kind == ">f4":
            with pytest.raises(InputError, match="x: memmap of no numbers that torch knows"):
                radii(one, file, y)
        else:
            np.testing.assert_allclose(radii(one, file, y), expected, rtol=1e-6)
    tokens = classes(7, N, 5)
    file = np.memmap(tmp_path / "ids", dtype=np.uint16, mode="w+", shape=(N, 5))
    file[:] = tokens.numpy()
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3))
    np.testing.assert_allclose(radii(model, file, y % 3), radii(model, tokens, y % 3), rtol=1e-6)


def test_nested_landscapes_thresholds_and_accuracy_in_one_call_are_those_of_many():
    torch.manual_seed(0)
    model, x, y = MLP(5, [6], 3), normal(40, 5), classes(3, 40)
    options = {"directions": 6, "progress": False, "seed": 3}
    whole = measure(
        model, x, y, threshold=[2.0, 3.0], landscapes=[10, 40], acc_threshold=0.1, accuracy="auto", **options
    )
    assert (whole.threshold, whole.landscape, whole.criterion) == (2.0, 40, "loss") and len(whole.family) == 6
    for size in (10, 40):
        for threshold in (2.0, 3.0):
            part = whole.at(threshold=threshold, landscape=size)
            alone = measure(model, x[:size], y[:size], threshold=threshold, **options)
            np.testing.assert_allclose(part.radii.radius, alone.radii.radius, rtol=2e-6)
            assert part.log_volume == pytest.approx(alone.log_volume, abs=1e-3)
            with torch.no_grad():
                assert part.loss == pytest.approx(F.cross_entropy(model(x[:size]), y[:size]).item(), rel=1e-5)
        exact = whole.at(acc_threshold=0.1, landscape=size)
        assert exact.criterion == "accuracy" and exact.radii.radius.min() > 0
    rises = measure(model, x, y, rise=[1.0, 2.0], landscapes=[10, 40], **options)
    for size in (10, 40):
        part = rises.at(rise=2.0, landscape=size)
        assert part.threshold == pytest.approx(part.loss + 2.0, rel=1e-6)
        alone = measure(model, x[:size], y[:size], threshold=part.threshold, **options)
        np.testing.assert_allclose(part.radii.radius, alone.radii.radius, rtol=2e-6)
    with pytest.raises(
        InputError, match=r"at: threshold=9, landscape=40 was not measured; there are threshold=2"
    ):
        whole.at(threshold=9)


def test_the_choice_of_parameters_is_kept_and_said():
    torch.manual_seed(0)
    model, x, y = MLP(5, [6], 3), normal(N, 5), classes(3)
    volume = measure(model, x, y, parameters="layers.1.*", threshold=3, directions=2, progress=False)
    assert volume.moved == {"layers.1.weight": 18, "layers.1.bias": 3} and volume.n == 21
    assert volume.frozen == {"layers.0.weight": 30, "layers.0.bias": 6}
    told = str(volume)
    assert "21 numbers: layers.1.weight, layers.1.bias" in told and "36 numbers: layers.0.weight" in told
    at, norm = plain_ray(
        model, lambda m, moved: functional_call(m, moved, (x.double(),)),
        lambda o, first: F.cross_entropy(o, y), 1, ["layers.1.weight", "layers.1.bias"],
    )  # fmt: skip
    found = volume.radii.radius[1] / norm
    assert found == pytest.approx(bisected(at, 3, found), rel=2e-6)


def test_nothing_of_the_callers_changes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).train()
    model[0].weight.grad = torch.ones(6, 5)
    model[3].bias.requires_grad_(False)
    x, y = normal(N, 5).requires_grad_(), classes(3)
    before = copy.deepcopy(model.state_dict()), x.detach().clone(), y.clone()
    state = torch.random.get_rng_state()
    measure(model, x, y, threshold=5, directions=2, progress=False)
    assert model.training and all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == [True] * 5 + [False]
    assert torch.equal(model[0].weight.grad, torch.ones(6, 5)) and model[3].weight.grad is None
    assert all(torch.equal(before[0][name], value) for name, value in model.state_dict().items())
    assert torch.equal(x, before[1]) and x.requires_grad and x.grad is None and torch.equal(y, before[2])
    assert torch.equal(state, torch.random.get_rng_state())


def test_half_precision_is_computed_in_float32_and_said():
    torch.manual_seed(0)
    model, x, y = MLP(5, [6], 3).bfloat16(), normal(N, 5), classes(3)
    volume = measure(model, x, y, threshold=3, directions=3, progress=False)
    same = measure(copy.deepcopy(model).float(), x, y, threshold=3, directions=3, progress=False)
    np.testing.assert_allclose(volume.radii.radius, same.radii.radius, rtol=1e-6)
    assert volume.notes == ["computed in float32 from the stored bfloat16"] and volume.notes[0] in str(volume)
    assert model.layers[0].weight.dtype == torch.bfloat16


# ---- the record


@pytest.fixture(scope="module")
def some():
    torch.manual_seed(0)
    model, x, y = MLP(5, [6], 3), normal(N, 5), classes(3)
    options = {"threshold": [2.0, 3.0], "landscapes": [5, N], "acc_threshold": 0.1, "directions": 5}
    return measure(model, x, y, **options, progress=False)


def test_a_volume_comes_back_from_its_files(some, tmp_path):
    some.save(tmp_path / "v")
    files = sorted(
        str(path.relative_to(tmp_path / "v")) for path in (tmp_path / "v").rglob("*.*") if path.is_file()
    )
    assert "data_0/data_7.npz" in files and "data_7/loss_2/results.json" in files
    back = Volume.load(tmp_path / "v")
    assert str(back) == str(some) and len(back.family) == len(some.family)
    for a, b in zip(some.family, back.family, strict=True):
        assert str(a) == str(b) and (a.interval, a.log_volume, a.asked) == (b.interval, b.log_volume, b.asked)
        np.testing.assert_array_equal(a.radii.radius, b.radii.radius)
        np.testing.assert_array_equal(a.radii.seeds, b.radii.seeds)
    with pytest.raises(InputError, match="holds something already"):
        some.save(tmp_path / "v")
    some.save(tmp_path / "v", overwrite=True)
    with pytest.raises(InputError, match="no volumes here"):
        Volume.load(tmp_path)


def test_a_volume_shows_itself(some):
    html = some._repr_html_()
    assert html.startswith("<table>") and "effective directions" in html and "layers.0.weight" in html
    axes = some.plot()
    assert axes.get_xlabel() == "threshold radius"
    low, high = some.log_volume_interval
    assert low <= some.log_volume <= high or some.effective_directions < 5


def test_volumes_are_compared_in_words(some):
    other = copy.copy(some)
    other.log_exp_r_n, other.interval = some.log_exp_r_n + 1e4, tuple(v + 1e4 for v in some.interval)
    found = compare({"small": some, "large": other})
    assert "From the largest volume to the smallest: large, small." in str(found)
    assert [row[0] for row in found.table.rows] == ["small", "large"] and "<table>" in found._repr_html_()
    with pytest.raises(InputError, match="different threshold have no order"):
        compare([some, some.at(threshold=3.0)])


# ---- what cannot be


def test_mistakes_are_told_before_the_work():
    model, x, y = MLP(5, [6], 3), normal(N, 5), classes(3)

    def told(*args, **options):
        with pytest.raises(InputError) as error:
            measure(*args, **{"directions": 2, "progress": False, **options})
        return str(error.value)

    assert "model: must be a torch.nn.Module, not function" in told(measure, x, y)
    assert 'loss "cross": must be one of' in told(model, x, y, loss="cross")
    assert 'reduction="none"' in told(model, x, y, loss=F.cross_entropy)
    mean = lambda o, t: F.cross_entropy(o, t).expand(len(t))  # noqa: E731
    assert "each sample's must be its own" in told(model, x, y, loss=mean)
    assert "targets of the outputs' shape (2, 3) float32; got (2,)" in told(model, x, y, loss="mse")
    assert "y: 11 targets for 12 samples" in told(model, x, y[:-1])
    assert 'loss "mse" needs targets' in told(model, x, loss="mse")
    assert "takes no targets" in told(model, x, y, loss="kl")
    assert "x: the model does not run on it" in told(model, x[:, :4], y)
    assert "landscapes: must be numbers of samples that increase within 1..12" in told(
        model, x, y, landscapes=[20]
    )
    assert "directions must be a whole number" in told(model, x, y, directions=0)
    assert "threshold: must be positive numbers" in told(model, x, y, threshold=[0.1, 0.1])
    assert "threshold and rise: give one" in told(model, x, y, threshold=0.2, rise=0.1)
    assert "has no accuracy of its own" in told(model, x, normal(N, 3), loss="mse", acc_threshold=0.5)
    assert "DataLoader" in told(model, torch.utils.data.DataLoader(Pairs(x, y)), None)
    assert "no parameter requires a gradient" in told(MLP(5, [6], 3).requires_grad_(False), x, y)
    assert 'parameters "head"' in told(model, x, y, parameters="head")


def test_a_model_above_the_threshold_has_no_volume_and_the_way_out_is_said():
    with pytest.warns(UserWarning, match=r"own loss over 12 samples, .* above the threshold 0.1: .*rise="):
        volume = measure(MLP(5, [6], 3), normal(N, 5), classes(3), directions=2, progress=False)
    assert volume.log_volume == -math.inf and "no volume" in str(volume)


# ---- memory, and how it starts


def test_private_memory_keeps_to_the_budget_with_mapped_samples(tmp_path):
    """200 MB of mapped samples, a budget of 20 MB; 100 MB more for chunks and the float64 twin."""
    code = f"""
        import threading, time, numpy as np, torch
        from torch import nn
        from volume_lib import measure
        x = np.memmap({str(tmp_path / "x")!r}, dtype=np.float32, mode="w+", shape=(50_000, 1_000))
        for start in range(0, 50_000, 10_000):
            x[start : start + 10_000] = np.random.default_rng(start).standard_normal((10_000, 1_000))
        x = np.memmap({str(tmp_path / "x")!r}, dtype=np.float32, mode="r", shape=(50_000, 1_000))
        y = torch.zeros(50_000, dtype=torch.long)
        def private():
            lines = open("/proc/self/status").read().splitlines()
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))
        model = nn.Linear(1_000, 2)
        run = lambda n, **o: measure(model, x[:n], y[:n], threshold=[2.0], directions=2, progress=False, **o)
        run(100)
        start, most, done = private(), [0.0], []
        def watch():
            while not done:
                most[0] = max(most[0], private()); time.sleep(0.002)
        thread = threading.Thread(target=watch); thread.start()
        run(50_000, memory_budget=20e6, landscapes=[500, 50_000])
        x = {{"input": torch.from_numpy(x)}}
        measure(model, x, y, threshold=[2.0], directions=1, progress=False, memory_budget=20e6)
        done.append(1); thread.join()
        print(most[0] - start)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 20 + 100


def test_exports_are_complete_and_start_fast():
    import ast
    from pathlib import Path

    import volume_lib

    tree = ast.parse(Path(volume_lib.__file__).read_text(encoding="utf-8"))
    (typed,) = [node for node in tree.body if isinstance(node, ast.If)]
    for_checkers = {alias.name: node.module for node in typed.body for alias in node.names}
    assert sorted(for_checkers) == sorted(volume_lib.__all__)
    for name, module in for_checkers.items():
        assert getattr(volume_lib, name) is getattr(sys.modules[module], name)
    assert set(volume_lib.__all__) <= set(dir(volume_lib))
    code = "import time; t = time.perf_counter(); import volume_lib; print(time.perf_counter() - t)"
    run = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(3)]
    assert min(float(r.stdout) for r in run) < 0.3


def test_integrate_measures_the_same_region_and_files_keep_it(tmp_path):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    x = torch.ones(1, 1)
    volume = measure(model, x, x, loss="mse", threshold=4.0, directions=4, scaling="none", progress=False)
    mass = volume.integrate(reference=1.0, gradients=3000, progress=False)
    exact = math.log(0.5 * (math.erf(3 / math.sqrt(2)) + math.erf(1 / math.sqrt(2))))  # −1 < w < 3 of N(0, 1)
    assert volume.mass is mass and mass.log_mass == pytest.approx(exact, abs=0.15)
    assert "log mass" in str(volume)
    volume.save(tmp_path)
    back = Volume.load(tmp_path)
    assert replace(back.mass, state=None) == replace(mass, state=None) and str(back) == str(volume)
    path = tmp_path / "data_0/loss_4/mass.json"
    assert storage.load_masses(path)["log_mass_values"] == [mass.log_mass]
    _every_entry_of_its_record_is_checked(path)
    volume.mass = None
    volume.save(tmp_path, overwrite=True)
    assert Volume.load(tmp_path).mass is None


def test_an_integration_goes_on_from_files_with_the_same_model_and_samples(tmp_path):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    x, y = torch.ones(2, 1), torch.zeros(2, 1)
    options = {"threshold": 4.0, "directions": 4, "scaling": "none", "progress": False}
    effort = {"reference": 1.0, "chains": 2, "options": Options(first_moves=1), "progress": False}
    whole = measure(model, x, y, loss="mse", **options)
    first = whole.integrate(gradients=10, **effort)
    whole.save(tmp_path / "a")
    more = whole.integrate(gradients=first.gradients, resume=True, **effort)
    back = Volume.load(tmp_path / "a")
    with pytest.raises(InputError, match="hold neither model nor samples; give them again"):
        back.integrate(minutes=1)
    back.save(tmp_path / "b")  # with its chains
    back = Volume.load(tmp_path / "b")
    again = back.integrate(model, x, y, gradients=first.gradients, resume=True, **effort)
    assert again.gradients == more.gradients > first.gradients and again.log_mass == more.log_mass
    assert len(again.history) > len(first.history)
    other = nn.Linear(1, 1, bias=False)
    nn.init.ones_(other.weight)
    for wrong, told in (
        ((other, x, y), "model: its weight is not that of the model that was measured"),
        ((model, x, y + 1), "x, y, loss: the model's mean loss over the first 2 samples is 1, and 0 was"),
        ((model, x[:1], y[:1]), "x: 1 samples; the volume was measured over 2"),
    ):
        with pytest.raises(InputError, match=told):
            back.integrate(*wrong, minutes=1)
    for path in (tmp_path / "b").rglob("*.pt"):
        path.unlink()
    with pytest.raises(InputError, match=r"resume: .*where its chains were kept, is gone"):
        back.mass = replace(back.mass, state=tmp_path / "b/gone.pt")
        back.integrate(reference=1.0, gradients=10, resume=True)
    with pytest.raises(InputError, match="no integration whose chains were kept"):
        Volume.load(tmp_path / "b").integrate(model, x, y, gradients=10, resume=True)
    own = measure(model, x, y, loss=lambda out, y: (out - y).square().sum(1), **options)
    own.save(tmp_path / "c")
    with pytest.raises(InputError, match=r"loss: .*was a function; give it again"):
        Volume.load(tmp_path / "c").integrate(model, x, y, minutes=1)


def test_rays_that_are_long_cross_where_they_may():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    x, y = torch.ones(1, 1), torch.zeros(1, 1)  # loss w²: up to 4 for |w| ≤ 2, whatever the direction
    options = {"loss": "mse", "threshold": 4.0, "directions": 20, "scaling": "none", "progress": False}
    short = measure(model, x, y, **options, max_coefficient=3.0)
    assert 0 < short.num_censored < 20
    long = measure(model, x, y, **options, max_coefficient=1e6)
    assert long.radii.radius == pytest.approx(np.full(20, 2.0), rel=2e-6)
    with pytest.raises(InputError, match="max_coefficient"):
        measure(model, x, y, **options, max_coefficient=0.0)


def test_integrate_with_build_sets_rays_under_the_same_widths():
    def build():
        fresh = nn.Linear(1, 1, bias=False)
        nn.init.constant_(fresh.weight, 3.0)
        return fresh

    x, y = torch.ones(1, 1), torch.zeros(1, 1)
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    volume = measure(model, x, y, loss="mse", threshold=4.0, directions=4, scaling="none", progress=False)
    mass = volume.integrate(build=build, gradients=500, progress=False)
    exact = math.log(math.erf(2 / 3 / math.sqrt(2)))  # |w| ≤ 2 of N(0, 3²)
    assert mass.rays == pytest.approx(exact, abs=1e-5)


def _every_entry_of_its_record_is_checked(path):
    kept = path.read_text()
    whole = json.loads(kept)
    whole.pop("digest", None)  # as made by hand
    for key in whole["records"][0]:
        for gone in (False, True):
            record = whole["records"][0] | {key: {"odd": 1}}
            if gone:
                del record[key]
            path.write_text(json.dumps({**whole, "records": [record]}))
            with pytest.raises(InputError, match=rf"mass\.json: .*{key}"):
                storage.load_masses(path)
    for wrong in ([5], ["x"], [None], [[]]):
        path.write_text(json.dumps({**whole, "records": wrong}))
        with pytest.raises(InputError, match=r"mass\.json"):
            storage.load_masses(path)
    path.write_text(kept)


# --- what the numbers assume is asked before the first direction


class _Odd(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.layer = how, nn.Linear(3, 2)

    def forward(self, x):
        if self.how == "in place":
            x = x.sub_(0.1).add_(0.05)
        noise = torch.randn(len(x), 2) if self.how == "noise" else 0.0
        return self.layer(x) + noise


def test_a_loss_that_differs_from_call_to_call_is_refused():
    x, y = torch.randn(8, 3), torch.randint(0, 2, (8,))
    with pytest.raises(InputError, match="twice"):
        measure(_Odd("noise"), x, y, threshold=5.0, directions=2, progress=False)


def test_inputs_that_forward_changes_are_safe_and_it_is_said():
    x, y = torch.randn(8, 3), torch.randint(0, 2, (8,))
    kept, model, plain = x.clone(), _Odd("in place"), _Odd("")
    plain.load_state_dict(model.state_dict())
    found = measure(model, x, y, threshold=5.0, directions=4, progress=False)
    assert torch.equal(x, kept)
    right = measure(plain, kept - 0.05, y, threshold=5.0, directions=4, progress=False)
    assert found.log_volume == pytest.approx(right.log_volume, abs=1e-4)
    assert any("change" in note for note in found.notes)


def test_parameters_that_are_not_numbers_are_refused():
    model = _Odd("")
    with torch.no_grad():
        model.layer.weight[0, 0] = math.nan
    with pytest.raises(InputError, match=r"layer\.weight|NaN|not numbers"):
        measure(
            model, torch.randn(8, 3), torch.randint(0, 2, (8,)), threshold=5.0, directions=2, progress=False
        )


@pytest.mark.parametrize("where", [1, 70])  # among the few samples that are asked first, and beyond them
@pytest.mark.parametrize(
    "loss, wrong, named",
    [
        ("cross_entropy", 2, "classes 0 to 1"),
        ("cross_entropy", -1, "classes 0 to 1"),
        ("cross_entropy", [0.5, 1.0], "probabilities, whose sum is 1"),
        ("cross_entropy", [-0.5, 1.5], "probabilities"),
        ("cross_entropy", [math.nan, 1.0], "probabilities"),
        ("bce", [0.0, 2.0], "labels, 0 to 1"),
        ("bce", [0.0, -1.0], "labels, 0 to 1"),
        ("bce", [0.0, math.nan], "labels, 0 to 1"),
        ("mse", [0.0, math.inf], "finite numbers"),
        ("mse", [0.0, math.nan], "finite numbers"),
    ],
)
def test_a_target_that_the_loss_does_not_mean_is_named(loss, wrong, named, where):
    y = torch.zeros(80, dtype=torch.long) if isinstance(wrong, int) else torch.tensor([[0.0, 1.0]] * 80)
    y[where] = torch.as_tensor(wrong)
    with pytest.raises(InputError, match=rf"^y: sample {where}: {loss}.*takes {named}"):
        measure(_Odd(""), torch.randn(80, 3), y, loss=loss, threshold=5.0, directions=2, progress=False)


def test_targets_that_all_stand_for_none_are_refused():
    with pytest.raises(InputError, match="every target is -100"):
        measure(_Odd(""), torch.randn(8, 3), torch.full((8,), -100), directions=2, progress=False)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sample_that_is_no_number_is_named_wherever_it_is(value):
    x = torch.randn(80, 3)
    x[70, 1] = value
    with pytest.raises(InputError, match=r"loss of sample 70 is not a number"):
        measure(_Odd(""), x, torch.zeros(80).long(), threshold=5.0, directions=2, progress=False)


@pytest.mark.parametrize(
    "loss, named",
    [
        (
            lambda out, y: out["scores"].sum(1),
            r"loss: does not run on outputs \(2, 2\) float32 and targets \(2,\) int64",
        ),
        (lambda out, y: undefined_name, "loss: does not run.*NameError"),  # noqa: F821
        (lambda out, y: torch.complex(out, out).sum(1), "loss: must give real numbers"),
    ],
)
def test_a_loss_that_does_not_run_is_one_line(loss, named):
    with pytest.raises(InputError, match=named) as told:
        measure(_Odd(""), torch.randn(8, 3), torch.zeros(8).long(), loss=loss, directions=2, progress=False)
    assert "\n" not in str(told.value)


def test_complex_outputs_of_a_named_loss_are_one_line():
    class Complex(_Odd):
        def forward(self, x):
            return torch.complex(super().forward(x), x[:, :2])

    with pytest.raises(InputError, match=r"loss: does not run on outputs \(2, 2\) complex64"):
        measure(Complex(""), torch.randn(8, 3), torch.zeros(8).long(), directions=2, progress=False)
