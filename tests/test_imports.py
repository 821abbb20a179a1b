"""The order of the rooms: no import runs against it, lazily or not; nothing forms a circle."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "volume_lib"

ORDER = """
_lazy
errors thresholds section devices records parameters progress sources
calls abilities preflight
problems
storage
training
rays
search
sweep
volume
integration
measuring
slices cutoffs validation
experiment
analysis
plots
notebook
batch
cli
__main__
"""
"""From the bottom up: a room imports from the lines above its own, and from its neighbours on its line."""

MAY = {("volume_lib.measuring.record", "volume_lib.plots")}
"""The one arrow upwards: a volume draws itself when asked to. No circle: figures import no volumes."""

FLOOR = {room: number for number, line in enumerate(ORDER.strip().splitlines()) for room in line.split()}

NOTEBOOK_TOOLS = {"IPython", "ipykernel", "jupyter_client", "nbclient", "nbconvert", "nbformat", "papermill"}


def modules_of(package: Path) -> dict[str, Path]:
    """Dotted name → file, of every module below ``package``; a package is its ``__init__``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, modules: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and module of every import in a file, wherever it stands: functions and lazy lists included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield node.lineno, below if below in modules else node.module
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lazy":
            places = ast.literal_eval(node.args[1])
            yield from ((node.lineno, f"{name}.{place}") for place in places)


def room_of(module: str) -> str:
    """``volume_lib.rays.fast`` → ``rays``; the package itself, the front door, is the room ''."""
    return module.partition(".")[2].partition(".")[0]


def arrows(package: Path = PACKAGE) -> list[tuple[str, int, str]]:
    modules = modules_of(package)
    return [
        (name, line, target)
        for name, path in modules.items()
        for line, target in imports_of(name, path, modules)
    ]


def against_the_order(found: list[tuple[str, int, str]]) -> list[str]:
    """Imports of the package's own modules from a room to a later one, in words."""
    return [
        f"{name}, line {line}: imports {target}"
        for name, line, target in found
        if target.partition(".")[0] == "volume_lib"
        and room_of(name) != room_of(target)
        and room_of(name) != ""  # the front door names what all rooms offer …
        and room_of(target) != ""  # … and is asked for the version alone
        and (name, target) not in MAY
        and FLOOR[room_of(name)] < FLOOR[room_of(target)]
    ]


def test_every_room_has_its_place():
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert rooms - {"__init__"} <= set(FLOOR)


def test_no_import_runs_against_the_order():
    assert against_the_order(arrows()) == []


def test_the_front_door_is_asked_for_the_version_alone():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "volume_lib":
                modules = {name.partition(".")[2] for name in modules_of(PACKAGE)}
                assert {alias.name for alias in node.names} - modules <= {"__version__"}, path


def test_no_circle():
    """Between modules, not only rooms. That Python imports a package before what lies in it is no arrow."""
    graph: dict[str, set[str]] = {}
    for name, _, target in arrows():
        if target.partition(".")[0] == "volume_lib" and target not in (name, "volume_lib"):
            graph.setdefault(name, set()).add(target)
    graph.pop("volume_lib", None)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def test_only_plots_draws_and_only_batch_knows_notebooks():
    for name, line, target in arrows():
        tool = target.partition(".")[0]
        if tool == "matplotlib":
            assert room_of(name) == "plots", f"{name}, line {line}"
        if tool in NOTEBOOK_TOOLS:
            allowed = {"batch", "notebook", "progress"} if tool == "IPython" else {"batch"}
            assert room_of(name) in allowed, f"{name}, line {line}: {target}"


def test_the_check_sees_imports_wherever_they_stand(tmp_path):
    """A package of its own with one arrow of each kind against the order."""
    package = tmp_path / "volume_lib"
    for room in ("rays", "plots"):
        (package / room).mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "plots" / "__init__.py").write_text("from volume_lib.rays import fast\n")
    (package / "plots" / "run.py").write_text("")
    (package / "rays" / "__init__.py").write_text("__getattr__, __all__ = lazy(__name__, {'fast': 'a b'})\n")
    (package / "rays" / "fast.py").write_text("def f():\n    from volume_lib.plots import run\n")
    (package / "errors.py").write_text("if TYPE_CHECKING:\n    import volume_lib.rays.fast\n")
    assert against_the_order(arrows(package)) == [
        "volume_lib.errors, line 2: imports volume_lib.rays.fast",
        "volume_lib.rays.fast, line 2: imports volume_lib.plots.run",
    ]
    assert ("volume_lib.rays", 1, "volume_lib.rays.fast") in arrows(package)


HEAVY = {"torch", "matplotlib", "IPython", "distributed", "papermill"}


@pytest.mark.parametrize("module, heavy", [("volume_lib", HEAVY | {"numpy"}), ("volume_lib.cli", HEAVY)])
def test_starting_is_light(module, heavy):
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(run.stdout.split())


def test_no_package_offers_a_name_that_is_one_of_its_modules():
    """``plots.samples`` is a function: were it a module too, who imported what would decide which."""
    for folder in (PACKAGE, *(path.parent for path in PACKAGE.glob("*/__init__.py"))):
        package = ".".join(["volume_lib", *folder.relative_to(PACKAGE).parts])
        modules = {path.stem for path in folder.glob("*.py")}
        assert not modules & set(importlib.import_module(package).__all__), package
