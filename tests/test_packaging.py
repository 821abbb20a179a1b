"""What users install: a wheel with the notebooks, used from a folder of its own; one version, said alike."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import volume_lib
from volume_lib.batch import steps
from volume_lib.storage import load_results

ROOT = Path(__file__).resolve().parents[1]
SMALL = """
problem: swiss_roll
model: {hidden_dims: [8]}
runs: {model_seeds: [0], data_seeds: [10]}
train: {epochs: 20, dataset_quantities: [0, 10]}
perturb: {num_directions: 5, loss_thresholds: [5.0]}
"""
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of what a build needs, so that no build folder is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("volume_lib", "template"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    files = "pyproject.toml setup.py MANIFEST.in README.md LICENSE requirements.txt CHANGELOG.md CITATION.cff"
    for name in [*files.split(), steps.ANALYSIS_NOTEBOOK]:
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=source, check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


def test_a_wheel_holds_the_notebooks_the_licence_and_the_mark_of_types(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for step, name in steps.NOTEBOOKS.items():
            assert archive.read(f"volume_lib/notebooks/{name}") == steps.template_path(step).read_bytes()
        (entries,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "volume-lib = volume_lib.cli:app" in archive.read(entries).decode()
    assert "volume_lib/py.typed" in names and any(name.endswith("/LICENSE") for name in names)
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "volume_lib").rglob("*.py")}
    assert package <= set(names)


def test_an_installed_wheel_makes_and_runs_an_experiment_in_any_folder(wheel, tmp_path):
    """Its own files alone: the notebooks of the clones are those inside it."""
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)  # all that installing a pure wheel does
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def call(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        run = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run.stdout

    where = call(
        "-c", "from volume_lib.batch.steps import template_path as t; print(t('train'), t('analysis'))"
    )
    assert where.count(str(installed / "volume_lib" / "notebooks")) == 2
    example = re.search(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example and "log volume" in call("-c", example[1])  # the ten lines that a reader tries first
    call("-m", "volume_lib", "new", "mine", "--problem", "swiss_roll")
    call("-m", "volume_lib", "make", "mine")
    assert sorted(path.name for path in (elsewhere / "mine" / "model_0_data_10").glob("*.ipynb")) == sorted(
        name for step, name in steps.NOTEBOOKS.items() if step not in ("integrate", "analysis")
    )
    (elsewhere / "small").mkdir()
    (elsewhere / "small" / "experiment.yaml").write_text(SMALL)
    call("-m", "volume_lib", "run", "small", "--steps", "train,perturb,volume")
    (path,) = (elsewhere / "small" / "model_0_data_10").glob("data_0/loss_*/results.json")
    results = load_results(path)
    assert results["model_data_levels"] == [0, 10] and results["num_directions"] == 5


def test_the_version_is_said_alike_everywhere():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert cited and newest and cited[1] == newest[1] == volume_lib.__version__
    for entry in re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:-1]:
        assert "Numbers:" in entry  # each version but the first says whether they changed
