"""The notebooks as people get them and as batches run them, on two spirals and on real MNIST."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tiny_experiment as tiny
import torch

from volume_lib import batch, storage
from volume_lib.batch import runner, steps
from volume_lib.batch.kernels import Execution
from volume_lib.batch.resources import Resources
from volume_lib.experiment.file import read_experiment
from volume_lib.problems import data_root
from volume_lib.volume import words
from volume_lib.volume.radii import threshold_radii

ROOT = Path(__file__).parents[1]
TEMPLATES = [steps.template_path(step) for step in steps.NOTEBOOKS if step != "analysis"]
HELPERS = sorted((ROOT / "experiments").glob("*.ipynb"))
ONE = Resources(threads=1)


def parameters_cell(notebook):
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


def test_the_notebooks_that_there_must_be():
    assert sorted(path.name for path in TEMPLATES) == sorted(
        p.name for p in (ROOT / "template").glob("*.ipynb")
    )
    assert [path.name for path in HELPERS] == [
        "Run Random Perturbs Parallel.ipynb", "Run Volume Parallel.ipynb", "cleanup_files.ipynb",
        "full_pipeline.ipynb", "make_dataset_notebooks.ipynb", "propagate_file.ipynb",
    ]  # fmt: skip


@pytest.mark.parametrize("path", [*TEMPLATES, *HELPERS], ids=lambda path: path.stem)
def test_shipped_notebooks_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3" and "widgets" not in notebook.metadata
    parameters_cell(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            assert "matplotlib" not in cell.source  # plots alone knows it


# --- one run: by hand, and by a batch


SMALL = {"epochs": 300, "dataset_quantities": [0, 20], "num_directions": 12}
ROUGH = {"minutes": 0.001, "chains": 2, "landscape_levels": [20], "region": "connected"}
"""Of an integration: its files and figures, not its digits."""


def by_hand(path: Path, folder: Path, **changes) -> None:
    """Copy a notebook, edit its parameters cell, run all cells: what people do in JupyterLab."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    cell = parameters_cell(notebook)
    for name, value in changes.items():
        cell.source = re.sub(rf"^{name} = .*$", f"{name} = {value!r}", cell.source, flags=re.MULTILINE)
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    nbformat.write(notebook, folder / path.name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run by hand, and as far as its rays by steps of a batch."""
    folder = tmp_path_factory.mktemp("runs")
    hand = folder / "hand" / "model_0_data_0"
    hand.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        for path in TEMPLATES:
            by_hand(path, hand, **(ROUGH if path.name == storage.INTEGRATION_NOTEBOOK else SMALL))
    given = "train: {epochs: 300, dataset_quantities: [0, 20]}\nperturb: {num_directions: 12}\n"
    (folder / "batch").mkdir()
    (folder / "batch" / "experiment.yaml").write_text("problem: swiss_roll\n" + given)
    experiment = read_experiment(folder / "batch")
    for job in steps.jobs_of(experiment, experiment.run_seeds[0])[:2]:
        result = runner.run_step(job, ONE)
        assert result.state == "done", result
    return hand, folder / "batch" / "model_0_data_0"


def test_the_same_run_twice_gives_the_same_models_and_radii(runs):
    one, other = (storage.load_models_and_data(run / "models_and_data") for run in runs)
    assert torch.equal(one[1].x_additional, other[1].x_additional)
    for first, second in zip(one[0], other[0], strict=True):
        for name, weights in first.model.state_dict().items():
            assert torch.equal(weights, second.model.state_dict()[name])
    one, other = (storage.list_sweeps(run) for run in runs)
    assert {level: len(files) for level, files in one.items()} == {0: 2, 20: 1}
    for level, files in one.items():
        for path, same in zip(files, other[level], strict=True):
            radii = [threshold_radii(storage.load_sweep(file), 0.1).radius for file in (path, same)]
            np.testing.assert_allclose(*radii, rtol=1e-6)


def test_every_file_of_a_run_is_there(runs):
    expected = {
        "models_and_data/dataset.pt", "models_and_data/model_additional_0.pt",
        "models_and_data/model_additional_20.pt",
        "data_0/data_0.npz", "data_0/data_20.npz", "data_20/data_20.npz",
        "data_0/loss_0.1/results.json", "data_20/loss_0.1/results.json", "cutoffs/cutoffs.json",
        "cutoffs/loss_curves.png", "test_accuracies.npz", "log_volumes_loss_0.1.png",
        "data_20/loss_0.1/mass.json", "data_20/loss_0.1/mass_integrands.png",
    }  # fmt: skip
    run = runs[0]
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert expected <= there
    # and everything that is there is known, so that it can be cleaned up
    known = [path for step in steps.NOTEBOOKS for path in storage.list_outputs(run, step, figures=True)]
    known_names = {path.relative_to(run).as_posix() for path in known}
    assert known_names == {name for name in there if not name.endswith(".ipynb")}


PRIMARY = "test_loss_values log_exp_r_n_values model_data_levels loss_landscape_data_param train_loss_values "
PRIMARY += (
    "num_params dataset_type top_r_vals top_r_val_seeds loss_predicts_minimas loss_ordering_violations "
)
PRIMARY += "test_loss_ranks log_exp_r_n_ranks data_level_ranks test_acc_values loss_threshold num_directions "
PRIMARY += "num_censored log_volume_values log_exp_r_n_ci log_exp_r_n_resolution effective_directions "
PRIMARY += "subset_sizes radii_rank_probabilities radii_rank_probabilities_full"


def test_files_have_the_documented_keys(runs):
    run = runs[0]
    results = json.loads((run / "data_0" / "loss_0.1" / "results.json").read_text())
    assert set(PRIMARY.split()) <= set(results)
    assert results["model_data_levels"] == [0, 20] and results["num_directions"] == 12
    for key in ("test_loss_values", "log_exp_r_n_values", "top_r_vals", "log_exp_r_n_ci"):
        assert len(results[key]) == 2
    curves = json.loads((run / "cutoffs" / "cutoffs.json").read_text())
    assert set(curves) == {"Model_0", "Model_20", "digest"}
    assert set(curves["Model_20"]) == {
        "additional_data", "base_train_size", "loss_curve", "weights_digest",
    }  # fmt: skip
    assert len(curves["Model_20"]["loss_curve"]) == 10 + 20
    sizes, accuracies = storage.load_test_accuracies(run)
    assert sizes.tolist() == [10, 30] and np.all((accuracies > 0) & (accuracies <= 1))


def test_results_agree_with_the_rays(runs):
    """The log volume of the file is the log mean power of the radii in the sweep's file."""
    run = runs[0]
    results = storage.load_results(run / "data_0" / "loss_0.1" / "results.json")
    sweep = storage.load_sweep(run / "data_0" / "data_20.npz")
    radii = threshold_radii(sweep, 0.1).radius
    powers = results["num_params"] * np.log(radii)
    expected = powers.max() + math.log(np.mean(np.exp(powers - powers.max())))
    assert results["log_exp_r_n_values"][1] == pytest.approx(expected, rel=1e-12)
    assert sorted(radii)[::-1][:10] == results["top_r_vals"][1]


def test_the_volume_notebook_shows_what_each_number_is_worth(runs):
    """Under each landscape's table stands the sentence of its results.json."""
    run = runs[0]
    cells = nbformat.read(run / "Volume Estimation Pipeline.ipynb", as_version=4).cells
    data = [o.data for cell in cells for o in cell.get("outputs", []) if "data" in o]
    shown = [entry.get("text/markdown") or entry.get("text/html") for entry in data]
    for level in (0, 20):
        results = storage.load_results(storage.results_path(run, "data", level, 0.1))
        sentence = words.describe_order(results)
        assert sentence in shown
        assert shown[shown.index(sentence) - 1] == words.table(results)._repr_html_()


# --- MNIST


def test_all_five_notebooks_on_mnist(tmp_path):
    if not (data_root() / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"no MNIST in {data_root()}; set VOLUME_LIB_DATA to the folder that holds MNIST/raw")
    (tmp_path / "experiment.yaml").write_text(
        "problem: mnist\nmodel: {hidden_dims: [32]}\nruns: {model_seeds: [3], data_seeds: [4]}\n"
        "train: {epochs: 12, batch_size: 100, base_data_size: 60, dataset_quantities: [0, 540, 1940],\n"
        "        test_size: 1000, learning_rate: 0.01, target_train_loss: 0.05}\n"
        "perturb: {num_directions: 6, loss_thresholds: [0.5, 1.0]}\n"
    )
    experiment = read_experiment(tmp_path)
    for job in steps.jobs_of(experiment, experiment.run_seeds[0]):
        result = runner.run_step(job, ONE)
        assert result.state == "done", result
    run = tmp_path / "model_3_data_4"
    models, dataset = storage.load_models_and_data(run / "models_and_data")
    assert [model.value for model in models] == [0, 540, 1940] and dataset.x_test.shape[0] == 1000
    losses = [model.test_loss[-1] for model in models]
    assert losses[0] > losses[1] > losses[2]  # more data, better model
    x, y = dataset.upto(540)
    assert float((models[1].model(x).argmax(1) == y).float().mean()) == pytest.approx(
        models[1].train_accs[-1]
    )
    for threshold in (0.5, 1.0):
        results = storage.load_results(storage.results_path(run, "data", 0, threshold))
        assert results["num_params"] == 784 * 32 + 32 + 32 * 10 + 10
        assert results["model_data_levels"] == [0, 540, 1940]
        volumes = results["log_exp_r_n_values"]
        assert all(math.isfinite(value) for value in volumes)
        assert volumes[0] > volumes[2]  # in the smallest landscape, the minimum of most data is the smaller
        assert max(results["log_exp_r_n_resolution"]) < results["num_params"] * 2e-6


# --- a problem of one's own


def readme_blocks() -> dict[str, str]:
    """File name → the code block of experiments/README.md that shows it."""
    text = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"[^\n]*`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)```", text, flags=re.DOTALL))


