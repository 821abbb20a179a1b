"""Each regime's law on data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.problems.splits import make_dataset, noise_inputs
from volume_lib.records import Data


class Numbered(Problem):
    """3,000 samples whose first entry is their own number, in six classes of unequal size."""

    name = "numbered"
    num_classes = 6
    model_classes = {}  # noqa: RUF012

    def load(self, root=None):
        numbers = torch.arange(4000, dtype=torch.float32)
        x = torch.stack([numbers, 5 - 0.001 * numbers], 1)
        y = torch.cat([torch.full((k,), c) for c, k in enumerate((1500, 900, 300, 200, 90, 10))])
        return Data(x[:3000], y, x[3000:], y[:1000])

    def default_model_kwargs(self, model_class):
        return {}


PROBLEM = Numbered()
TRUE = PROBLEM.load().y_train


def split(**kwargs):
    settings = {"base_data_size": 50, "dataset_quantities": [0, 100, 1000], "data_seed": 3, **kwargs}
    return make_dataset(PROBLEM, **settings)


@given(seed=st.integers(0, 2**31), base=st.integers(1, 1500), more=st.integers(0, 1500))
@settings(max_examples=50, deadline=None)
def test_base_and_additional_are_distinct_samples_with_their_labels(seed, base, more):
    dataset = split(data_seed=seed, base_data_size=base, dataset_quantities=[more])
    numbers = torch.cat([dataset.x_base_train, dataset.x_additional])[:, 0].long()
    assert len(numbers) == base + more == len(numbers.unique())
    assert numbers.max() < 3000  # none from the test set
    assert torch.equal(TRUE[numbers], torch.cat([dataset.y_base_train, dataset.y_additional]))


@pytest.mark.parametrize("dataset_type", ["data", "poison", "noise"])
def test_the_seed_alone_decides_the_split(dataset_type):
    torch.manual_seed(1)
    one = split(dataset_type=dataset_type)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    two = split(dataset_type=dataset_type)
    assert torch.equal(state, torch.random.get_rng_state())
    other = split(dataset_type=dataset_type, data_seed=4)
    for name in ("x_base_train", "y_base_train", "x_additional", "y_additional"):
        assert torch.equal(getattr(one, name), getattr(two, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))


def test_a_longer_list_of_levels_begins_like_a_shorter_one():
    short, long = split(dataset_quantities=[0, 100]), split(dataset_quantities=[0, 100, 2000])
    assert torch.equal(short.x_base_train, long.x_base_train)
    assert torch.equal(short.x_additional, long.x_additional[:100])


def test_every_poisoned_label_is_wrong_and_uniform_over_the_others():
    dataset = split(dataset_type="poison", base_data_size=10, dataset_quantities=[2990])
    true = TRUE[dataset.x_additional[:, 0].long()]
    assert torch.equal(TRUE[dataset.x_base_train[:, 0].long()], dataset.y_base_train)
    assert not (dataset.y_additional == true).any()
    for label in (0, 1):
        wrong = dataset.y_additional[true == label]
        counts = wrong.bincount(minlength=6).double()
        assert counts[label] == 0
        expected = len(wrong) / 5
        # a count's standard deviation is √(expected·4/5): five of them
        assert (counts[counts > 0] - expected).abs().max() < 5 * (0.8 * expected) ** 0.5
        assert (counts > 0).sum() == 5


def test_noise_has_the_datas_moments_and_uniform_labels():
    size = 200_000
    dataset = split(dataset_type="noise", dataset_quantities=[size])
    x = PROBLEM.load().x_train.double()
    mean, std = dataset.x_additional.double().mean(0), dataset.x_additional.double().std(0)
    assert ((mean - x.mean(0)).abs() < 5 * x.std(0) / size**0.5).all()
    assert ((std / x.std(0) - 1).abs() < 5 / (2 * size) ** 0.5).all()
    counts = dataset.y_additional.bincount(minlength=6).double()
    assert (counts - size / 6).abs().max() < 5 * (size * 5 / 36) ** 0.5


def test_noise_images_take_the_moments_of_each_channel():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 10.0]).view(1, 2, 1, 1)
    x = scale * torch.randn(500, 2, 6, 6, generator=generator) + scale
    noise = noise_inputs(x, 4000, generator)
    assert noise.shape == (4000, 2, 6, 6)
    torch.testing.assert_close(noise.mean((0, 2, 3)), x.mean((0, 2, 3)), rtol=0.05, atol=0)
    torch.testing.assert_close(noise.std((0, 2, 3)), x.std((0, 2, 3)), rtol=0.05, atol=0)


def test_noise_tokens_are_drawn_from_the_tokens():
    x = torch.tensor([[0, 0, 0, 7], [3, 3, 0, 0]])
    noise = noise_inputs(x, 5000, torch.Generator().manual_seed(0))
    assert noise.shape == (5000, 4) and noise.dtype == x.dtype
    share = noise.flatten().bincount() / noise.numel()
    np.testing.assert_allclose(share[[0, 3, 7]], [5 / 8, 2 / 8, 1 / 8], atol=0.02)
    assert share[[1, 2, 4, 5, 6]].sum() == 0


@given(ratio=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_imbalance_reaches_its_ratio_at_every_level(ratio, seed):
    levels = [0, 7, 100, 400]
    imbalance = {"labels": [1, 2], "ratio": ratio}
    dataset = split(dataset_quantities=levels, additional_imbalance=imbalance, data_seed=seed)
    for level in levels:
        share = torch.isin(dataset.y_additional[:level], torch.tensor([1, 2])).sum()
        assert abs(share - ratio * level) <= 0.5 + 1e-9
    numbers = torch.cat([dataset.x_base_train, dataset.x_additional])[:, 0]
    assert len(numbers.unique()) == 450


def test_imbalance_of_base_and_additional_data_are_separate():
    dataset = split(
        base_imbalance={"labels": [3], "ratio": 0.8}, additional_imbalance={"labels": [0, 1], "ratio": 0.95}
    )
    assert (dataset.y_base_train == 3).sum() == 40
    assert (dataset.y_additional < 2).sum() == 950
    assert (dataset.y_additional[:100] < 2).sum() == 95
    # the rest is as mixed as the rest of the data: here all other labels
    assert set(dataset.y_base_train.tolist()) >= {0, 1}


def test_imbalanced_poison_counts_the_true_labels():
    dataset = split(dataset_type="poison", additional_imbalance={"labels": [1], "ratio": 0.5})
    true = TRUE[dataset.x_additional[:, 0].long()]
    assert (true == 1).sum() == 500 and not (true == dataset.y_additional).any()


def test_test_samples_are_the_same_for_every_seed():
    one, two = split(test_size=200), split(test_size=200, data_seed=9)
    assert len(one.x_test) == 200 and torch.equal(one.x_test, two.x_test)
    assert not torch.equal(one.x_test, PROBLEM.load().x_test[:200])  # shuffled
    assert len(split().x_test) == 1000


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"dataset_type": "posion"}, 'dataset_type: .posion.*did you mean "poison"'),
        ({"dataset_quantities": [0, 100, 100]}, "dataset_quantities.*each value above the last"),
        ({"dataset_quantities": [-1, 100]}, "dataset_quantities"),
        ({"dataset_quantities": []}, "dataset_quantities"),
        ({"dataset_quantities": [0, 2.5]}, "dataset_quantities"),
        ({"dataset_quantities": [2951]}, "dataset_quantities: 2,951 samples asked for, 2,950 are there"),
        ({"base_data_size": 3001}, "base_data_size: 3,001 samples asked for, 3,000 are there"),
        ({"base_data_size": 0}, "base_data_size"),
        ({"test_size": 1001}, "test_size 1001.*1,000"),
        (
            {"base_imbalance": {"labels": [5], "ratio": 0.5}},
            "base_imbalance: .* needs 25 with .* 10 are there",
        ),
        ({"base_imbalance": {"labels": [0], "ratio": 1.5}}, r"base_imbalance\.ratio: 1\.5 must be 1 or less"),
        ({"base_imbalance": {"labels": [6], "ratio": 0.5}}, r"labels \[6\] must be some of"),
        ({"base_imbalance": {"label": 1}}, r"base_imbalance\.label: unknown argument"),
        ({"dataset_type": "noise", "additional_imbalance": {"labels": [0], "ratio": 1.0}}, "random labels"),
    ],
)
def test_bad_input_is_named(wrong, message):
    with pytest.raises(InputError, match=message):
        split(**wrong)
