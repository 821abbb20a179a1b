"""Targets of every kind: converted or refused at the start; wrong and random ones defined."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.splits import make_dataset
from volume_lib.problems.targets import at_random, checked, kind_of, wrong
from volume_lib.records import Data

CLASSES = torch.arange(30) % 3


class Given(Problem):
    """A problem of the data that a test gives."""

    name = "given"
    num_classes = 3

    def __init__(self, data):
        self.data = data

    def load(self, root=None):
        return self.data

    def default_model_kwargs(self, model_class):
        return {}


class Squared(Given):
    def per_sample_loss(self, outputs, y):
        return (outputs - y).square().flatten(1).sum(1)


class Binary(Given):
    def per_sample_loss(self, outputs, y):
        return F.binary_cross_entropy_with_logits(outputs, y, reduction="none").sum(1)


def given(y, x=None):
    x = torch.randn(len(y), 4, generator=torch.Generator().manual_seed(0)) if x is None else x
    return Data(x, y, x, y)


@pytest.mark.parametrize(
    "y",
    [
        CLASSES.float(),
        CLASSES.double()[:, None],
        CLASSES[:, None],
        CLASSES.to(torch.uint8),
        CLASSES.int(),
        CLASSES.numpy(),
        CLASSES.numpy().astype(np.uint8)[:, None],
        CLASSES.tolist(),
    ],
)
def test_labels_for_a_cross_entropy_become_classes(y):
    data = Given(given(y)).checked_data()
    for found in (data.y_train, data.y_test):
        assert found.dtype == torch.int64 and torch.equal(found, CLASSES)
    made = make_dataset(Given(given(y)), base_data_size=4, dataset_quantities=[0, 5], data_seed=0)
    assert made.y_base_train.dtype == torch.int64 and made.y_base_train.shape == (4,)


def test_numpy_inputs_become_tensors_and_bytes_stay_bytes():
    x = np.arange(120, dtype=np.uint8).reshape(30, 4)
    assert Given(given(CLASSES, x)).checked_data().x_train.dtype == torch.uint8


NAN = torch.randn(30, 4)
NAN[7, 2] = torch.nan


@pytest.mark.parametrize(
    "data, message",
    [
        (given(CLASSES[:-1], torch.ones(30, 4)), r"30 inputs x_train but 29 targets y_train"),
        (given(torch.cat([CLASSES, CLASSES]), torch.ones(30, 4)), "30 inputs x_train but 60 targets y_train"),
        (given(CLASSES + 1), "y_train holds the classes 1 to 3; num_classes 3 allows 0 to 2"),
        (given(CLASSES - 1), "y_train holds the classes -1 to 1"),
        (given(CLASSES + 0.5), "y_train must hold classes, whole numbers from 0 to 2"),
        (given(CLASSES, NAN), "x_train holds NaN, first in sample 7"),
        (given(CLASSES, [["a"]] * 30), "x_train is no tensor"),
    ],
)
def test_what_does_not_fit_is_one_line_at_the_start(data, message):
    with pytest.raises(InputError, match=message) as error:
        make_dataset(Given(data), base_data_size=4, dataset_quantities=[0], data_seed=0)
    assert "\n" not in str(error.value)


def test_targets_of_a_loss_of_ones_own_keep_their_shape():
    values = torch.randn(30, 1)
    assert torch.equal(Squared(given(values)).checked_data().y_train, values)


VALUES = torch.randn(40, 2, generator=torch.Generator().manual_seed(3))
LABELS = torch.randint(2, (40, 5), generator=torch.Generator().manual_seed(4)).float()
ONE_HOT = F.one_hot(torch.arange(40) % 3, 4).float()


@pytest.mark.parametrize(
    "y, kind",
    [
        (CLASSES, "classes"),
        (VALUES, "values"),
        (LABELS, "labels"),
        (LABELS.bool(), "labels"),
        (ONE_HOT, "one-hot"),
    ],
)
def test_wrong_and_random_targets_are_of_their_kind(y, kind):
    assert kind_of(y) == kind
    generator = torch.Generator().manual_seed(0)
    other, like = wrong(y, 3, generator), at_random(y, 3, generator)
    for found in (other, like):
        assert found.dtype == y.dtype and found.shape == y.shape and kind_of(found) == kind
    assert (other != y).flatten(1).any(1).all() if y.ndim > 1 else (other != y).all()
    if kind == "values":
        rows = {tuple(row) for row in y.tolist()}
        assert {tuple(row) for row in other.tolist()} <= rows
        assert torch.equal(like.sort(0).values, y.sort(0).values) and not torch.equal(like, y)


def test_wrong_labels_are_uniform_over_the_other_rows():
    y = torch.zeros(40_000, 2)
    found = wrong(y, 0, torch.Generator().manual_seed(0)) @ torch.tensor([1.0, 2.0])
    counts = torch.bincount(found.long(), minlength=4).tolist()
    assert counts[0] == 0 and all(
        abs(count - 40_000 / 3) < 5 * (40_000 * 2 / 9) ** 0.5 for count in counts[1:]
    )


@pytest.mark.parametrize("kind, y", [(Squared, VALUES), (Binary, LABELS), (Squared, VALUES[:, 0])])
@pytest.mark.parametrize("dataset_type", ["poison", "noise"])
def test_poison_and_noise_of_any_targets(kind, y, dataset_type):
    problem = kind(given(y))
    data = make_dataset(
        problem, base_data_size=5, dataset_quantities=[0, 20], dataset_type=dataset_type, data_seed=1
    )
    found = data.y_additional
    assert found.shape == (20, *y.shape[1:]) and found.dtype == y.dtype and kind_of(found) == kind_of(y)
    assert found.unique().numel() > 1  # not one target for all, nor zeros
    if dataset_type == "poison":
        true = {tuple(row): target for row, target in zip(problem.data.x_train.tolist(), y, strict=True)}
        own = torch.stack([true[tuple(row)] for row in data.x_additional.tolist()])
        assert (own != found).flatten(1).any(1).all() if y.ndim > 1 else (own != found).all()


def test_what_has_no_other_is_refused():
    with pytest.raises(InputError, match="poison: some targets have no other"):
        wrong(torch.full((5, 2), 0.3), 0, torch.Generator())


def test_whole_data_is_returned_as_it_was():
    data = given(CLASSES)
    again = checked(data, 3)
    assert again.x_train is data.x_train and torch.equal(again.y_train, CLASSES)
