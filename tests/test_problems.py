"""Problems: their data, losses, labels, and how a name leads to one."""

import math
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from volume_lib import plots
from volume_lib.errors import InputError
from volume_lib.problems import data_root, get_problem, problem_names
from volume_lib.records import Data

MNIST_IS_HERE = (data_root() / "MNIST" / "raw" / "train-images-idx3-ubyte").exists()
needs_mnist = pytest.mark.skipif(not MNIST_IS_HERE, reason="MNIST is not in VOLUME_LIB_DATA")

MY_PROBLEM = """
import torch
from dataclasses import dataclass
from torch import nn
from volume_lib.problems import Problem
from volume_lib.records import Data

@dataclass
class Shape:
    width: int = 4

class MyNet(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 2)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))

class MyProblem(Problem):
    name = "mine"
    num_classes = 2
    model_classes = {"MyNet": MyNet}

    def load(self, root=None):
        x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
        y = (x.sum(1) > 0).long()
        return Data(x[:40], y[:40], x[40:], y[40:])

    def default_model_kwargs(self, model_class):
        return {"width": Shape().width}

class Unfinished(Problem):
    name = "unfinished"

class NoProblem:
    pass
"""


@pytest.fixture
def run_folder(tmp_path):
    """A run folder two levels below the folder of my_problem.py."""
    (tmp_path / "my_problem.py").write_text(MY_PROBLEM)
    folder = tmp_path / "model_0_data_0"
    folder.mkdir()
    return folder


# ---- names


def test_every_name_leads_to_its_problem():
    for name in problem_names():
        problem = get_problem(name)
        assert problem.name == name
        assert get_problem(problem) is problem
        assert problem.sample_kind in ("points", "images", "pairs", "sequences", "other")
        for model_class in problem.model_classes:
            model = problem.build_model({}, 0, model_class)
            names = [n for n, _ in model.named_parameters()]
            assert all("weight" in n or "bias" in n for n in names)


def test_an_unknown_name_gets_the_near_match():
    with pytest.raises(InputError, match=r'"mnits" is unknown \(did you mean "mnist"\?\).*swiss_roll'):
        get_problem("mnits")


def test_a_problem_of_ones_own_is_found_above_the_run(run_folder, monkeypatch):
    problem = get_problem("my_problem.py:MyProblem", run_folder)
    assert problem.name == "my_problem.py:MyProblem"  # what the run's files are to say
    data = problem.load()
    outputs = problem.build_model({}, 0)(data.x_train)
    assert outputs.shape == (40, 2) and problem.loss(outputs, data.y_train).isfinite()
    monkeypatch.chdir(run_folder)
    assert type(get_problem("my_problem.py:MyProblem")).__name__ == "MyProblem"


