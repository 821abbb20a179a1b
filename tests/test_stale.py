"""Files of a run that do not belong together are named, and nothing goes on with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from volume_lib import cutoffs, storage, volume
from volume_lib.analysis import load_experiment
from volume_lib.errors import InputError
from volume_lib.problems import get_problem
from volume_lib.problems.splits import make_dataset
from volume_lib.storage.weights import weights_digest
from volume_lib.sweep.check import check_models
from volume_lib.sweep.run import run_sweep
from volume_lib.training.runs import train_models

SWISS = get_problem("swiss_roll")


def train(run, *, model_seed=0, data_seed=10, levels=(0, 20), epochs=40, learning_rate=0.003):
    dataset = make_dataset(SWISS, base_data_size=10, dataset_quantities=list(levels), data_seed=data_seed)
    folder = run / "models_and_data"
    models = train_models(
        SWISS, dataset, folder=folder, model={"hidden_dims": [8]}, model_seed=model_seed, epochs=epochs,
        batch_size=8, learning_rate=learning_rate, target_train_loss=None,
    )  # fmt: skip
    return models, dataset


def measure(run, threshold=2.0):
    for level, sweeps in storage.load_sweeps(run).items():
        found = volume.estimate_volumes(sweeps, threshold, bootstrap=10)
        storage.save_results(storage.results_path(run, "data", level, threshold), found)


@pytest.fixture
def run(tmp_path):
    """All files of one run, as the notebooks write them."""
    folder = tmp_path / "model_0_data_10"
    models, dataset = train(folder)
    run_sweep(SWISS, models, dataset, folder, num_directions=3, loss_thresholds=[2.0])
    measure(folder)
    storage.save_cutoffs(folder, cutoffs.loss_against_data(SWISS, models, dataset))
    storage.save_test_accuracies(folder, *cutoffs.test_accuracies(SWISS, models, dataset), models)
    return folder


def retrained(run, **settings):
    """The same run with models of another training."""
    shutil.rmtree(run / "models_and_data", ignore_errors=True)
    train(run, **settings)


def test_files_of_one_training_belong_together(run):
    models, _ = storage.load_models_and_data(run / "models_and_data")
    digests = [weights_digest(trained.model.state_dict()) for trained in models]
    assert len(set(digests)) == 2
    (found,) = [
        storage.load_results(p) for (_, level, _), p in storage.list_results(run).items() if level == 0
    ]
    assert found["weights_digests"] == digests
    assert list(storage.accuracies_weights(run).values()) == digests
    assert sorted(storage.load_sweeps(run)) == [0, 20]
    assert load_experiment(run.parent).left_out == {}


def test_old_rays_beside_new_models(run):
    retrained(run, model_seed=1)
    with pytest.raises(
        InputError, match=r"data_0\.npz: its rays start at other weights than those of .*model_add"
    ):
        storage.load_sweeps(run)


def test_rays_of_two_trainings_without_the_models(run):
    shutil.copytree(run / "data_0", run / "kept")
    models, dataset = train(run.parent / "other", model_seed=1)
    shutil.rmtree(run / "models_and_data")
    shutil.rmtree(run / "data_20")
    run_sweep(SWISS, models, dataset, run, num_directions=3, loss_thresholds=[2.0], landscape_levels=[20])
    shutil.rmtree(run / "data_0")
    shutil.copytree(run.parent / "model_0_data_10" / "kept", run / "data_0")
    with pytest.raises(InputError, match="rays start at other weights"):
        storage.load_sweeps(run)


def test_rays_on_other_samples(run):
    models, _ = storage.load_models_and_data(run / "models_and_data")
    other = make_dataset(SWISS, base_data_size=10, dataset_quantities=[0, 20], data_seed=11)
    shutil.rmtree(run / "data_0")
    run_sweep(SWISS, models, other, run, num_directions=3, loss_thresholds=[2.0], landscape_levels=[0])
    with pytest.raises(InputError, match=r"data_0\.npz: its losses are of other samples"):
        storage.load_sweeps(run)


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"learning_rate": 0.1}, "learning_rate 0.1"),
        ({"epochs": 50}, "epochs 50"),
        ({"model_seed": 3}, "model_seed 3"),
    ],
)
def test_models_of_two_trainings(run, settings, named):
    """What an interrupted training, or a copied file, leaves behind."""
    train(run.parent / "other", **settings)
    name = "model_additional_20.pt"
    shutil.copy(run.parent / "other" / "models_and_data" / name, run / "models_and_data" / name)
    with pytest.raises(InputError, match=f"{name}: {named}.*two trainings"):
        storage.load_models_and_data(run / "models_and_data")


def test_models_beside_other_data(run):
    other = make_dataset(SWISS, base_data_size=10, dataset_quantities=[0, 20], data_seed=11)
    storage.save_dataset(run / "models_and_data", other)
    with pytest.raises(InputError, match=r"model_additional_0\.pt: was trained on other samples"):
        storage.load_models_and_data(run / "models_and_data")


def test_volumes_cutoffs_and_accuracies_of_other_weights_are_left_out_by_name(run):
    experiment, second = run.parent, run.parent / "model_1_data_11"
    shutil.copytree(run, second)
    shutil.rmtree(second / "models_and_data")
    assert load_experiment(experiment).left_out == {}  # a shipped run has no models: what is there agrees
    retrained(second, model_seed=5)
    (why,) = load_experiment(experiment).left_out.values()
    assert "data_0/loss_2/results.json" in why and "other weights of minimum 0" in why
    models, dataset = storage.load_models_and_data(second / "models_and_data")
    run_sweep(SWISS, models, dataset, second, num_directions=3, loss_thresholds=[2.0])
    measure(second)
    (why,) = load_experiment(experiment).left_out.values()
    assert why.startswith("cutoffs/cutoffs.json")
    storage.save_cutoffs(second, cutoffs.loss_against_data(SWISS, models, dataset))
    (why,) = load_experiment(experiment).left_out.values()
    assert why.startswith("test_accuracies.npz")
    storage.save_test_accuracies(second, *cutoffs.test_accuracies(SWISS, models, dataset), models)
    assert load_experiment(experiment).left_out == {}


@pytest.mark.parametrize("name", ["cutoffs/cutoffs.json", "data_0/loss_2/results.json"])
def test_one_wrong_value_leaves_one_run_out(run, name):
    second = run.parent / "model_1_data_11"
    shutil.copytree(run, second)
    content = json.loads((second / name).read_text())
    content.pop("digest")
    (content["Model_0"] if "cutoffs" in name else content)[
        "loss_curve" if "cutoffs" in name else "num_params"
    ] = "x"
    (second / name).write_text(json.dumps(content))
    found = load_experiment(run.parent)
    assert set(found.table["run"]) == {run.name}
    assert name.rpartition("/")[2] in found.left_out[second.name]


def test_files_of_a_users_under_names_alike_are_left_out_and_nothing_waits_for_them(run):
    before = {step: storage.list_outputs(run, step) for step in ("train", "perturb")}
    rays, models = run / "data_0", run / "models_and_data"
    train(run.parent / "other", model_seed=1)
    shutil.copy(
        run.parent / "other" / "models_and_data" / "model_additional_20.pt", models / "model_backup_5.pt"
    )
    torch.save({"a": 1}, models / "model_notes_3.pt")
    shutil.copy(rays / "data_20.npz", rays / "my_rays_3.npz")
    np.savez(rays / "notes_4.npz", a=1)
    (rays / "folder_1.npz").mkdir()
    with pytest.warns(UserWarning, match=r"data_0: folder_1\.npz, my_rays_3\.npz, notes_4\.npz left out"):
        found = storage.load_sweeps(run)
    assert {level: [sweep.value for sweep in some] for level, some in found.items()} == {0: [0, 20], 20: [20]}
    with pytest.warns(UserWarning, match="model_backup_5.pt, model_notes_3.pt left out"):
        assert [trained.value for trained in storage.load_models_and_data(models)[0]] == [0, 20]
    assert before == {step: storage.list_outputs(run, step) for step in ("train", "perturb")}


def test_rays_under_the_name_of_others(run):
    shutil.copy(run / "data_0" / "data_20.npz", run / "data_0" / "data_0.npz")
    with pytest.raises(InputError, match=r"data_0/data_0\.npz: holds the rays of data_0/data_20\.npz"):
        storage.load_sweeps(run)
    shutil.copy(run / "data_20" / "data_20.npz", run / "data_0" / "data_0.npz")
    with pytest.raises(InputError, match=r"data_0/data_0\.npz: holds the rays of data_20/data_20\.npz"):
        storage.load_sweeps(run)


def test_a_recorded_loss_is_compared_on_its_own_samples_alone(run, capsys):
    models, _ = storage.load_models_and_data(run / "models_and_data")
    fewer = make_dataset(SWISS, base_data_size=10, dataset_quantities=[0], data_seed=10)
    check_models(SWISS, models, fewer, [2.0], torch.device("cpu"))
    assert "recorded" not in capsys.readouterr().out
    other = make_dataset(SWISS, base_data_size=10, dataset_quantities=[0, 20], data_seed=11)
    check_models(SWISS, models, other, [2.0], torch.device("cpu"))
    assert "the record is not of these weights on these samples" in capsys.readouterr().out


def test_weights_that_were_changed_in_their_file_are_refused(run):
    path = run / "models_and_data" / "model_additional_0.pt"
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).mul_(2)
    torch.save(content, path)
    with pytest.raises(InputError, match=r"model_additional_0\.pt: weights_digest"):
        storage.load_models_and_data(run / "models_and_data")
    del content["weights_digest"]
    torch.save(content, path)
    storage.load_models_and_data(run / "models_and_data")
    with pytest.raises(InputError, match="rays start at other weights"):
        storage.load_sweeps(run)


def test_volumes_are_checked_without_torch(run):
    code = (
        "import sys; from volume_lib import storage; storage.load_sweeps('.'); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=run, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_digests_do_not_depend_on_what_holds_the_weights():
    state = {"a": torch.randn(3, 4), "b": torch.arange(5)}
    arrays = {f"model.{name}": value.numpy() for name, value in state.items()}
    assert weights_digest(state) == weights_digest(arrays)
    half = {"a": torch.randn(3).bfloat16()}
    assert weights_digest(half) == weights_digest({"a": half["a"].float().numpy()})
    changed = {"a": np.nextafter(arrays["model.a"], np.float32(9)), "b": arrays["model.b"]}
    assert weights_digest(changed) != weights_digest(state)


YAML = """\
problem: swiss_roll
model: {hidden_dims: [8]}
runs: {model_seeds: [0, 1], data_seeds: [10, 10]}
train: {base_data_size: 10, dataset_quantities: [0, 20], epochs: 40, batch_size: 8, learning_rate: 0.003,
        target_train_loss: null}
