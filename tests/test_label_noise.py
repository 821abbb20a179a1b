"""Label noise: which labels are replaced, by what, and minima that differ in their share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from volume_lib import plots, storage
from volume_lib.analysis.loading import load_experiment
from volume_lib.cutoffs import loss_against_data
from volume_lib.errors import InputError
from volume_lib.experiment.file import parse_experiment
from volume_lib.problems import Problem, get_problem
from volume_lib.problems.splits import make_dataset
from volume_lib.records import Data
from volume_lib.sweep.run import run_sweep
from volume_lib.training.runs import train_models
from volume_lib.volume.estimate import estimate_volumes

PROBLEM = get_problem("swiss_roll")
LEVELS = [10, 37, 200]


def data(problem=PROBLEM, **changes):
    sizes = {"base_data_size": 20, "dataset_quantities": LEVELS, "data_seed": 3, "test_size": 50}
    return make_dataset(problem, **sizes | changes)


class Targets(Problem):
    """Samples that are told apart by their one input, with targets of a kind."""

    name = "targets"
    num_classes = 4

    def __init__(self, y):
        self.y = y

    def load(self, root=None):
        x = torch.arange(len(self.y), dtype=torch.float32)[:, None]
        return Data(x, self.y, x, self.y)

    def per_sample_loss(self, outputs, y):
        return outputs.sum(1)

    def default_model_kwargs(self, model_class):
        return {}


N = 300
DRAW = torch.Generator().manual_seed(0)
KINDS = {
    "classes": torch.randint(4, (N,), generator=DRAW),
    "one-hot": nn.functional.one_hot(torch.randint(4, (N,), generator=DRAW), 4).float(),
    "labels": torch.randint(2, (N, 3), generator=DRAW).float(),
    "sequences": torch.randint(4, (N, 5), generator=DRAW),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_so_many_labels_are_wrong_at_every_level_and_the_others_are_untouched(kind, share):
    y = KINDS[kind]
    found = data(Targets(y), label_noise=share, base_data_size=20)
    true = y[found.x_additional[:, 0].long()]
    differs = (found.y_additional != true).view(len(true), -1).any(1)
    for level in LEVELS:
        assert int(differs[:level].sum()) == int(share * level + 0.5)
    assert torch.equal(found.y_base_train, y[found.x_base_train[:, 0].long()])
    assert torch.equal(found.y_test, y[found.x_test[:, 0].long()])
    assert found.y_additional.dtype == y.dtype
    if kind == "one-hot":
        assert (found.y_additional.sum(1) == 1).all()


def test_it_follows_the_data_seed_and_larger_shares_hold_the_smaller():
    clean = data().y_additional
    one, again = (data(label_noise=0.2).y_additional for _ in range(2))
    assert torch.equal(one, again) and torch.equal(data(label_noise=0.0).y_additional, clean)
    other = data(label_noise=0.2, data_seed=4).y_additional != data(data_seed=4).y_additional
    assert not torch.equal(one != clean, other)
    single = {"dataset_quantities": [200]}
    clean = data(**single).y_additional
    small, large = (data(**single, label_noise=s).y_additional for s in (0.2, 0.6))
    assert int((small != clean).sum()) == 40 and int((large != clean).sum()) == 120
    assert torch.equal(small[small != clean], large[small != clean])  # the same wrong labels, too
    # a further level leaves those before it as they are
    assert torch.equal(data(label_noise=0.2, dataset_quantities=LEVELS[:2]).y_additional, one[:37])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"label_noise": 1.5}, "label_noise: 1.5 must be 1 or less"),
        ({"label_noise": -0.1}, "label_noise: -0.1 must be 0 or more"),
        ({"label_noise": 0.1, "dataset_type": "poison"}, "label_noise: is for dataset_type data; poison has"),
        ({"label_noise": 0.1, "dataset_quantities": [0]}, "label_noise: replaces labels of additional"),
    ],
)
def test_what_cannot_be_is_one_line(given, line):
    with pytest.raises(InputError, match=line) as raised:
        data(**given)
    assert "\n" not in str(raised.value)


def test_a_regression_is_refused_in_one_line():
    with pytest.raises(InputError, match="label_noise: these targets are values") as raised:
        data(Targets(torch.randn(N, 1, generator=DRAW)), label_noise=0.1)
    assert "\n" not in str(raised.value)


SHARES = [0, 0.25, 1]
ALL = {"dataset_quantities": [40]}


def test_shares_vary_from_training_to_the_analysis(tmp_path):
    run = tmp_path / "model_0_data_3"
    usual = {"model_seed": 0, "epochs": 15, "learning_rate": 0.02, "model": {"hidden_dims": [30]}}
    usual |= {"batch_size": 60, "target_train_loss": None}
    varied = {"vary": "label_noise", "values": SHARES}
    models = train_models(PROBLEM, data(**ALL), folder=run / "models_and_data", **usual, **varied)
    names = sorted(path.name for path in (run / "models_and_data").glob("model_*"))
    assert names == ["model_label_noise_0.25.pt", "model_label_noise_0.pt", "model_label_noise_1.pt"]
    for share, trained in zip(SHARES, models, strict=True):  # each is that of a training on such data
        noisy = data(**ALL, label_noise=share)
        (alone,) = train_models(PROBLEM, noisy, folder=tmp_path / f"{share}", **usual)
        for mine, theirs in zip(trained.model.parameters(), alone.model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
        assert trained.train_loss[-1] == pytest.approx(alone.train_loss[-1], rel=1e-3)
    before = [path.stat().st_mtime_ns for path in sorted((run / "models_and_data").glob("model_*"))]
    train_models(PROBLEM, data(**ALL), folder=run / "models_and_data", **usual, **varied)
    assert before == [path.stat().st_mtime_ns for path in sorted((run / "models_and_data").glob("model_*"))]
    models, dataset = storage.load_models_and_data(run / "models_and_data", PROBLEM)
    curves = loss_against_data(PROBLEM, models, dataset)
    for share, trained in zip(SHARES, models, strict=True):  # each is a minimum of its own data
        noisy, curve = data(**ALL, label_noise=share), curves[f"Model_{share}"]["loss_curve"]
        for extra in (0, 1, 17, 40):
            x, y = noisy.upto(extra)
            mean = PROBLEM.per_sample_loss(trained.model(x), y).mean().item()
            assert curve[20 + extra - 1] == pytest.approx(mean, rel=1e-5)
        assert curve[-1] == pytest.approx(trained.train_loss[-1], rel=1e-5)
    for levels in (None, [40], [0, 40]):
        with pytest.raises(InputError, match=r"share the labels of the base samples alone; give \[0\]"):
            run_sweep(PROBLEM, models, dataset, run, num_directions=5, landscape_levels=levels)
    run_sweep(PROBLEM, models, dataset, run, num_directions=5, loss_thresholds=[2.5], landscape_levels=[0])
    sweeps = [storage.load_sweep(path) for path in storage.list_sweeps(run)[0]]
    assert [(s.key, s.value) for s in sweeps] == [("label_noise", share) for share in SHARES]
    storage.save_results(storage.results_path(run, "data", 0, 2.5), estimate_volumes(sweeps, 2.5))
    experiment = load_experiment(tmp_path)
    assert experiment.key == "label_noise" and experiment.minima == SHARES
    assert plots.volume_against_data(experiment).get_xlabel() == "share of wrong labels"


def test_an_experiment_says_it():
    start = "problem: swiss_roll\ntrain: {vary: label_noise, values: [0, 0.2], dataset_quantities: [40]"
    found = parse_experiment(f"{start}}}\nperturb: {{landscape_levels: [0]}}")
    assert found.train.key == "label_noise" and found.parameters("train")["values"] == [0, 0.2]
    assert parse_experiment("problem: mnist\ntrain: {label_noise: 0.1}").train.label_noise == 0.1
    for text, line in (
        (f"{start}}}", r"perturb.landscape_levels: minima that differ in label_noise"),
        (
            f"{start}, label_noise: 0.1}}",
            "label_noise varies on dataset_type data, with label_noise left at 0",
        ),
        (f"{start}, dataset_type: noise}}", "label_noise varies on dataset_type data"),
        (start.replace("0.2", "1.2") + "}", "values: label_noise: 1.2 must be 1 or less"),
        (start.replace("[40]", "[0]") + "}", "label_noise: replaces labels of additional samples"),
    ):
        with pytest.raises(InputError, match=line) as raised:
            parse_experiment(text)
        assert "\n" not in str(raised.value)