@pytest.mark.parametrize(
    "name, message",
    [
        ("no_such.py:MyProblem", "no no_such.py in .* or the folders above"),
        ("my_problem.py:Missing", "has no class Missing derived from Problem"),
        ("my_problem.py:NoProblem", "has no class NoProblem derived from Problem"),
        ("my_problem.py:Unfinished", "abstract"),
        ("my_problem:MyProblem", "is written my_problem.py:MyProblem"),
        ("../my_problem.py:MyProblem", "is written my_problem.py:MyProblem"),
        ("broken.py:MyProblem", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_wrong_problem_of_ones_own_is_explained(run_folder, name, message):
    (run_folder / "broken.py").write_text("1 / 0")
    with pytest.raises(InputError, match=message):
        get_problem(name, run_folder)


def test_the_nearest_file_wins(run_folder):
    (run_folder / "my_problem.py").write_text(MY_PROBLEM.replace("width: int = 4", "width: int = 9"))
    problem = get_problem("my_problem.py:MyProblem", run_folder)
    assert problem.build_model({}, 0).first.out_features == 9
    above = get_problem("my_problem.py:MyProblem", run_folder.parent)
    assert above.build_model({}, 0).first.out_features == 4


# ---- models


def test_the_seed_alone_decides_the_initial_parameters():
    problem = get_problem("swiss_roll")
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one = problem.build_model({}, 1)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(6)
    two, other = problem.build_model({}, 1), problem.build_model({}, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.layers[0].weight, other.layers[0].weight)


@pytest.mark.parametrize(
    "kwargs, model_class, message",
    [
        ({"hiden_dims": [3]}, None, 'MLP takes no "hiden_dims" .did you mean "hidden_dims"'),
        ({}, "MPL", 'model_class "MPL": swiss_roll has MLP .did you mean "MLP"'),
        ({"hidden_dims": [3, 0]}, None, "hidden_dims must be a list of positive whole numbers"),
        ({"hidden_dims": 3}, None, "hidden_dims must be a list of positive whole numbers"),
        ({"hidden_dims": ["3"]}, None, "hidden_dims must be a list of positive whole numbers"),
    ],
)
def test_wrong_model_arguments_are_named(kwargs, model_class, message):
    with pytest.raises(InputError, match=message):
        get_problem("swiss_roll").build_model(kwargs, 0, model_class)


# ---- losses and labels


def test_cross_entropy_and_accuracy_by_hand():
    problem = get_problem("mnist")
    outputs = torch.zeros(2, 10)
    outputs[1, 3] = math.log(9)
    y = torch.tensor([4, 3])
    torch.testing.assert_close(problem.per_sample_loss(outputs, y), torch.tensor([10.0, 2.0]).log())
    torch.testing.assert_close(problem.loss(outputs, y), torch.tensor(math.log(20) / 2))
    assert problem.correct(outputs, y)[1] == 1 and problem.correct(outputs, torch.tensor([4, 2]))[1] == 0


def test_binary_cross_entropy_and_accuracy_by_hand():
    problem = get_problem("swiss_roll")
    outputs = torch.tensor([[0.7], [-1.2], [0.4], [-2.0]])
    y = torch.tensor([1, 1, 0, 0])
    p = 1 / (1 + torch.exp(-outputs[:, 0]))
    by_hand = -torch.where(y == 1, p, 1 - p).log()
    torch.testing.assert_close(problem.per_sample_loss(outputs, y), by_hand)
    assert problem.correct(outputs, y).tolist() == [1, 0, 0, 1]


def test_squared_distance_by_hand():
    problem = get_problem("modular_arithmetic_mse")
    outputs = torch.zeros(3, 59)
    outputs[0, 3], outputs[1, 4], outputs[2, 4] = 1, 1, 3
    y = torch.tensor([4, 4, 5])
    assert problem.per_sample_loss(outputs, y).tolist() == [2, 0, 10]
    assert problem.correct(outputs, y).tolist() == [0, 1, 0]


def test_a_windows_loss_and_accuracy_are_means_over_its_characters():
    problem = get_problem("shakespeare")
    outputs = torch.zeros(1, 3, 65)
    outputs[0, 1, 7] = math.log(64)
    y = torch.tensor([[7, 7, 9]])
    expected = (math.log(65) + math.log(2) + math.log(65)) / 3
    torch.testing.assert_close(problem.per_sample_loss(outputs, y), torch.tensor([expected]))
    assert problem.correct(outputs, y).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "name, shape, targets",
    [
        ("swiss_roll", (3, 8, 1), (8,)),
        ("mnist", (3, 8, 10), (8,)),
        ("modular_arithmetic", (3, 8, 59), (8,)),
        ("modular_arithmetic_mse", (3, 8, 59), (8,)),
        ("shakespeare", (3, 8, 5, 65), (8, 5)),
    ],
)
def test_losses_run_under_vmap(name, shape, targets):
    generator = torch.Generator().manual_seed(0)
    problem = get_problem(name)
    out = torch.randn(shape, generator=generator)
    y = torch.randint(problem.num_classes, targets, generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # vmap warns where it falls back to a loop
        for f in (problem.per_sample_loss, problem.correct):
            together = torch.func.vmap(f, in_dims=(0, None))(out, y)
            assert together.shape == (3, 8)
            torch.testing.assert_close(together, torch.stack([f(o, y) for o in out]))


def test_wrong_labels_differ_and_random_labels_do_not_care():
    problem = get_problem("mnist")
    y = torch.arange(10).repeat(1000)
    generator = torch.Generator().manual_seed(0)
    wrong = problem.wrong_labels(y, generator)
    assert not (wrong == y).any()
    counts = torch.zeros(10, 10).index_put_((y, wrong), torch.ones(10_000), accumulate=True)
    off_diagonal = counts[~torch.eye(10, dtype=torch.bool)]
    assert off_diagonal.min() > 111 - 5 * 10 and off_diagonal.max() < 111 + 5 * 10
    random = problem.random_labels(y, generator)
    assert random.dtype == y.dtype and 800 < (random == y).sum() < 1200


# ---- data


def test_swiss_roll_is_two_balanced_spirals_and_generated():
    problem = get_problem("swiss_roll")
    data, again = problem.load(), problem.load()
    assert torch.equal(data.x_train, again.x_train) and torch.equal(data.y_test, again.y_test)
    assert data.x_train.shape == (10_000, 2) and data.x_test.shape == (2_000, 2)
    assert 0.48 < data.y_train.float().mean() < 0.52
    # the nearest neighbour among plenty of samples decides: the classes do not overlap
    nearest = torch.cdist(data.x_test, data.x_train).argmin(1)
    assert (data.y_train[nearest] == data.y_test).float().mean() > 0.999
    # among few it does not: there is something to learn from more data
    few = torch.cdist(data.x_test, data.x_train[:40]).argmin(1)
    assert (data.y_train[:40][few] == data.y_test).float().mean() < 0.9


@needs_mnist
def test_mnist_is_normalised_and_complete():
    data = get_problem("mnist").load()
    assert data.x_train.shape == (60_000, 1, 28, 28) and data.x_train.dtype == torch.float32
    assert data.x_test.shape == (10_000, 1, 28, 28)
    assert data.x_train.is_contiguous()
    assert abs(data.x_train.double().mean()) < 1e-3 and abs(data.x_train.double().std() - 1) < 1e-3
    assert data.y_train.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    low, high = data.x_test.min(), data.x_test.max()
    torch.testing.assert_close(torch.stack([low, high]), (torch.tensor([0.0, 1.0]) - 0.1307) / 0.3081)


def test_mnist_mlp_has_the_studys_size():
    model = get_problem("mnist").build_model({"hidden_dims": [256, 128]}, 0)
    assert sum(p.numel() for p in model.parameters()) == 235_146


PLACES = {
    "mnist": ("MNIST/raw", "train-images-idx3-ubyte"),
    "fashion_mnist": ("FashionMNIST/raw", "train-images-idx3-ubyte"),
    "cifar10": ("cifar-10-batches-py", "data_batch_1"),
    "svhn": ("svhn", "train_32x32.mat"),
    "shakespeare": ("tinyshakespeare", "input.txt"),
}


@pytest.mark.parametrize("name", PLACES)
def test_missing_data_says_where_and_how(name, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    folder, file = PLACES[name]
    with pytest.raises(InputError) as error:
        get_problem(name).load(tmp_path)
    message = str(error.value)
    assert str(tmp_path / folder) in message and file in message and "no network" in message
    assert f"VOLUME_LIB_DATA to the folder that holds {folder}" in message and "\n" not in message
    assert not list(tmp_path.iterdir())  # no empty folders are left behind


def test_cifar_images_keep_their_channels_and_are_normalised(tmp_path, monkeypatch):
    """A stand-in of CIFAR-10's files, one colour a channel, with the checksums switched off."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    image = np.zeros((3, 32, 32), dtype=np.uint8)
    image[0], image[1], image[2, 0, 5] = 51, 102, 255
    content = pickle.dumps({"data": np.stack([image.ravel()] * 4), "labels": [3, 1, 4, 1]})
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(content)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a"] * 10}))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    data = get_problem("cifar10").load(tmp_path)
    assert data.x_train.shape == (20, 3, 32, 32) and data.x_test.shape == (4, 3, 32, 32)
    assert data.y_test.tolist() == [3, 1, 4, 1] and data.y_test.dtype == torch.int64
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    torch.testing.assert_close(data.x_train[7, :, 9, 9], (torch.tensor([0.2, 0.4, 0.0]) - mean) / std)
    torch.testing.assert_close(data.x_train[7, 2, 0, 5], (1 - mean[2]) / std[2])


def test_fashion_images_are_read_and_normalised(tmp_path):
    """A stand-in of Fashion-MNIST's files: a grey and a white image."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.stack([np.full((28, 28), 51), np.full((28, 28), 255)]).astype(np.uint8)
    for part in ("train", "t10k"):
        head = np.array([0x803, 2, 28, 28], dtype=">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(np.array([0x801, 2], dtype=">i4").tobytes() + b"\7\2")
    data = get_problem("fashion_mnist").load(tmp_path)
    assert data.x_train.shape == data.x_test.shape == (2, 1, 28, 28) and data.y_train.tolist() == [7, 2]
    found = data.x_train[:, 0, 5, 9]
    torch.testing.assert_close(found, (torch.tensor([0.2, 1.0]) - 0.2860) / 0.3530)


def test_svhn_images_keep_their_channels_and_are_normalised(tmp_path, monkeypatch):
    """A stand-in of SVHN's files, which count images last and call the digit 0 a 10."""
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    (tmp_path / "svhn").mkdir()
    images = np.zeros((32, 32, 3, 2), dtype=np.uint8)
    images[..., 0, :], images[..., 1, :], images[3, 8, 2, 1] = 51, 102, 255  # row 3, column 8, blue
    for part in ("train", "test"):
        savemat(tmp_path / "svhn" / f"{part}_32x32.mat", {"X": images, "y": np.array([[10], [4]])})
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    data = get_problem("svhn").load(tmp_path)
    assert data.x_train.shape == data.x_test.shape == (2, 3, 32, 32) and data.y_test.tolist() == [0, 4]
    mean, std = torch.tensor([0.4377, 0.4438, 0.4728]), torch.tensor([0.1980, 0.2010, 0.1970])
    torch.testing.assert_close(data.x_train[0, :, 9, 9], (torch.tensor([0.2, 0.4, 0.0]) - mean) / std)
    torch.testing.assert_close(data.x_train[1, 2, 3, 8], (1 - mean[2]) / std[2])


def test_modular_arithmetic_holds_every_pair_once():
    problem = get_problem("modular_arithmetic")
    data = problem.load()
    x, y = torch.cat([data.x_train, data.x_test]), torch.cat([data.y_train, data.y_test])
    pairs = x.view(-1, 2, 59)
    assert torch.equal(pairs.sum(-1), torch.ones(59 * 59, 2))
    a, b = pairs.argmax(-1).T
    assert len((59 * a + b).unique()) == 59 * 59
    assert all(answer == (int(i) + int(j)) % 59 for i, j, answer in zip(a, b, y, strict=True))
    assert len(data.x_train) == round(0.8 * 59 * 59)


def test_another_modulus_is_a_problem_of_ones_own(tmp_path):
    (tmp_path / "small.py").write_text(
        "from volume_lib.problems.modular_arithmetic import ModularArithmetic\n"
        "class Small(ModularArithmetic):\n    modulus = 7\n"
    )
    problem = get_problem("small.py:Small", tmp_path)
    data = problem.load()
    assert problem.num_classes == 7 and problem.build_model({}, 0)(data.x_test).shape == (10, 7)


def test_windows_are_pieces_of_the_text_and_what_follows(tmp_path):
    text = "First Citizen:\nWe are accounted poor citizens, the patricians good. " * 60
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text(text)
    problem = get_problem("shakespeare")
    data = problem.load(tmp_path)
    read = "".join(problem.class_names[i] for i in data.x_train.flatten())
    following = "".join(problem.class_names[i] for i in data.y_train.flatten())
    assert text.startswith(read) and text[1:].startswith(following)
    assert len(data.x_train) == (round(0.9 * len(text)) - 1) // 64
    tested = "".join(problem.class_names[i] for i in data.x_test.flatten())
    assert text[round(0.9 * len(text)) :].startswith(tested) and tested
    (tmp_path / "tinyshakespeare" / "input.txt").write_text(text + "\u00e9")
    with pytest.raises(InputError, match=r"input.txt is damaged .unknown characters"):
        problem.load(tmp_path)


def test_poisoned_text_is_wrong_everywhere():
    problem = get_problem("shakespeare")
    y = torch.randint(65, (50, 64), generator=torch.Generator().manual_seed(0))
    wrong = problem.wrong_labels(y, torch.Generator().manual_seed(1))
    assert not (wrong == y).any() and wrong.max() < 65 and wrong.min() >= 0


@pytest.mark.parametrize(
    "name, model_class, n",
    [
        ("swiss_roll", "MLP", 2 * 32 + 4 * 32 * 32 + 5 * 32 + 32 + 1),
        ("mnist", "MLP", 784 * 256 + 256 * 128 + 128 * 10 + 256 + 128 + 10),
        ("mnist", "CNN", 16 * 10 + 32 * (16 * 9 + 1) + 64 * (32 * 7 * 7 + 1) + 10 * 65),
        ("fashion_mnist", "MLP", 784 * 256 + 256 * 128 + 128 * 10 + 256 + 128 + 10),
        ("fashion_mnist", "CNN", 16 * 10 + 32 * (16 * 9 + 1) + 64 * (32 * 7 * 7 + 1) + 10 * 65),
        ("cifar10", "MLP", 3072 * 512 + 512 * 256 + 256 * 10 + 512 + 256 + 10),
        ("cifar10", "CNN", 16 * 28 + 32 * (16 * 9 + 1) + 64 * (32 * 8 * 8 + 1) + 10 * 65),
        ("svhn", "MLP", 3072 * 512 + 512 * 256 + 256 * 10 + 512 + 256 + 10),
        ("svhn", "CNN", 16 * 28 + 32 * (16 * 9 + 1) + 64 * (32 * 8 * 8 + 1) + 10 * 65),
        ("modular_arithmetic", "MLP", 118 * 128 + 128 * 59 + 128 + 59),
        ("modular_arithmetic_mse", "MLP", 118 * 128 + 128 * 59 + 128 + 59),
        # embeddings once, though they are the output layer too; then two blocks and a layer norm
        (
            "shakespeare", "GPT",
            (65 + 64) * 64 + 2 * (4 * 64 + 64 * 65 * 3 + 64 * 65 + 256 * 65 + 64 * 257) + 2 * 64,
        ),
    ],
)  # fmt: skip
def test_verify_prints_the_size_and_draws_samples(name, model_class, n, capsys, monkeypatch):
    problem = get_problem(name)
    if problem.sample_kind in ("images", "sequences"):  # their files may be missing
        data = stand_in(problem)
        monkeypatch.setattr(problem, "load", lambda root=None: data)
    ax = plots.verify(problem, model_class=model_class)
    printed = capsys.readouterr().out
    assert f"{model_class} with {n:,} parameters" in printed
    assert "training" in printed and "untrained: loss" in printed
    if problem.sample_kind == "images":
        words = [text.get_text() for text in ax.texts]
        assert words == [problem.class_names[i % 10] for i in range(25)] and len(ax.images) == 1
    elif problem.sample_kind == "sequences":
        first = "".join(problem.class_names[:64]).replace("\n", "↵").replace("$", r"\$")
        assert ax.texts[0].get_text() == first
    else:
        assert ax.get_xlabel() and ax.has_data()


def stand_in(problem):
    """Samples of the problem's shape: noise of every class in turn, or the alphabet from every letter on."""
    if problem.sample_kind == "images":
        x = torch.randn(30, *problem.shape, generator=torch.Generator().manual_seed(0))
        y = torch.arange(30) % problem.num_classes
    else:
        start = torch.arange(30)[:, None] + torch.arange(problem.context)
        x, y = start % problem.num_classes, (start + 1) % problem.num_classes
    return Data(x, y, x, y)


def test_damaged_data_is_named(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{part}-ubyte").write_bytes(b"\x00\x00\x08\x03\x00\x00")
    with pytest.raises(InputError, match=r"MNIST.raw.*damaged"):
        get_problem("mnist").load(tmp_path)


def test_the_variable_says_where_data_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("VOLUME_LIB_DATA", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.delenv("VOLUME_LIB_DATA")
    assert data_root().name == "volume_lib" and data_root().is_absolute()


def test_loss_gradient_is_that_of_the_plain_loss():
    problem = get_problem("mnist")
    outputs = torch.randn(5, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.tensor([1, 2, 3, 4, 5])
    (ours,) = torch.autograd.grad(problem.loss(outputs, y), outputs)
    (plain,) = torch.autograd.grad(F.cross_entropy(outputs, y), outputs)
    torch.testing.assert_close(ours, plain)
