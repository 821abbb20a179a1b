"""Every notebook from JupyterLab's menu in a real browser, on a fresh clone and on a run; screenshots to see.

Not part of the suite: it needs Chromium (Debian's ``chromium``) and ``pip install playwright``, and takes
about half an hour on two cores. Run it by name::

    pytest tests/browser/check_notebooks.py --shots /tmp/shots

Each check fails on a traceback, a red bar, a widget that does not show, a figure that is empty. JupyterLab
(4.6) gives an output's picture no alt text whatever its metadata say; captions stand beside it, and the
report has them as alt texts, which is checked.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jupyter import CHROMIUM, Lab, Seen, chromium, clone, jupyter_lab, page_of, with_parameters

pytest.importorskip("playwright")
if CHROMIUM is None:
    pytest.skip("no Chromium found", allow_module_level=True)

FIVE = [
    "Train Low Test Models", "Random Perturbs",
    "Volume Estimation Pipeline", "Volume Cutoff", "Test Accuracy",
]  # fmt: skip
SMALL_BODIES = {"dimensions": [2, 10, 100], "tilted_dimensions": [2, 10], "largest_draw": 2e5}


def assert_clean(seen: Seen, *, all_cells: bool = True) -> None:
    assert seen.errors == [], "\n".join(seen.errors)
    assert seen.warnings == [], "\n".join(seen.warnings)
    assert seen.red_bars == 0 and seen.broken == 0
    if all_cells:
        assert seen.ran == seen.cells, f"{seen.ran} of {seen.cells} cells ran"
    for image in seen.images:
        assert image["shown"] and image["width"] > 50 and image["height"] > 50, image


def assert_one_line(seen: Seen) -> None:
    assert seen.errors == [] and seen.warnings == [], "on pink"
    told = [line for text in seen.lines for line in text.splitlines() if line.startswith("Stopped.")]
    assert len(told) == 1 and "run the cell again" in told[0], seen.lines


def new_experiment(lab: Lab, name: str, sections: str) -> None:
    """A swiss roll of one's own among the shipped experiments."""
    folder = lab.root / "experiments" / "low_data" / name
    folder.mkdir()
    (folder / "experiment.yaml").write_text(f"problem: swiss_roll\n{sections}")


