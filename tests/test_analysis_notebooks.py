"""The analysis and the visualization notebooks, executed as a reader would; the HTML page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import older_experiment
import pytest
import synthetic_experiment as known
from typer.testing import CliRunner

from volume_lib import storage
from volume_lib.batch.kernels import Execution
from volume_lib.batch.resources import Resources
from volume_lib.cli import app
from volume_lib.problems import get_problem
from volume_lib.problems.splits import make_dataset
from volume_lib.sweep.run import run_sweep
from volume_lib.training.runs import train_models

ROOT = Path(__file__).resolve().parents[1]
COLAB = ROOT / "start_on_colab.ipynb"
NOTEBOOKS = [
    COLAB,
    ROOT / "analyze_experiments_data.ipynb",
    *sorted((ROOT / "visualization").glob("*.ipynb")),
]
PARAMETERS = {
    "perturbation_histograms": {"loss_threshold": 0.9},
    "loss_landscape_slices": {"points": 7, "loss_threshold": 0.9},
    "landscape_animation": {"points": 7, "frames": 3},
    "decision_boundaries": {"loss_threshold": 0.9},
}
FIGURES = {
    "perturbation_histograms": ["radii_histogram", "radii_summary", "radii_tail", "radii_by_landscape"],
    "loss_landscape_slices": ["plane_through_minima", "random_plane_0", "random_plane_40"],
    "landscape_animation": ["landscape"],
    "decision_boundaries": ["decisions_largest", "decisions_smallest"],
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of the swiss roll: three minima, hardly trained, a few directions."""
    folder = tmp_path_factory.mktemp("experiment") / "model_0_data_1"
    problem = get_problem("swiss_roll")
    dataset = make_dataset(
        problem, base_data_size=20, dataset_quantities=[0, 20, 40], data_seed=1, test_size=50
    )
    settings = {"model": {"hidden_dims": [8]}, "model_seed": 0, "epochs": 3, "batch_size": 20}
    models = train_models(problem, dataset, folder=folder / "models_and_data", learning_rate=0.01, **settings)
    storage.save_dataset(folder / "models_and_data", dataset)
    run_sweep(problem, models, dataset, folder, num_directions=8, loss_thresholds=[0.9])
    return folder


def execute(source: Path, target: Path, parameters: dict) -> nbformat.NotebookNode:
    target.write_bytes(source.read_bytes())
    Execution(target, parameters, Resources(threads=1).environment()).run()
    return nbformat.read(target, as_version=4)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs_and_can_be_given_parameters(notebook):
    content = json.loads(notebook.read_text())
    assert content["metadata"]["kernelspec"]["name"] == "python3" and "widgets" not in content["metadata"]
    cells = content["cells"]
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None
        for cell in cells
        if cell["cell_type"] == "code"
    )
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) == 1


@pytest.mark.parametrize("name", PARAMETERS)
def test_visualization_notebooks_run_and_leave_their_figures(name, run_dir, tmp_path):
    parameters = {"run_dir": str(run_dir), **PARAMETERS[name]}
    executed = execute(ROOT / "visualization" / f"{name}.ipynb", tmp_path / f"{name}.ipynb", parameters)
    assert not any(
        output.output_type == "error" for cell in executed.cells for output in cell.get("outputs", [])
    )
    for figure in FIGURES[name]:
        assert list((run_dir / "visualization").glob(f"{figure}.*")), figure


def test_scale_invariance_runs_and_its_table_holds_the_exact_changes(tmp_path):
    name = tmp_path / "scale_invariance.ipynb"
    parameters = {"directions": 20, "samples": 10, "hidden_dims": [6, 5], "output": str(tmp_path / "figures")}
    executed = execute(ROOT / "visualization" / "scale_invariance.ipynb", name, parameters)
    told = "".join(o.get("text", "") for cell in executed.cells for o in cell.get("outputs", []))
    assert not any(o.output_type == "error" for cell in executed.cells for o in cell.get("outputs", []))
    # two inputs and a bias for each of six units go up, five times six weights down: −12 log 4
    weights = next(
        line for line in told.splitlines() if line.startswith("filter, weights alone") and " 4 " in line
    )
    assert weights.split()[-4] == "0.00" and weights.split()[-2] == weights.split()[-3] == "-24.95"
    for figure in ("log_exp_r_n", "log_volume", "log_mass_rays"):
        assert (tmp_path / "figures" / f"{figure}.png").is_file()


def test_the_notebook_for_colab_runs_alone(run_dir, tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "model_0_data_10").symlink_to(run_dir)  # in place of an example of a minute
    executed = execute(COLAB, tmp_path / "colab.ipynb", {"loss_threshold": 0.9})
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert not any(output.output_type == "error" for output in outputs)
    assert "volume_lib is installed." in outputs[0]["text"]
    told = "".join(str(output.get("data", "")) for output in outputs)
    assert "image/png" in told and "log volume" in told


@pytest.mark.parametrize("address", [None, "git+https://example.invalid/mine"])
def test_its_first_cell_installs_from_the_given_address_or_says_what_to_give(address, monkeypatch, capsys):
    first = next(cell for cell in json.loads(COLAB.read_text())["cells"] if cell["cell_type"] == "code")
    called = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("subprocess.run", lambda command, check: called.append((command[1:], check)))
    exec("".join(first["source"]).replace("install_from = None", f"install_from = {address!r}", 1), {})
    told = capsys.readouterr().out
    if address is None:
        assert not called and told.count("\n") == 1 and "set install_from above to the address" in told
    else:
        assert called == [(["-m", "pip", "install", "--quiet", address], True)] and not told


@pytest.mark.parametrize("writer", ["present", "older"])
def test_report_is_one_page_with_every_figure_inside(writer, tmp_path):
    folder = tmp_path / "low_data" / "base"
    if writer == "present":
        for seed in range(3):
            known.write_run(folder, seed)
    else:
        older_experiment.write_experiment(folder)
    (folder / "model_7_data_7").mkdir()
    result = CliRunner().invoke(app, ["report", str(folder)])
    assert result.exit_code == 0, result.output
    page = folder / "analysis" / "report.html"
    assert str(page) in result.output
    text = page.read_text()
    figures = sorted((folder / "analysis").glob("*.png"))
    count = 15 if writer == "present" else 14  # older results do not say how reliable the order is
    assert len(figures) == len(list((folder / "analysis").glob("*.pdf"))) == count
    assert text.count('src="data:image/png;base64') == count
    numbers = [int(number) for number in re.findall(r'alt="Figure (\d+)\. [^"]+"', text)]
    assert numbers == list(range(1, count + 1)) and text.count("<strong>Figure ") == count
    assert "left out: model_7_data_7" in text and "summary.csv" in text


def test_report_says_in_one_line_what_is_missing(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2 and "no run folders" in result.output
