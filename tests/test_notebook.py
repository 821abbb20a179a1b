"""What people read in the shipped notebooks; what these share: errors in one line, an example to look at."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from urllib.parse import unquote

import matplotlib.pyplot as plt
import nbformat
import pytest

from volume_lib import notebook, plots, storage
from volume_lib.batch.kernels import Execution, NotebookFailed
from volume_lib.batch.resources import Resources
from volume_lib.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = sorted(ROOT.glob("template/*.ipynb"))
ALL = [
    *TEMPLATES,
    *sorted(ROOT.glob("experiments/*.ipynb")),
    *sorted(ROOT.glob("visualization/*.ipynb")),
    ROOT / "analyze_experiments_data.ipynb",
    ROOT / "start_on_colab.ipynb",
]


def cells(path: Path, kind: str) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


@pytest.fixture(params=ALL, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_every_parameter_is_explained_beside_its_cell_or_in_it(path):
    (cell,) = (
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    prose = "\n".join(cells(path, "markdown"))
    for line in cell.source.splitlines():
        if match := re.match(r"(\w+) = ", line):
            assert f"`{match[1]}`" in prose or "#" in line, match[1]


def test_it_ends_with_what_comes_next_and_its_links_lead_somewhere(path):
    markdown = cells(path, "markdown")
    last = nbformat.read(path, as_version=4).cells[-1]
    assert last.cell_type == "markdown" and "**Next:** " in last.source
    headings = {line.lstrip("# ") for source in markdown for line in source.splitlines() if line[:1] == "#"}
    for target in re.findall(r"\]\(([^)]+)\)", "\n".join(markdown)):
        if target.startswith("#"):
            assert unquote(target[1:]).replace("-", " ") in headings, target
        elif "://" not in target and not target.startswith("../analysis/"):  # beside the runs, once they ran
            assert (path.parent / unquote(target)).exists(), target


def test_captions_stand_where_figures_are_drawn(path):
    """Not in a cell of their own, which would be there whether or not there is something to draw."""
    assert not [source for source in cells(path, "markdown") if "**Figure " in source]
    for source in cells(path, "code"):
        kept, shown = source.count("plots.keep("), source.count("notebook.show(")
        assert kept <= shown, source


def test_figures_are_numbered_as_they_are_shown(monkeypatch):
    seen = []
    monkeypatch.setattr("IPython.display.display", seen.append)
    notebook.start()
    axes = [plots.new_panels(1)[0] for _ in range(2)]
    for ax, text in zip(axes, ("one", "two"), strict=True):
        notebook.show(ax, text)
    notebook.caption("one")  # its cell is run again
    assert seen[::2][:2] == [ax.figure for ax in axes]
    captions = [shown.data for shown in seen if hasattr(shown, "data")]
    assert captions == ["**Figure 1.** one", "**Figure 2.** two", "**Figure 1.** one"]
    assert not [n for n in plt.get_fignums() if plt.figure(n) in [ax.figure for ax in axes]]
    notebook.start()
    notebook.caption("three")
    assert seen[-1].data == "**Figure 1.** three"


def test_errors_are_short_from_the_first_cell_that_does_something(path):
    own = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    first = next(cell for cell in own if "parameters" not in cell.metadata.get("tags", []))
    kinds = (ast.Import, ast.ImportFrom)
    work = [node for node in ast.parse(first.source).body if not isinstance(node, kinds)]
    assert ast.unparse(work[0]) == "notebook.start()"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_run_folders_notebook_says_where_edits_belong(path):
    assert "change that file, not the cells" in "\n".join(cells(path, "markdown"))


# --- errors in one line


def run(folder: Path, source: str) -> tuple[NotebookFailed, list[dict]]:
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {"cells": [{**cell, "source": "from volume_lib import notebook\nnotebook.start()\n" + source}]}
    path = folder / "fails.ipynb"
    path.write_text(
        json.dumps({**content, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})
    )
    with pytest.raises(NotebookFailed) as failure:
        Execution(path, {}, Resources(threads=1).environment()).run()
    outputs = json.loads(path.read_text())["cells"][-1]["outputs"]
    return failure.value, [output for output in outputs if output["output_type"] == "error"]


def test_an_error_of_ours_is_one_line_and_still_fails_the_cell(tmp_path):
    failure, (output,) = run(tmp_path, "from volume_lib import analysis\nanalysis.load_experiment('nowhere')")
    assert failure.error.startswith("InputError: nowhere")
    assert output["ename"] == "InputError" and len(output["traceback"]) == 1
    assert output["traceback"][0] == f"InputError: {output['evalue']}"


def test_the_stop_button_is_one_line_that_says_how_to_go_on(tmp_path):
    failure, errors = run(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    assert failure.error == "stopped" and errors == []
    (output,) = json.loads((tmp_path / "fails.ipynb").read_text())["cells"][-1]["outputs"]
    assert output["name"] == "stdout"  # not on pink
    (line,) = "".join(output["text"]).splitlines()
    assert line.startswith("Stopped.") and "run the cell again" in line


def test_other_errors_keep_their_traceback(tmp_path):
    _, (output,) = run(tmp_path, "1 / 0")
    assert output["ename"] == "ZeroDivisionError" and len(output["traceback"]) > 1


# --- a run to look at


def test_the_demo_is_looked_at_where_there_is_one(tmp_path, monkeypatch):
    demo = tmp_path / "demo" / "model_0_data_10"
    for file in ("models_and_data/dataset.pt", "data_0/data_0.npz"):
        (demo / file).parent.mkdir(parents=True)
        (demo / file).write_bytes(b"")
    (tmp_path / "visualization").mkdir()
    monkeypatch.chdir(tmp_path / "visualization")
    assert notebook.run_folder(None) == demo


def test_an_example_is_made_where_there_is_no_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        notebook, "_EXAMPLE_TRAINING", {"epochs": 2, "batch_size": 200, "learning_rate": 0.003}
    )
    monkeypatch.setattr(notebook, "_EXAMPLE_DIRECTIONS", 2)
    folder = notebook.run_folder(None)
    assert folder == Path("example/model_0_data_10")
    assert list(storage.list_sweeps(folder)) == [0, 20, 70, 190]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}
    capsys.readouterr()
    assert notebook.run_folder(None) == folder
    assert capsys.readouterr().out == f"run: {folder}\n"  # no word of a making
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}


def test_a_folder_that_lacks_something_is_told_what(tmp_path):
    with pytest.raises(InputError, match=r"no models \(Train Low Test Models.ipynb makes them\)"):
        notebook.run_folder(tmp_path)
    (tmp_path / "models_and_data").mkdir()
    (tmp_path / "models_and_data" / "dataset.pt").write_bytes(b"")
    assert notebook.run_folder(tmp_path, rays=False) == tmp_path
    with pytest.raises(InputError, match=r"no rays \(Random Perturbs.ipynb makes them\)"):
        notebook.run_folder(tmp_path)