def test_the_readmes_own_problem_runs(tmp_path):
    blocks = readme_blocks()
    (tmp_path / "my_problem.py").write_text(blocks["my_problem.py"])
    (tmp_path / "experiment.yaml").write_text(blocks["experiment.yaml"])
    experiment = read_experiment(tmp_path)
    assert experiment.problem == "my_problem.py:MyProblem"
    batch.make(tmp_path)
    jobs = steps.jobs_of(experiment, experiment.run_seeds[0])
    for job in jobs:
        result = runner.run_step(job, ONE)
        assert result.state == "done", result
    assert steps.judge(jobs[0]).state == "done"
    (tmp_path / "my_problem.py").write_text(blocks["my_problem.py"] + "\nCHANGED = True\n")
    assert steps.judge(jobs[0]).state == "pending"  # a problem's file is an input


# --- the helper notebooks


def test_helper_notebooks_on_an_experiment(tmp_path):
    experiment = tiny.make(tmp_path / "e", runs=2)
    extra = tmp_path / "extra.py"
    extra.write_text("x = 1")
    given = {
        "make_dataset_notebooks.ipynb": {},
        "full_pipeline.ipynb": {"steps": ["train"], "workers": 1},
        "propagate_file.ipynb": {"file": str(extra)},
        "Run Random Perturbs Parallel.ipynb": {"workers": 1},
        "cleanup_files.ipynb": {"what": "perturbs", "delete": True},
    }
    for name, parameters in given.items():
        path = tmp_path / name
        path.write_bytes((ROOT / "experiments" / name).read_bytes())
        Execution(path, {"experiment_dir": "e", **parameters}, ONE.environment()).run()
        outputs = [o for cell in nbformat.read(path, as_version=4).cells for o in cell.get("outputs", [])]
        tables = [o.data["text/html"] for o in outputs if o.output_type == "execute_result"]
        assert "<table>" in tables[-1] and "model_1_data_1" in tables[-1], name
    for run in experiment.run_seeds:
        folder = tmp_path / "e" / run.name
        counts = tiny.executions(folder)
        assert counts["end train"] == counts["end perturb"] == 1 and counts["end volume"] == 0
        assert (folder / "extra.py").exists() and not (folder / "data_0").exists()


def test_the_parallel_volume_notebook_runs_what_follows_the_rays():
    source = "".join(cell.source for cell in nbformat.read(HELPERS[1], as_version=4).cells)
    assert 'steps=["volume", "cutoff", "accuracy", "analysis"]' in source
