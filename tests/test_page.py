"""The report page: what it is about on top, alt texts, and nothing loaded from elsewhere."""

from __future__ import annotations

import re

from nbformat import v4

import volume_lib
from volume_lib.batch.page import dressed, page_of

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_a_page_says_what_it_is_and_loads_nothing(tmp_path):
    (tmp_path / "experiment.yaml").write_text("problem: swiss_roll  # <spirals>\n")
    figure = v4.new_output("display_data", data={"image/png": PIXEL})
    cells = []
    for k in (1, 2):
        cells += [v4.new_code_cell("f()", outputs=[figure])]
        cells += [v4.new_markdown_cell(f'**Figure {k}.** Volumes of "{k}" minima.')]
    cells += [v4.new_markdown_cell("What it is.\n\nSet `experiment_dir` below.\n\n**Next:** another.")]
    page = dressed(page_of(v4.new_notebook(cells=cells), "name"), tmp_path)
    header = re.search(r"<header>.*?</header>", page, re.DOTALL)[0]
    assert (
        tmp_path.name in header and volume_lib.__version__ in header and re.search(r"\d{4}-\d\d-\d\d", header)
    )
    assert "problem: swiss_roll  # &lt;spirals&gt;" in header
    assert re.findall(r'alt="([^"]*)"', page) == [
        f"Figure {k}. Volumes of &quot;{k}&quot; minima." for k in (1, 2)
    ]
    assert "&lt;p&gt;" not in page and page.count("<p><strong>Figure") == 2
    assert "main table, main pre {" in page and "overflow-x: auto" in page  # what is wide scrolls in its box
    assert "What it is." in page and "experiment_dir" not in page and "Next:" not in page
    assert "<script" not in page and "<link" not in page
    assert not re.search(r'(src|href)="(https?:)?//', page) and "@import" not in page
    assert not re.search(r"url\(['\"]?https?:", page)
