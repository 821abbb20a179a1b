import importlib
import os
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side, each with a core; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

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


def pytest_runtest_makereport(item, call):
    """Where everything runs (``CI`` is set) and the data are there, nothing may be skipped unnoticed."""
    data = Path(os.environ.get("VOLUME_LIB_DATA", "/nowhere"), "MNIST")
    if os.environ.get("CI") and data.is_dir() and call.excinfo is not None:
        reason = call.excinfo.value
        if isinstance(reason, pytest.skip.Exception) and not _only_elsewhere(str(reason)):
            try:
                pytest.fail(f"skipped, though CI is set and the data are there: {reason}")
            except pytest.fail.Exception:
                call.excinfo = pytest.ExceptionInfo.from_current()


def _only_elsewhere(reason: str) -> bool:
    """What this machine cannot have (a GPU, a file system of its own), and combinations that mean nothing."""
    return any(word in reason.lower() for word in ("gpu", "cuda", "mount", "second pass"))
