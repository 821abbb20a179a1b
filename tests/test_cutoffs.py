import numpy as np
import pytest
import torch
from torch import nn

from volume_lib import cutoffs
from volume_lib.problems.base import Problem
from volume_lib.records import Dataset, TrainedModel


class Lines(Problem):
    name, num_classes, model_classes = "lines", 3, {"Linear": nn.Linear}

    def load(self, root=None):
        raise NotImplementedError

    def default_model_kwargs(self, model_class):
        return {"in_features": 4, "out_features": 3}


def trained(seed, level):
    torch.manual_seed(seed)
    return TrainedModel(
        nn.Linear(4, 3), "Linear", {}, seed, "lines", "data", level, [0.1], [0.2], [1.0], [0.9], value=level
    )


@pytest.fixture
def dataset():
    generator = torch.Generator().manual_seed(0)

    def samples(count):
        x = torch.randn(count, 4, generator=generator)
        return x, torch.randint(3, (count,), generator=generator)

    return Dataset(*samples(5), *samples(12), *samples(31), [0, 4, 12], "data", "lines", 0)


def test_the_curve_is_the_running_mean_over_base_then_additional(dataset):
    models = [trained(0, 0), trained(1, 4)]
    result = cutoffs.loss_against_data(Lines(), models, dataset, batch_size=4)
    assert list(result) == ["Model_0", "Model_4"]
    for model in models:
        entry = result[f"Model_{model.value}"]
        assert entry["additional_data"] == model.value
        assert entry["base_train_size"] == 5
        assert len(entry["loss_curve"]) == 17
        for level in (0, 4, 12):
            x, y = dataset.upto(level)
            mean = nn.functional.cross_entropy(model.model(x), y).item()
            assert entry["loss_curve"][5 + level - 1] == pytest.approx(mean, rel=1e-6)


def test_zero_volume_starts_where_the_running_mean_passes_the_threshold():
    entry = {"additional_data": 0, "base_train_size": 2, "loss_curve": [9.0, 0.1, 0.2, 0.6, 0.4, 0.8]}
    assert cutoffs.zero_volume_level(entry, 0.5) == 2
    assert cutoffs.zero_volume_level(entry, 0.05) == 0
    assert cutoffs.zero_volume_level(entry, 0.9) is None
    assert cutoffs.zero_volume_level({**entry, "loss_curve": [0.1, 0.1, float("nan")]}, 0.5) == 1


def test_accuracies_on_the_test_set(dataset):
    models = [trained(0, 0), trained(1, 4)]
    sizes, accuracies = cutoffs.test_accuracies(Lines(), models, dataset, batch_size=7)
    assert sizes.tolist() == [5, 9]
    for model, accuracy in zip(models, accuracies, strict=True):
        right = (model.model(dataset.x_test).argmax(1) == dataset.y_test).double().mean().item()
        assert accuracy == pytest.approx(right, abs=1e-12)
    assert accuracies.dtype == np.float64


def test_a_thinned_curve_is_short_and_keeps_its_crossings_exact():
    rng = np.random.default_rng(0)
    curve = np.cumsum(rng.exponential(0.1, 20_000) * (rng.random(20_000) < 0.01)) / np.arange(1, 20_001)
    entry = {"additional_data": 50, "base_train_size": 60, "loss_curve": curve.tolist()}
    thin = cutoffs.thinned({"Model_50": entry}, [5e-4, 9e-4])["Model_50"]
    assert len(thin["loss_curve"]) == len(thin["samples"]) < 400
    assert [curve[s - 1] for s in thin["samples"]] == thin["loss_curve"]
    assert thin["samples"][-1] == 20_000 and 60 in thin["samples"]
    for threshold in (5e-4, 9e-4):
        assert cutoffs.zero_volume_level(thin, threshold) == cutoffs.zero_volume_level(entry, threshold)


def test_a_curve_thinned_again_keeps_its_own_numbers_of_samples():
    rng = np.random.default_rng(1)
    curve = np.cumsum(rng.exponential(0.1, 5_000) * (rng.random(5_000) < 0.02)) / np.arange(1, 5_001)
    entry = {"additional_data": 0, "base_train_size": 60, "loss_curve": curve.tolist()}
    once = cutoffs.thinned({"Model_0": entry}, [9e-4, 2e-3])
    assert cutoffs.thinned(once, [9e-4, 2e-3]) == once
    shorter = cutoffs.thinned(once, [2e-3], points=20)["Model_0"]
    assert [curve[s - 1] for s in shorter["samples"]] == shorter["loss_curve"]
    assert len(shorter["samples"]) < len(once["Model_0"]["samples"]) and 60 in shorter["samples"]
    assert shorter["samples"][0] == 1 and shorter["samples"][-1] == 5_000
    assert cutoffs.zero_volume_level(shorter, 2e-3) == cutoffs.zero_volume_level(entry, 2e-3)
