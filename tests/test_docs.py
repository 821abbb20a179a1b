"""The examples that people read run: README, tutorial, docstrings; the pages name the order of the rooms."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest
import test_imports

import volume_lib

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(volume_lib.__path__, "volume_lib.")
    if module.name != "volume_lib.__main__"
    and ">>> " in Path(module.module_finder.find_spec(module.name).origin).read_text()
)


def first_example(path: Path) -> str:
    return re.search(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)[1]


def test_the_readme_opens_with_an_example_that_prints_what_it_says():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1].splitlines()
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(first_example(ROOT / "README.md"), {})
    lines = told.getvalue().splitlines()
    assert lines[0] == shown[0]
    for line, printed in zip(shown[1:6], lines[1:6], strict=True):
        assert line.split("  ")[1] == printed.split("  ")[1]  # the numbers are this machine's


def test_the_tutorials_example_is_the_readmes():
    assert first_example(ROOT / "docs" / "tutorial.md").startswith(
        first_example(ROOT / "README.md").split("print(")[0].rstrip()
    )


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_page_of_rooms_has_the_tested_order():
    assert test_imports.ORDER.strip() in (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8")
