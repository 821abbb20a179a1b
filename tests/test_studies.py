"""The tables of every shipped study come from the results beside them, and its text from its tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
STUDIES = sorted(path.parent for path in EXPERIMENTS.glob("*/*/study.json"))
each_study = pytest.mark.parametrize(
    "folder", STUDIES, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
NUMBER = re.compile(r"(?<![\w.,])[−-]?\d[\d,]*(?:\.\d+)?")


@pytest.fixture
def tables(import_script):
    return import_script(EXPERIMENTS / "tables.py")


@each_study
def test_the_readme_shows_what_the_committed_results_say(folder, tables):
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.split(tables.MARKS[0])[1].split(tables.MARKS[1])[0].strip() == tables.tables(folder)


def numbers(text: str) -> set[str]:
    """Numbers as they are written, without signs and thousands separators."""
    return {found.strip("−-").rstrip(",").replace(",", "") for found in NUMBER.findall(text)}


@each_study
def test_every_number_of_the_text_stands_in_a_committed_file(folder, tables):
    """In the tables, the settings, what it cost or what was published; mnist's text has a test of its own."""
    if folder.name == "mnist":
        return
    before, after = (folder / "README.md").read_text(encoding="utf-8").split(tables.MARKS[0])
    files = [after, *((folder / name).read_text() for name in ("experiment.yaml", "study.json"))]
    if (folder / "published.json").exists():
        files.append((folder / "published.json").read_text())
    before = re.sub(r"\([^()]*\)(?=\])|arXiv:\S+", "", before)
    assert numbers(before) <= set().union(*map(numbers, files)), folder


def test_intervals_are_students(tables):
    values = np.array([1.0, 2.0, 4.0])
    low, high = tables.t_interval(values)
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(4.302653 * values.std(ddof=1) / np.sqrt(3), rel=1e-6)
    low, high = tables.t_interval(values, of_one_more=True)
    assert (high - low) / 2 == pytest.approx(4.302653 * values.std(ddof=1) * np.sqrt(4 / 3), rel=1e-6)


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.glob("*/*/analysis/*.ipynb")), ids=lambda path: path.parts[-3]
)
def test_a_shipped_analysis_warns_of_nothing_and_names_no_machine(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert outputs and not [output for output in outputs if output.get("name") == "stderr"]
    assert not [output for output in outputs if output["output_type"] == "error"]
