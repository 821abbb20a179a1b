"""The problems that experiments can name, and how a name becomes a problem."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from volume_lib.devices import torch_defaults
from volume_lib.errors import InputError, near_match
from volume_lib.problems.base import Problem, data_root

__all__ = ["Problem", "data_root", "get_problem", "problem_names"]

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


def problem_names() -> list[str]:
    """The names that :func:`get_problem` knows without a file."""
    return list(_PROBLEMS)


def get_problem(name: str | Problem, base_dir: Path | None = None) -> Problem:
    """The problem called ``name``; a :class:`Problem` is handed back as it is.

    ``"my_problem.py:MyProblem"`` is a class in a file of the user's, looked for in ``base_dir`` (None:
    the working directory) and the folders above it, nearest first. The problem's ``name`` is then this
    whole expression, so that the files of a run lead back to it. Raises InputError for an unknown name,
    a missing file, or a class that is not a problem.
    """
    if isinstance(name, Problem):
        return name
    file_name, separator, class_name = str(name).partition(":")
    if separator:
        return _user_problem(file_name, class_name, Path(base_dir or ".").resolve())
    if name not in _PROBLEMS:
        known = ", ".join(_PROBLEMS)
        raise InputError(
            f'problem "{name}" is unknown{near_match(name, _PROBLEMS)}; known: {known}, '
            "or a file of your own as my_problem.py:MyProblem"
        )
    module, class_name = _PROBLEMS[name]
    return getattr(importlib.import_module(f"volume_lib.problems.{module}"), class_name)()


def _user_problem(file_name: str, class_name: str, base_dir: Path) -> Problem:
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
        problem = problem_class()
    except TypeError as error:
        raise InputError(f'problem "{name}": {path}: {error}') from error
    problem.name = name
    return problem


def _import_file(path: Path):
    module_name = f"volume_lib_user_problem_{path.stem}_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    # dataclasses and pickling look a class's module up in sys.modules
    sys.modules[module_name] = module
    try:
        with torch_defaults():  # what the file sets is the file's own
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise InputError(
            f"problem file {path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module