perturb: {num_directions: 3, loss_thresholds: [2.0]}
"""


def two_runs(tmp_path):
    """An experiment whose second run's files say the same settings."""
    for seed in (0, 1):
        folder = tmp_path / f"model_{seed}_data_10"
        models, dataset = train(folder, model_seed=seed)
        run_sweep(SWISS, models, dataset, folder, num_directions=3, loss_thresholds=[2.0])
        measure(folder)
    (tmp_path / "experiment.yaml").write_text(YAML)
    return tmp_path


def test_runs_of_other_settings_are_left_out_by_name(tmp_path):
    folder = two_runs(tmp_path)
    assert load_experiment(folder).left_out == {}
    second = folder / "model_1_data_10"
    kept = folder.parent / "kept"
    shutil.copytree(second, kept)

    def left_out(change):
        shutil.rmtree(second)
        shutil.copytree(kept, second)
        change()
        found = load_experiment(folder)
        assert set(found.table["run"]) == {"model_0_data_10"}
        return found.left_out["model_1_data_10"]

    def another_training():
        shutil.rmtree(second)
        models, dataset = train(second, model_seed=1, epochs=50)
        run_sweep(SWISS, models, dataset, second, num_directions=3, loss_thresholds=[2.0])
        measure(second)

    def another_sweep(**settings):
        models, dataset = storage.load_models_and_data(second / "models_and_data")
        for level in (0, 20):
            shutil.rmtree(second / f"data_{level}")
        asked = {"num_directions": 3, "loss_thresholds": [2.0]} | settings
        run_sweep(SWISS, models, dataset, second, **asked)
        measure(second)

    def only_volumes(**settings):
        """Rays that were cleaned away; the volumes still say how many there were."""
        another_sweep(**settings)
        for path in second.glob("data_*/*.npz"):
            path.unlink()

    def copied():
        """A copy of the other run under this one's name."""
        shutil.rmtree(second)
        shutil.copytree(folder / "model_0_data_10", second)

    assert "epochs is 50, asked for 40 in experiment.yaml" in left_out(another_training)
    assert "num_directions is 2, asked for 3" in left_out(lambda: another_sweep(num_directions=2))
    assert "scaling is 'none', asked for 'filter'" in left_out(lambda: another_sweep(scaling="none"))
    assert "loss_thresholds is [1.0, 2.0]" in left_out(lambda: another_sweep(loss_thresholds=[1.0, 2.0]))
    assert "results.json: num_directions is 2" in left_out(lambda: only_volumes(num_directions=2))
    assert "model_seed is 0, asked for 1" in left_out(copied)


