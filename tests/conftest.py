import importlib
import sys

import pytest
from hypothesis import settings

# An example that takes long says that the machine is busy, not that the law is broken.
settings.register_profile("busy_machine", deadline=None)
settings.load_profile("busy_machine")


@pytest.fixture
def import_script(monkeypatch):
    """Import a script as Python finds it, beside its siblings; all of them are forgotten after the test."""
    before = set(sys.modules)
    siblings = set()

    def load(path):
        monkeypatch.syspath_prepend(str(path.parent))
        siblings.update(sibling.stem for sibling in path.parent.glob("*.py"))
        return importlib.import_module(path.stem)

    yield load
    for name in siblings & (set(sys.modules) - before):
        del sys.modules[name]