@pytest.fixture(scope="module")
def shots(request, tmp_path_factory) -> Path:
    return Path(request.config.getoption("--shots") or tmp_path_factory.mktemp("shots"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    return clone(tmp_path_factory.mktemp("browser") / "clone")


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def lab(fresh, shots, browser):
    with jupyter_lab(fresh) as (address, token), page_of(browser) as page:
        yield Lab(page, address, token, fresh, shots)


def run(lab: Lab, notebook: Path, seconds: float = 300) -> Seen:
    lab.open(notebook)
    seen = lab.run_all(seconds)
    lab.shoot(notebook.stem.replace(" ", "_"))
    lab.save()
    return seen


def test_the_workflow_by_hand(lab):
    """The notebooks of template/, in a folder of one's own, one after another, with a small budget."""
    folder = lab.root / "by_hand"
    folder.mkdir()
    for name in FIVE:
        shutil.copy(lab.root / "template" / f"{name}.ipynb", folder)
    with_parameters(folder / "Random Perturbs.ipynb", num_directions=60)
    for name in FIVE:
        assert_clean(run(lab, folder / f"{name}.ipynb"))


@pytest.mark.parametrize(
    "name",
    [
        "perturbation_histograms",
        "loss_landscape_slices",
        "landscape_animation",
        "decision_boundaries",
        "analytic_check",
        "scale_invariance",
    ],
)
def test_pictures_on_a_fresh_clone(lab, name):
    notebook = lab.root / "visualization" / f"{name}.ipynb"
    if name == "analytic_check":
        with_parameters(notebook, **SMALL_BODIES)
    assert_clean(run(lab, notebook, 600))


def test_the_analysis_of_the_shipped_swiss_roll(lab):
    tracked = ["git", "-C", str(lab.root), "status", "--porcelain", "experiments"]
    before = subprocess.run(tracked, check=True, capture_output=True, text=True).stdout
    assert_clean(run(lab, lab.root / "analyze_experiments_data.ipynb", 600))
    after = subprocess.run(tracked, check=True, capture_output=True, text=True).stdout
    assert after == before, "looking at a shipped study changed its files"


def test_a_batch_from_the_helper_notebooks(lab):
    """The notebooks of experiments/ on an experiment of one's own: make, run, again, propagate, clean."""
    new_experiment(
        lab,
        "tiny",
        "runs: {model_seeds: [0, 1], data_seeds: [10, 11]}\n"
        "train: {epochs: 3000, base_data_size: 10, dataset_quantities: [0, 20]}\n"
        "perturb: {num_directions: 40}\n",
    )
    for name, changes in {
        "make_dataset_notebooks": {},
        "full_pipeline": {"workers": 2},
        "Run Random Perturbs Parallel": {"workers": 2},
        "Run Volume Parallel": {"workers": 2},
        "propagate_file": {},
        "cleanup_files": {},
    }.items():
        notebook = lab.root / "experiments" / f"{name}.ipynb"
        with_parameters(notebook, experiment_dir="low_data/tiny", **changes)
        assert_clean(run(lab, notebook, 600))


@pytest.mark.parametrize("step", ["Train Low Test Models", "Random Perturbs"])
def test_the_stop_button_by_hand(lab, step):
    """One line that says what is kept and how to go on; and going on works."""
    folder = lab.root / f"stopped_{step.split()[0]}"
    folder.mkdir()
    for name in FIVE[:2]:
        shutil.copy(lab.root / "template" / f"{name}.ipynb", folder)
    if step == "Random Perturbs":
        assert_clean(run(lab, folder / f"{FIVE[0]}.ipynb"))
        with_parameters(folder / f"{step}.ipynb", num_directions=4000)
    else:
        with_parameters(folder / f"{step}.ipynb", epochs=300_000, target_train_loss=None)
    lab.open(folder / f"{step}.ipynb")
    seen = lab.interrupt_in_the_middle()
    lab.shoot(f"stopped_{step.split()[0]}")
    assert_one_line(seen)


def test_the_stop_button_of_a_batch(lab):
    new_experiment(
        lab,
        "stopped",
        "runs: {model_seeds: [0], data_seeds: [10]}\n"
        "train: {epochs: 300000, target_train_loss: null, base_data_size: 10, dataset_quantities: [0, 20]}\n",
    )
    notebook = with_parameters(
        lab.root / "experiments" / "full_pipeline.ipynb", experiment_dir="low_data/stopped", workers=1
    )
    lab.open(notebook)
    seen = lab.interrupt_in_the_middle(wait=20)
    lab.shoot("stopped_batch")
    assert_clean(seen)  # what was stopped is the outcome of the batch, not an error
    assert lab.page.locator(".jp-OutputArea-output td", has_text=re.compile("^interrupted$")).count() == 1


@pytest.mark.parametrize("width", [1280, 400])
def test_the_report(fresh, shots, browser, width):
    """The page on a screen and on a telephone: nothing wider than the window, figures with their alt text."""
    page_file = fresh / "report.html"
    command = [sys.executable, "-m", "volume_lib", "report", "experiments/low_data/mnist"]
    subprocess.run([*command, "--out", str(page_file)], cwd=fresh, check=True)
    with page_of(browser, width) as page:
        loaded = []
        page.on("request", lambda request: loaded.append(request.url))
        page.goto(page_file.as_uri())
        page.screenshot(path=shots / f"report_{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(i => i.alt && i.naturalWidth > 50)")
        assert all(url.startswith(("file:", "data:", "blob:")) for url in loaded)
        if width == 1280:
            page.pdf(path=shots / "report.pdf", format="A4")
