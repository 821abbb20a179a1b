"""experiment.yaml: what is accepted, what is refused and how, and that notebooks and functions agree."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from pathlib import Path

import pytest

from volume_lib import cutoffs, sweep, training, volume
from volume_lib.batch.check import check_against_data
from volume_lib.batch.steps import NOTEBOOKS, template_path
from volume_lib.errors import InputError
from volume_lib.experiment.file import (
    READ_MODELS,
    STEPS,
    Experiment,
    RunSeeds,
    parse_experiment,
    read_experiment,
)
from volume_lib.experiment.sections import Accuracy, Cutoff, Integrate, Perturb, Train, Volume
from volume_lib.integration import integrate
from volume_lib.integration.effort import MINUTES
from volume_lib.measuring.entry import measure
from volume_lib.problems import splits
from volume_lib.rays.scaling import SCALINGS
from volume_lib.training.optimizers import OPTIMIZERS, SCHEDULES

EXAMPLE = """
problem: mnist
model: {hidden_dims: [256, 128]}
runs: {model_seeds: [0, 1, 2], data_seeds: [10, 11, 12]}
train: {epochs: 500, batch_size: 1000, base_data_size: 60, dataset_type: data,
        dataset_quantities: [0, 540, 1940, 5940, 19940, 59940]}