def test_a_run_whose_results_cannot_be_read_is_not_missing(tmp_path):
    folder = two_runs(tmp_path)
    path = folder / "model_1_data_10" / "data_0" / "loss_2" / "results.json"
    path.write_text(path.read_text()[:-40])
    assert "data_0/loss_2/results.json: truncated" in load_experiment(folder).left_out["model_1_data_10"]


def test_a_run_that_experiment_yaml_no_longer_names_is_left_out(tmp_path):
    folder = two_runs(tmp_path)
    text = YAML.replace("[0, 1]", "[0]").replace("[10, 10]", "[10]")
    (folder / "experiment.yaml").write_text(text)
    found = load_experiment(folder)
    assert set(found.table["run"]) == {"model_0_data_10"}
    assert list(found.left_out) == ["model_1_data_10"]


@pytest.mark.parametrize(
    "written, said",
    [
        ("hidden_dims: [8]", "hidden_dims"),
        ("epochs: 40", "epochs"),
        ("batch_size: 8", "batch_size"),
        ("base_data_size: 10", "base_data_size"),
    ],
)
def test_changed_settings_leave_every_run_out(tmp_path, written, said):
    folder = two_runs(tmp_path)
    (folder / "experiment.yaml").write_text(
        YAML.replace(written, written.replace("40", "9").replace("8", "9").replace("10", "9"))
    )
    with pytest.raises(InputError, match=rf"no complete run.*{said} is .*asked for \[?9"):
        load_experiment(folder)
