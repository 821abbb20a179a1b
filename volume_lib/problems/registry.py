"""The problems that experiments can name, and how a name becomes a problem."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from volume_lib.devices import torch_defaults
from volume_lib.errors import InputError, near_match
from volume_lib.problems.base import Problem, data_root
from volume_lib.records import problem_parts, problem_text
from volume_lib.sources import modules_beside

__all__ = ["Problem", "data_root", "get_problem", "is_shipped", "problem_names"]

# Module and class of every problem; imported when asked for.
_PROBLEMS = {
    "swiss_roll": ("swiss_roll", "SwissRoll"),
    "mnist": ("images", "Mnist"),
    "fashion_mnist": ("images", "FashionMnist"),
    "cifar10": ("images", "Cifar10"),
    "svhn": ("images", "Svhn"),
    "modular_arithmetic": ("modular_arithmetic", "ModularArithmetic"),
    "modular_arithmetic_mse": ("modular_arithmetic", "ModularArithmeticSquared"),
    "shakespeare": ("shakespeare", "Shakespeare"),
}


_WITH_ARGUMENTS = {"image_folder": ("image_folder", "ImageFolder")}
"""Problems that are nothing without their arguments."""


def problem_names() -> list[str]:
    """The names that :func:`get_problem` knows without a file and without arguments."""
    return list(_PROBLEMS)


def is_shipped(name: str) -> bool:
    """Whether the problem of this name, arguments and all, is one of the package's, no file of a user's."""
    return problem_parts(name)[0] in _PROBLEMS | _WITH_ARGUMENTS


def get_problem(name: str | Mapping[str, Any] | Problem, base_dir: Path | None = None) -> Problem:
    """The problem called ``name``; a :class:`Problem` is handed back as it is.

    Arguments of the problem's class stand beside its name, ``{"name": "swiss_roll", "turns": 1.7}``, or
    behind it, ``"swiss_roll(turns=1.7)"``; the latter is then the problem's name.
    ``"my_problem.py:MyProblem"`` is a class in a file of the user's, looked for in ``base_dir`` (None:
    the working directory) and the folders above it, nearest first. The problem's ``name`` is then this
    whole expression, so that the files of a run lead back to it. Raises InputError for an unknown name,
    an argument that it does not take, a missing file, or a class that is not a problem.
    """
    if isinstance(name, Problem):
        return name
    text = problem_text(name if isinstance(name, str | Mapping) else str(name))
    name, arguments = problem_parts(text)
    file_name, separator, class_name = name.partition(":")
    if separator:
        return _user_problem(file_name, class_name, _place(base_dir), arguments, text)
    shipped = _PROBLEMS | _WITH_ARGUMENTS
    if name not in shipped:
        known = ", ".join(shipped)
        raise InputError(
            f'problem "{name}" is unknown{near_match(name, shipped)}; known: {known}, '
            "or a file of your own as my_problem.py:MyProblem"
        )
    module, class_name = shipped[name]
    kind = getattr(importlib.import_module(f"volume_lib.problems.{module}"), class_name)
    return _built(kind, arguments, text)


def _built(kind: type[Problem], arguments: dict[str, Any], text: str) -> Problem:
    """A problem of its arguments, named by its text where it has any."""
    known = [name for name in inspect.signature(kind).parameters if name not in ("args", "kwargs")]
    for argument in arguments:
        if argument not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes no arguments"
            raise InputError(
                f'problem "{text}": no argument {argument}{near_match(argument, known)}; {takes}'
            )
    parameters = inspect.signature(kind).parameters
    missing = [key for key in known if parameters[key].default is inspect.Parameter.empty]
    if missing and not set(missing) <= set(arguments):
        raise InputError(
            f'problem "{text}": needs {", ".join(missing)}, as {{name: {text}, {missing[0]}: …}}'
        )
    problem = kind(**arguments)
    if arguments:
        problem.name = text
    return problem


def _place(base_dir: Path | None) -> Path:
    return absolute(base_dir) if base_dir else working_directory()


def absolute(path: str | Path) -> Path:
    """``path`` from the root on, as the user gave it: links stay links, and ``..`` takes back a name."""
    return Path(os.path.normpath(working_directory() / path))


def working_directory() -> Path:
    """The working directory by the name that it was entered by, links and all, where ``PWD`` says it, or
    Jupyter, whose kernels are told the path of their notebook."""
    notebook = os.environ.get("JPY_SESSION_NAME", "")
    for named in (Path(os.environ.get("PWD", "")), Path(notebook).parent):
        with contextlib.suppress(OSError):
            if named.is_absolute() and named.samefile("."):
                return named
    return Path.cwd()


def _user_problem(
    file_name: str, class_name: str, base_dir: Path, arguments: dict[str, Any], text: str
) -> Problem:
    name = f"{file_name}:{class_name}"
    # A bare file name: what a run's files say can then only lead to code placed beside them.
    if Path(file_name).name != file_name or not file_name.endswith(".py") or not class_name.isidentifier():
        raise InputError(f'problem "{name}": a problem of your own is written my_problem.py:MyProblem')
    path = next((p for d in (base_dir, *base_dir.parents) if (p := d / file_name).is_file()), None)
    if path is None:
        raise InputError(f'problem "{name}": no {file_name} in {base_dir} or the folders above it')
    problem_class = getattr(_import_file(path), class_name, None)
    if not (isinstance(problem_class, type) and issubclass(problem_class, Problem)):
        raise InputError(f'problem "{name}": {path} has no class {class_name} derived from Problem')
    try:
        problem = _built(problem_class, arguments, text)
    except TypeError as error:
        raise InputError(f'problem "{name}": {path}: {error}') from error
    problem.name = text
    return problem


def _import_file(path: Path):
    """The module of a problem's file, and of what it imports from beside it, as they are now."""
    module_name = f"volume_lib_user_problem_{path.stem}_{abs(hash(str(path)))}"
    _look_beside(path)
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"problem file {path} cannot be imported: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    # dataclasses and pickling look a class's module up in sys.modules
    sys.modules[module_name] = module
    try:
        with torch_defaults(), _no_bytecode():  # what the file sets is the file's own
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise InputError(
            f"problem file {path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def _look_beside(path: Path) -> None:
    """Let a problem's file import what lies beside it, as Python does for a script.

    Modules of those names that this process has are forgotten: they may be of another folder, or of what the
    files were before an edit.
    """
    for name in modules_beside(path):
        if name.partition(".")[0] != __name__.partition(".")[0]:  # a problem beside a checkout of the package
            sys.modules.pop(name, None)
    folder = str(path.parent)
    sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
    importlib.invalidate_caches()


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """Nothing is kept of compiled code: it counts as that of a source of the same size and second."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