perturb: {num_directions: 500, loss_thresholds: [0.02, 0.05, 0.1]}
volume: {loss_thresholds: [0.02, 0.05, 0.1], acc_threshold: null}
"""


def test_the_documented_example():
    experiment = parse_experiment(EXAMPLE)
    assert [run.name for run in experiment.run_seeds] == [
        "model_0_data_10",
        "model_1_data_11",
        "model_2_data_12",
    ]
    train = experiment.parameters("train", RunSeeds(1, 11))
    assert (train["problem"], train["model_seed"], train["data_seed"]) == ("mnist", 1, 11)
    assert train["model"] == {"hidden_dims": [256, 128]} and train["dataset_quantities"][-1] == 59940
    assert experiment.parameters("volume", RunSeeds(1, 11))["loss_thresholds"] == [0.02, 0.05, 0.1]
    json.dumps({step: experiment.parameters(step, RunSeeds(0, 0)) for step in STEPS})


def test_what_follows_from_other_sections():
    experiment = parse_experiment("problem: mnist\nperturb: {loss_thresholds: [0.3, 0.2], shards: 4}")
    assert experiment.parameters("volume")["loss_thresholds"] == [0.3, 0.2]
    assert experiment.parameters("cutoff")["loss_threshold"] == 0.3
    assert "shards" not in experiment.parameters("perturb")  # of the batch, not of the notebook
    assert experiment.parameters("analysis")["dataset_type"] == "data"


def test_numbers_as_people_write_them():
    train = parse_experiment(
        "problem: mnist\ntrain: {learning_rate: 1e-3, target_train_loss: 1}\nvolume:"
    ).train
    assert train.learning_rate == 0.001 and train.target_train_loss == 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("problem: mnist\nperturb: {num_directons: 3}", 'num_directons: unknown key .*mean "num_directions"'),
        ("problem: mnist\ntrian: {}", 'trian: unknown key .did you mean "train"'),
        ("model: {}", "problem: must be given"),
        ("problem:", "problem: must be given"),
        ("problem: [mnist]", r"problem: \['mnist'\] must be text"),
        ("problem: mnist\ntrain: {epochs: 1.5}", "train.epochs: 1.5 must be a whole number"),
        ("problem: mnist\ntrain: {epochs: true}", "train.epochs: True must be a whole number"),
        ("problem: mnist\ntrain: {epochs: ten}", "train.epochs: 'ten' must be a whole number"),
        ("problem: mnist\ntrain: {epochs: 0}", "train.epochs: 0 must be 1 or more"),
        ("problem: mnist\ntrain: {learning_rate: true}", "train.learning_rate: True must be a number"),
        ("problem: mnist\ntrain: {learning_rate: .inf}", "train.learning_rate: inf must be a finite number"),
        ("problem: mnist\ntrain: {dataset_type: posion}", 'must be one of data, poison, noise .*"poison"'),
        ("problem: mnist\ntrain: {optimizer: Adam}", 'must be one of sgd, adam, adamw .did you mean "adam"'),
        ("problem: mnist\ntrain: {dataset_quantities: [0, 5, 5]}", r"\[0, 5, 5\] must increase"),
        ("problem: mnist\ntrain: {dataset_quantities: []}", "must not be empty"),
        ("problem: mnist\ntrain: {dataset_quantities: 5}", "5 must be a list"),
        ("problem: mnist\ntrain: {dataset_quantities: [-1]}", r"quantities\[0\]: -1 must be 0 or more"),
        ("problem: mnist\ntrain: {values: [3]}", "vary and values: give both"),
        ("problem: mnist\ntrain: {vary: epochs, values: [9], epochs: 5}", "9 is beyond .* epochs 5"),
        ("problem: mnist\ntrain: {vary: epochs, values: [5]}", "target_train_loss: .* set it to null"),
        ("problem: mnist\ntrain: {sam_adaptive: true}", "sam_adaptive: needs a sam_rho"),
        ("problem: mnist\ntrain: {base_imbalance: {labels: [1], ratio: 2}}", "ratio: 2 must be 1 or less"),
        ("problem: mnist\ntrain: {base_imbalance: {labls: [1]}}", 'imbalance.labls: .*mean "labels"'),
        ("problem: mnist\ntrain: 3", "train: 3 must hold keys and values"),
        ("problem: mnist\nperturb: {loss_thresholds: [0.1, 0]}", r"loss_thresholds\[1\]: 0 must be above 0"),
        ("problem: mnist\nperturb: {loss_thresholds: [0.1, 0.1]}", "must all be different"),
        ("problem: mnist\nperturb: {landscape_levels: [7], shards: 2}\ntrain: {dataset_quantities: [5]}",
         "landscape_levels: 7 is above the largest"),
        ("problem: mnist\nvolume: {subset_sizes: [5, 20]}\nperturb: {num_directions: 10}",
         "volume.subset_sizes: 20 is above perturb.num_directions, 10"),
        ("problem: mnist\nanalysis: {loss_threshold: 0.2}", r"analysis.loss_threshold: 0.2 is not one of"),
        ("problem: mnist\nanalysis: {landscape: 7}", r"analysis.landscape: 7 is not one of \[0, "),
        ("problem: mnist\nvolume: {acc_threshold: 2}", "volume.acc_threshold: 2 must be 1 or less"),
        ("problem: mnist\nruns: {model_seeds: [0, 1]}", "2 model_seeds and 1 data_seeds: must be as many"),
        ("problem: mnist\nruns: {model_seeds: [0, 0], data_seeds: [1, 1]}", "same pair of seeds twice"),
        ("problem: mnist\nruns: {model_seeds: [-1]}", r"runs.model_seeds\[0\]: -1 must be 0 or more"),
        ("problem: mnist\nproblem: mnist", "not valid YAML at line 2: problem twice"),
        ("problem: [", "not valid YAML at line"),
        ("\tproblem: x", "not valid YAML at line 1"),
        ("mnist", "must hold keys and values"),
        ("", "must hold keys and values"),
    ],
)  # fmt: skip
def test_one_line_that_names_file_key_and_value(text, told):
    with pytest.raises(InputError, match=told) as caught:
        parse_experiment(text, Path("low_data/experiment.yaml"))
    message = str(caught.value)
    assert message.startswith("low_data/experiment.yaml: ") and "\n" not in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("runs: {model_seeds: [010], data_seeds: [9]}", "010: numbers have no leading zeros"),
        (
            f"runs: {{model_seeds: [{2**64}], data_seeds: [9]}}",
            rf"model_seeds\[0\]: {2**64} must be .* or less",
        ),
        (
            f"perturb: {{perturbation_seed: {2**63 - 3}, num_directions: 10}}",
            r"their sum must not pass 2\^63",
        ),
        ("model: {widths: {1: 2}}", "model: widths.1: the key 1 must be text"),
        ("model: {deep: [{a: {1: 2}}]}", r"model: deep\[0\].a.1: the key 1 must be text"),
        ("train: {<<: {epochs: 7}, epochs: 8, epochs: 9}", "epochs twice"),
        ("train: {<<: {epochs: 7}, <<: {epochs: 8}}", r"<< twice; several are written <<: \[\*one"),
        (f"train: {{epochs: {2**63}}}", rf"train.epochs: {2**63} must be {2**63 - 1} or less"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused(text, told):
    with pytest.raises(InputError, match=told):
        parse_experiment(f"problem: mnist\n{text}")


def test_merge_keys_and_infinity_are_read():
    text = "problem: mnist\ntrain: &base {epochs: 7, batch_size: 5}\nmodel: {wide: .inf}\n"
    assert parse_experiment(text).model == {"wide": float("inf")}
    merged = parse_experiment("problem: mnist\ntrain: {<<: {epochs: 7, batch_size: 5}, epochs: 8}").train
    assert (merged.epochs, merged.batch_size) == (8, 5)


def test_an_experiment_yaml_that_is_a_link_is_of_the_folder_it_lies_in(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "store" / "shared.yaml").write_text("problem: swiss_roll\n")
    (tmp_path / "work" / "experiment.yaml").symlink_to(tmp_path / "store" / "shared.yaml")
    assert read_experiment(tmp_path / "work").folder == tmp_path / "work"
    assert read_experiment(tmp_path / "work" / "experiment.yaml").folder == tmp_path / "work"


def test_a_missing_file_tells_how_to_write_one(tmp_path):
    with pytest.raises(InputError, match=r"experiment\.yaml: does not exist; .* new"):
        read_experiment(tmp_path)
    (tmp_path / "experiment.yaml").write_bytes(b"problem: \xff")
    with pytest.raises(InputError, match="cannot be read"):
        read_experiment(tmp_path)


# --- against the data


def experiment_in(folder: Path, text: str) -> Experiment:
    (folder / "experiment.yaml").write_text(text)
    return read_experiment(folder)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("problem: swiss_rol", 'problem "swiss_rol" is unknown .did you mean "swiss_roll"'),
        (
            "problem: swiss_roll\nmodel: {hiden_dims: [3]}",
            'takes no "hiden_dims" .did you mean "hidden_dims"',
        ),
        ("problem: swiss_roll\nmodel: {model_class: MPL}", 'model_class "MPL".*mean "MLP"'),
        (
            "problem: swiss_roll\ntrain: {dataset_quantities: [0, 99999]}",
            "train.dataset_quantities: 99,999 samples",
        ),
        ("problem: swiss_roll\ntrain: {base_data_size: 99999}", "train.base_data_size: 99,999 samples"),
        ("problem: swiss_roll\ntrain: {test_size: 99999}", "train.test_size 99999"),
        (
            "problem: swiss_roll\ntrain: {base_imbalance: {labels: [7], ratio: 0.5}}",
            "train.base_imbalance: labels",
        ),
        ("problem: mine.py:Mine", "no mine.py in"),
    ],
)
def test_what_the_data_do_not_have(tmp_path, text, told):
    with pytest.raises(InputError, match=told) as caught:
        check_against_data(experiment_in(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path / "experiment.yaml")) and "\n" not in str(caught.value)


def test_noise_may_exceed_the_data(tmp_path):
    text = "problem: swiss_roll\ntrain: {dataset_type: noise, dataset_quantities: [0, 20000]}"
    check_against_data(experiment_in(tmp_path, text))


def test_a_missing_data_set_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("VOLUME_LIB_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(
        "torchvision.datasets.MNIST.download", lambda self: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(InputError, match="VOLUME_LIB_DATA") as caught:
        check_against_data(experiment_in(tmp_path, "problem: mnist"))
    assert str(tmp_path / "nowhere") in str(caught.value)


# --- the notebooks and the functions behind them


def parameters_cell(step: str) -> dict:
    cells = json.loads(template_path(step).read_text())["cells"]
    (cell,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    lines = ast.parse("".join(cell["source"])).body
    return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}


@pytest.mark.parametrize("step", STEPS)
def test_sections_are_their_notebooks_parameters(step):
    """The same names; and the same values, except where the file knows better."""
    cell = parameters_cell(step)
    given = parse_experiment("problem: swiss_roll").parameters(step, RunSeeds(0, 0))
    if step == "analysis":
        assert set(given) | {"experiment_dir"} == set(cell)
        return
    if step in READ_MODELS:  # the shipped problem is the one that the data set names
        assert cell.pop("problem") is None
    assert given == cell, NOTEBOOKS[step]
    own = parse_experiment("problem: mine.py:Mine").parameters(step, RunSeeds(0, 0))
    named = {"problem": "mine.py:Mine"} if step in (*READ_MODELS, "train") else {}
    assert own == {**cell, **named}


def test_sections_are_arguments_of_the_functions_with_their_defaults():
    def arguments(*functions):
        found = {}
        for function in functions:
            found |= {name: p.default for name, p in inspect.signature(function).parameters.items()}
        return found

    def defaults(section):
        return {name: field.default for name, field in section.model_fields.items()}

    def same(section, *functions, but=()):
        told = arguments(*functions)
        for name, default in defaults(section).items():
            assert name in but or told[name] in (default, inspect.Parameter.empty), name

    same(Train, splits.make_dataset, training.train_models)
    same(Perturb, sweep.run_sweep, but=["shards"])
    same(Volume, volume.estimate_volumes, but=["loss_thresholds"])
    same(Accuracy, cutoffs.test_accuracies)
    same(Cutoff, cutoffs.loss_against_data, but=["loss_threshold"])
    call, file = arguments(integrate), defaults(Integrate)
    for name in ("reference", "region", "gap", "chains", "seed", "device"):
        assert call[name] == file[name], name
    assert (
        file["minutes"] == MINUTES and call["minutes"] is None
    )  # which means so many, or a converged result
    call, file = arguments(measure), defaults(Perturb)
    for name in ("acc_threshold", "max_coefficient", "xrtol_rest", "device", "memory_budget"):
        assert call[name] == file[name], name
    assert [call["threshold"]] == file["loss_thresholds"] and call["directions"] == file["num_directions"]
    assert (call["scaling"], call["seed"]) == (file["scaling"], file["perturbation_seed"])


def test_choices_are_the_librarys():
    def choices(section, name):
        options = section.model_fields[name].annotation.__args__
        return {
            choice
            for option in options
            for choice in getattr(option, "__args__", (option,))
            if choice is not type(None)
        }

    assert choices(Train, "optimizer") == set(OPTIMIZERS)
    assert choices(Train, "lr_schedule") == set(SCHEDULES)
    assert choices(Perturb, "scaling") == set(SCALINGS)


def test_reading_an_experiment_needs_no_torch():
    """Commands that only look answer at once."""
    import subprocess

    code = "import sys, volume_lib.batch, volume_lib.cli; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
