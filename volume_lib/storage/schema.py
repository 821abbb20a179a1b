"""What the entries of a file must be: small checks, each the right value or one line that names the key."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.records import plain_value
from volume_lib.storage.pickles import Odd

if TYPE_CHECKING:
    from torch import Tensor

Check = Callable[[Any], Any]
"""Takes an entry as it was read; gives it as records hold it, or raises ``ValueError``: what it must be."""

LARGEST = 2**63 - 1


def require(path: Path, content: Any, keys: tuple[str, ...], notebook: str) -> None:
    """InputError unless ``content`` is a dictionary that has ``keys``."""
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: holds a {type(content).__name__}, not named values; '{notebook}' writes it"
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; '{notebook}' writes them")


def check(
    path: Path, content: dict[str, Any], table: Mapping[str, Check], notebook: str, inside: str = ""
) -> None:
    """Replace every entry of ``content`` that ``table`` knows by the checked one, in place.

    ``inside``: the name of what ``content`` is a part of. InputError names file and key.
    """
    for key, of_entry in table.items():
        if key in content:
            try:
                content[key] = of_entry(content[key])
            except (ValueError, TypeError, OverflowError, RuntimeError) as error:
                what = f"{inside}{key}: {shown(content[key])} {' '.join(str(error).split())[:200]}"
                raise InputError(f"{path}: {what}; '{notebook}' writes it") from error


def shown(value: Any) -> str:
    """A value in a few words of one line."""
    if isinstance(value, Odd):
        return f"a {value.kind} tensor"
    if value is None or isinstance(value, bool | int | float | np.generic):
        return str(value)[:40]
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else repr(value[:40]) + "…"
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of {value.dtype}, shape {tuple(value.shape)},"
    if isinstance(value, list | tuple) and len(repr_of_few(value)) <= 60:
        return repr_of_few(value)
    return f"a {type(value).__name__}"


def repr_of_few(values: list | tuple) -> str:
    """``values`` if they are few and plain, else a long text."""
    plain = len(values) < 10 and all(
        value is None or isinstance(value, bool | int | float) for value in values
    )
    return repr(values) if plain else " " * 100


def one(value: Any) -> Any:
    """Python's own scalar of an array, tensor or numpy scalar with one value."""
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, list | tuple | dict) and getattr(value, "shape", None) == ():
        return value.item()
    return value


def entries(value: Any) -> list[Any]:
    """The list of an array, tensor, tuple or list."""
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0:
        return value.tolist()
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError("must be a list")


def whole(low: int = 0, high: int = LARGEST) -> Check:
    """A whole number from ``low`` to ``high``; floats that are whole count."""

    def of_entry(value: Any) -> int:
        value = one(value)
        good = type(value) is int or (type(value) is float and value.is_integer())
        if not good or not low <= value <= high:
            raise ValueError(f"must be a whole number, {low} or more")
        return int(value)

    return of_entry


def value(entry: Any) -> int | float:
    """What varies has this value for a model: a number, 0 or more."""
    entry = one(entry)
    if type(entry) not in (int, float) or not 0 <= entry <= LARGEST:
        raise ValueError("must be a number, 0 or more")
    return plain_value(entry)


def number(low: float = -math.inf, high: float = math.inf, *, nan: bool = True, none: Any = ...) -> Check:
    """A real number within ``[low, high]``; ``nan``: or NaN; ``none``: what a missing one is."""

    def of_entry(value: Any) -> float:
        value = one(value)
        if value is None and none is not ...:
            return none
        if type(value) is not int and type(value) is not float:
            raise ValueError("must be a number")
        value = float(value)
        if not low <= value <= high and not (nan and math.isnan(value)):
            raise ValueError(
                f"must be a number{f' in [{low:g}, {high:g}]' if high < math.inf or low > -math.inf else ''}"
            )
        return value

    return of_entry


def either(*values: Any) -> Check:
    """One of ``values``."""

    def of_entry(value: Any) -> Any:
        value = one(value)
        if type(value) not in (str, bool, int) or value not in values:
            raise ValueError(f"must be {' or '.join(map(str, values))}")
        return value

    return of_entry


def text(pattern: str = r"(?s).*", like: str = "text") -> Check:
    """Text, all of which matches ``pattern``; ``like``: what that is in words."""

    def of_entry(value: Any) -> str:
        value = one(value)
        if type(value) is not str or not re.fullmatch(pattern, value):
            raise ValueError(f"must be {like}")
        return value

    return of_entry


NAME = text(r"[A-Za-z][A-Za-z0-9_]{0,99}", "a word of letters, digits and _")
"""What becomes part of a file's name: it cannot lead anywhere else."""


def many(of_each: Check, *, at_least: int = 0) -> Check:
    """A list, each of whose entries passes ``of_each``."""

    def of_entry(value: Any) -> list[Any]:
        values = entries(value)
        if len(values) < at_least:
            raise ValueError(f"must have {at_least} or more entries")
        return [of_each(entry) for entry in values]

    return of_entry


def curve(value: Any) -> list[float]:
    """Real numbers, at least one: over the epochs, or the last alone."""
    value = one(value)
    values: list[Any] = (
        [value] if isinstance(value, int | float) and not isinstance(value, bool) else entries(value)
    )
    if not values:
        raise ValueError("must have a value for each epoch")
    if set(map(type, values)) <= {float}:
        return values
    return [number()(entry) for entry in values]


def optional(of_entry: Check) -> Check:
    """None, or what passes ``of_entry``."""
    return lambda value: None if one(value) is None else of_entry(value)


def plain(value: Any) -> Any:
    """A setting: numbers, text, lists and dictionaries; arrays become lists."""
    value = one(value)
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(entry) for entry in value)
    if isinstance(value, np.ndarray) or hasattr(value, "layout"):
        return plain(value.tolist())
    if isinstance(value, Odd):
        raise ValueError("must be plain: numbers, text, lists and dictionaries")
    return value


def named(value: Any) -> dict[str, Any]:
    """Plain values by name."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("must be a dictionary of named values")
    return plain(dict(value))


def real_tensor(value: Any) -> Tensor:
    """A tensor of real numbers or truth values; arrays and lists of numbers become one."""
    import torch

    if isinstance(value, list | tuple):
        value = np.asarray(value)
    if isinstance(value, np.ndarray | np.generic) and np.asarray(value).dtype.kind in "biuf":
        value = torch.as_tensor(value)
    if not isinstance(value, torch.Tensor) or value.is_complex():
        raise ValueError("must be an ordinary tensor of real numbers")
    return value


def samples(value: Any) -> Tensor:
    """A tensor whose first dimension counts samples."""
    tensor = real_tensor(value)
    if tensor.ndim == 0:
        raise ValueError("must have a dimension of samples")
    return tensor


def weights(of_each: Check) -> Check:
    """A state dict: tensors or arrays by name, each of which passes ``of_each``."""

    def of_entry(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
            raise ValueError("must be a dictionary of named weights")
        found = {}
        for name, entry in value.items():
            try:
                found[name] = of_each(entry)
            except (ValueError, TypeError) as error:
                raise ValueError(f"with {name[:60]}: {shown(entry)} {error}") from error
        return found

    return of_entry
