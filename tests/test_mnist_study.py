"""The tables of the repeated study come from the results that lie beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

STUDY = Path(__file__).parent.parent / "experiments" / "low_data" / "mnist"


@pytest.fixture
def tables(import_script):
    return import_script(STUDY / "tables.py")


def test_the_readme_shows_what_the_committed_results_say(tables):
    text = (STUDY / "README.md").read_text(encoding="utf-8")
    assert text.split(tables.MARKS[0])[1].split(tables.MARKS[1])[0].strip() == tables.tables()


def test_intervals_are_students(tables):
    values = np.array([1.0, 2.0, 4.0])
    low, high = tables.t_interval(values)
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(4.302653 * values.std(ddof=1) / np.sqrt(3), rel=1e-6)
    low, high = tables.t_interval(values, of_one_more=True)
    assert (high - low) / 2 == pytest.approx(4.302653 * values.std(ddof=1) * np.sqrt(4 / 3), rel=1e-6)
