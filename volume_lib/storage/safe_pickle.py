"""Read pickled arrays and checkpoints without running what the file says.

A pickle is a program: ``numpy.load(allow_pickle=True)`` and ``torch.load(weights_only=False)`` import
and call whatever it names. The two readers here know a short list of names (array and scalar
reconstruction of numpy, plain containers and scalars, tensors), and refuse every other one before
it is imported.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

try:  # numpy 2
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray  # type: ignore[no-redef]


if TYPE_CHECKING:
    import torch


class RefusedName(pickle.UnpicklingError):
    """The file asks for something outside the allow-list; the message is its dotted name."""


# A pickle can set attributes on the objects it is given. Instances without a ``__dict__`` leave it nothing
# to set, where a plain Python function would take new ``__defaults__``.
class _FromBuffer:
    __slots__ = ()

    def __call__(self, buffer: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
        return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order).copy(order=order)


class _Latin1:
    """Python 2 style pickles write bytes as text to be encoded."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise RefusedName(f"_codecs.encode with {encoding!r}")
        return text.encode("latin1")


class _Storage:
    """In place of ``torch.storage._load_from_bytes``, which unpickles without any limit."""

    __slots__ = ()

    def __call__(self, data: bytes) -> Any:
        return _torch_load(io.BytesIO(data))


class _Tensor:
    __slots__ = ()

    def __call__(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
        import torch

        return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())


class _Parameter:
    __slots__ = ()

    def __call__(self, data: torch.Tensor, *_: Any) -> torch.Tensor:
        return data


_NUMPY_FUNCTIONS = {"_reconstruct": multiarray._reconstruct, "scalar": multiarray.scalar}
_BUILTINS = (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, slice)


def _allowed() -> dict[str, Any]:
    """Dotted name in the pickle → what it stands for. Numpy 1 and 2 name their internals differently."""
    names: dict[str, Any] = {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
    for core in ("numpy.core", "numpy._core"):
        names |= {f"{core}.multiarray.{name}": function for name, function in _NUMPY_FUNCTIONS.items()}
        names[f"{core}.numeric._frombuffer"] = _FromBuffer()
    for module in ("builtins", "__builtin__"):
        names |= {f"{module}.{kind.__name__}": kind for kind in _BUILTINS}
    return names | {
        "_codecs.encode": _Latin1(),
        "collections.OrderedDict": OrderedDict,
        "torch._utils._rebuild_tensor_v2": _Tensor(),
        "torch._utils._rebuild_parameter": _Parameter(),
        "torch.storage._load_from_bytes": _Storage(),
    }


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._names = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        dotted = f"{module}.{name}"
        if dotted not in self._names:
            raise RefusedName(dotted)
        return self._names[dotted]


def _read_array(data: bytes) -> np.ndarray:
    """One ``.npy`` member. Raises whatever a damaged one makes numpy or pickle raise."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers: dict[tuple[int, int], Callable] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"unknown .npy version {version}")
    shape, _, dtype = readers[version](file)
    if not dtype.hasobject:
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    array = _Unpickler(file).load()
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise ValueError("an object array does not have the shape that its header says")
    return array


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an ``.npz`` file, object arrays included.

    Raises :class:`RefusedName` for a name outside the allow-list, ``OSError`` where the file cannot be
    opened, and other exceptions of many kinds where it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        # Each member is read whole first, because the archive checks its sum only at the end.
        return {name.removesuffix(".npy"): _read_array(archive.read(name)) for name in archive.namelist()}


def _torch_load(file: Any) -> Any:
    import torch

    scalars = {type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}
    allowed: list[Any] = [np.ndarray, np.dtype, *scalars]
    for core in ("numpy.core", "numpy._core"):
        allowed += [(function, f"{core}.multiarray.{name}") for name, function in _NUMPY_FUNCTIONS.items()]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        if name:
            raise RefusedName(name.group(1)) from error
        raise


def load_torch(path: Path) -> Any:
    """A ``.pt`` file of tensors, numpy arrays and plain containers, on the CPU.

    Raises :class:`RefusedName` for a name outside torch's and our allow-list, ``OSError`` where the file
    cannot be opened, and other exceptions of many kinds where it is damaged.
    """
    return _torch_load(path)
