"""Scripts beside the package: benchmarks, and what repeats shipped studies, still find what they import."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("experiments/*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_a_script_can_be_imported(script, import_script):
    assert import_script(script).__file__ == str(script)
