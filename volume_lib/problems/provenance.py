"""What a result was made from, in short words that compare: the samples, and the code of a problem.

A digest of samples is of their values. A digest of code is of what the code says: comments, docstrings and
white space do not count. Shipped problems are named, since the package's version tells what they do.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # digests of code are asked for by the command line, which starts without torch
    from torch import Tensor

    from volume_lib.problems.base import Problem
    from volume_lib.records import Data, Dataset

_KNOWN = ("builtins", "abc", "torch", "volume_lib", "typing")
"""Packages whose classes are named in a digest, not read."""


def level_digest(dataset: Dataset, level: int) -> str:
    """What the samples of the landscape of ``level`` are, inputs and targets, in 16 letters."""
    return tensors_digest(dataset.upto(level))


def data_digest(data: Data) -> str:
    """What a problem's ``load`` gave, in 16 letters."""
    return tensors_digest((data.x_train, data.y_train, data.x_test, data.y_test))


def tensors_digest(parts: Iterable[Tensor]) -> str:
    """Digest of the values of ``parts``, one after the other."""
    import torch

    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def problem_digest(problem: Problem) -> str:
    """What a problem does, in 16 letters: the code of its class and of what that imports from beside it,
    and its public attributes. Two problems of equal digest have the same loss."""
    told = [str(problem.loss_unit)]
    for kind in type(problem).__mro__:
        module = kind.__module__.partition(".")[0]
        told.append(f"{kind.__module__}.{kind.__qualname__}" if module in _KNOWN else _class_text(kind))
    for name, value in sorted(vars(problem).items()):
        if not name.startswith("_") and name != "name":  # what is private may be a cache
            told += [f"{name}={text}" for text in _value_text(value)]
    return _short("\0".join(told))


def _class_text(kind: type) -> str:
    """The code of a class: of its whole file where it has one."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file and Path(file).is_file():
        return f"{kind.__qualname__} {source_digest(Path(file))}"
    try:
        return code_text(inspect.getsource(kind))
    except (OSError, TypeError):
        members = sorted(vars(kind).items())
        return repr([(name, _code_text(value.__code__)) for name, value in members if _has_code(value)])


def _value_text(value: Any) -> Iterator[str]:
    if isinstance(value, bool | int | float | str | tuple | list | dict):
        yield repr(value)
    elif _has_code(value):
        yield _code_text(value.__code__)
    elif type(value).__name__ == "Tensor":
        yield tensors_digest([value])


def _has_code(value: Any) -> bool:
    return isinstance(getattr(value, "__code__", None), CodeType)


def _code_text(code: CodeType) -> str:
    constants = [_code_text(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names}"


# --- source files


def source_digest(path: Path, *more: Path) -> str:
    """What a file of code says, and the files that it imports from beside it or from the folders ``more``."""
    return sources_digest(path.read_text(encoding="utf-8", errors="replace"), path.parent, *more)


def sources_digest(text: str, *folders: Path) -> str:
    """As :func:`source_digest`, of a ``text`` whose imports are looked for in ``folders``."""
    told, waiting, seen = [code_text(text)], [(text, folders)], set()
    while waiting:
        code, places = waiting.pop()
        for found in _imported(code, places):
            if found not in seen:
                seen.add(found)
                code = found.read_text(encoding="utf-8", errors="replace")
                told.append(f"{found.name} {code_text(code)}")
                waiting.append((code, (found.parent, *folders)))
    return _short("\0".join([told[0], *sorted(told[1:])]))


def imports_beside(text: str, *folders: Path) -> bool:
    """Whether ``text`` imports any file from ``folders``."""
    return any(True for _ in _imported(text, folders))


def code_text(source: str) -> str:
    """Code without comments, docstrings and layout; as it is where it is no Python."""
    tree = _parsed(source)
    if tree is None:
        return source
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            if is_text and isinstance(first.value.value, str):
                node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _imported(source: str, folders: Iterable[Path]) -> Iterator[Path]:
    """The files in ``folders`` that ``source`` imports."""
    for node in ast.walk(_parsed(source) or ast.Module([], [])):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            top = node.module or ""
            names = [top, *(f"{top}.{alias.name}".lstrip(".") for alias in node.names)]
        for name in filter(None, names):
            parts = name.split(".")
            stems = [Path(*parts[: i + 1]) for i in range(len(parts))]
            for folder in folders:
                inside = [folder / stem.with_suffix(".py") for stem in stems]
                inside += [folder / stem / "__init__.py" for stem in stems]
                yield from (path for path in inside if path.is_file())


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()
