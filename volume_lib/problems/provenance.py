"""What a result was made from, in short words that compare: the samples, and the code of a problem.

A digest of samples is of their values, one of code as :mod:`volume_lib.sources` has it. Shipped problems are
named, since the package's version tells what they do.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from volume_lib.sources import code_text, short_digest, source_digest

if TYPE_CHECKING:
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
        digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
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
    return short_digest("\0".join(told))


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
