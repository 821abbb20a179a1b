"""What files say of themselves, without torch and without their weights: how they were asked for.

For the command line, which starts without torch. What cannot be read says nothing: None.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib.storage.archives import Refused, open_regular, read_text

_LARGEST = 1 << 26
"""Bytes of a member that is read; weights lie in others."""


class _Nothing:
    """In place of a tensor, or of whatever else the file names."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> _Nothing:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None: ...


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return OrderedDict if (module, name) == ("collections", "OrderedDict") else _Nothing

    def persistent_load(self, pid: Any) -> Any:
        return _Nothing()


def peek_torch(path: str | Path) -> dict[str, Any] | None:
    """The plain values of a ``.pt`` file: names to numbers, text, lists; tensors are left out."""
    try:
        with open_regular(path) as whole, zipfile.ZipFile(whole) as archive:
            member = next(info for info in archive.infolist() if info.filename.endswith("data.pkl"))
            if member.file_size > _LARGEST:
                return None
            with archive.open(member) as file:
                content = _Reader(file).load()
    except Exception:  # a damaged pickle can raise anything
        return None
    if not isinstance(content, dict):
        return None
    return {str(name): value for name, value in content.items() if not isinstance(value, _Nothing)}


def peek_sweep(path: str | Path) -> dict[str, Any] | None:
    """The settings in an ``.npz`` file of rays: ``loss_thresholds``, ``search``, ``scaling``, what varies
    (``key``) and the number of directions, ``num_directions``."""
    try:
        with open_regular(path) as whole, np.load(whole, allow_pickle=False) as arrays:
            names = [n for n in ("loss_thresholds", "search", "scaling", "key") if n in arrays.files]
            found = {name: arrays[name].tolist() for name in names}
        with (
            open_regular(path) as whole,
            zipfile.ZipFile(whole) as archive,
            archive.open("wiggle_results.npy") as file,
        ):
            np.lib.format.read_magic(file)
            shape, _, _ = np.lib.format.read_array_header_1_0(file)
        return {**found, "num_directions": shape[0]}
    except Exception:
        return None


def peek_json(path: str | Path) -> dict[str, Any] | None:
    """A JSON file of names and values, as it is."""
    try:
        content = json.loads(read_text(path))
    except (OSError, Refused, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
