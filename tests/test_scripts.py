"""Scripts beside the package: the benchmarks, and what an experiment ships, still find what they import."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("experiments/*/*/*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_a_script_can_be_imported(script, monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(script.parent))
    try:
        importlib.import_module(script.stem)
    finally:
        siblings = {path.stem for path in script.parent.glob("*.py")}
        for name in siblings & (set(sys.modules) - before):
            del sys.modules[name]
