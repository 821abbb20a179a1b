"""Arrays of numpy out of ``.npy`` members and pickles, from a description that is parsed, never a state.

Plain numbers, truth values and text are read; and arrays of Python values, where they are pickled.
"""

from __future__ import annotations

import io
import math
import re
from collections import OrderedDict
from typing import Any, Literal

import numpy as np

from volume_lib.storage.archives import Refused
from volume_lib.storage.pickles import Machine, Maker, Marker, Pending, RefusedName, checked_keys

_PLAIN = re.compile(r"[<>|=]?(?:b1|i[1248]|u[1248]|f2|f4|f8|f16|c8|c16|[SU]\d{1,9}|\?|O8?)")
_ARRAY = Marker()
_FLOAT = type(np.dtype(np.float64))


def _plain_dtype(description: Any) -> np.dtype:
    if type(description) is not str or not _PLAIN.fullmatch(description):
        raise Refused(
            f"its array has numpy's type {str(description)[:40]!r}; plain numbers and text are read"
        )
    return np.dtype(description)


def _dtype(description: Any, *_: Any) -> Pending:
    """``numpy.dtype``: the state that follows may say the byte order, and else only what is known."""
    dtype = _plain_dtype(description)

    def finish(state: Any) -> np.dtype:
        sizes = (dtype.itemsize, dtype.alignment) if dtype.kind in "SU" else (-1, -1)
        rest = (None, None, None, *sizes, dtype.flags)
        order = state[1] if type(state) is tuple and len(state) > 1 else None
        if order not in ("<", ">", "|", "=") or state not in ((3, order, *rest), (4, order, *rest, None)):
            raise Refused(f"its array of type {description} has the state of another type")
        return dtype.newbyteorder(order) if order in "<>" else dtype

    return Pending(finish)


def _filled(shape: Any, dtype: Any, data: Any, order: Literal["C", "F"]) -> np.ndarray:
    """The array of ``shape`` and ``dtype`` whose memory is ``data`` (of objects: whose entries)."""
    if type(dtype) is _FLOAT and type(data) is bytes and data and shape == (len(data) // 8,):
        return np.frombuffer(data, dtype).copy()  # what most arrays are, by the thousand
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array's shape is none")
    if not isinstance(dtype, np.dtype):
        raise ValueError("an array's type is none")
    count = math.prod(shape)
    if dtype.hasobject:
        if type(data) is not list or len(data) != count:
            raise ValueError("an array has more or fewer entries than its shape says")
        array = np.empty(count, dtype=object)
        for i, entry in enumerate(data):
            array[i] = entry
        return array.reshape(shape, order=order)
    if not isinstance(data, bytes | bytearray) or len(data) != count * dtype.itemsize:
        raise ValueError("an array has more or fewer bytes than its shape says")
    return (
        np.ndarray(shape, dtype, buffer=data, order=order).copy(order=order)
        if data
        else np.empty(shape, dtype)
    )


def _reconstruct(kind: Any, *_: Any) -> Pending:
    """``numpy.core.multiarray._reconstruct``: the array that a state fills."""
    if kind is not _ARRAY:
        raise Refused("its array is of a class of its own")

    def finish(state: Any) -> np.ndarray:
        shape, dtype, by_columns, data = state[-4:]
        return _filled(shape, dtype, data, "F" if by_columns else "C")

    return Pending(finish)


_VECTOR = re.compile(
    rb"h(.)K\x00\x85\x94h(.)\x87\x94R\x94"  # _reconstruct(ndarray, (0,), b"b")
    rb"\(K\x01(?:K(.)|M(..))\x85\x94h(.)\x89"  # its state: (1, (n,), dtype, False,
    rb"(?:C(.)|B(....))",  # and so many bytes)
    re.DOTALL,
)
_END = b"\x94t\x94b"


def _vector(machine: Machine) -> bool:
    """The steps that numpy 2 writes for an array (n,) of float64, of which a sweep's file has thousands.

    What they leave in the memo and take off the limits is what they would step by step.
    """
    data, memo = machine.data, machine.memo
    found = _VECTOR.match(data, machine.at)
    if found is None:
        return False
    kind, letter, short, long, dtype, few, many = found.groups()
    kind, letter, dtype = memo.get(kind[0]), memo.get(letter[0]), memo.get(dtype[0])
    count = short[0] if short else int.from_bytes(long, "little")
    start = found.end()
    end = start + (few[0] if few else int.from_bytes(many, "little"))
    if type(dtype) is Pending:
        dtype = dtype.value
    usual = kind is _ARRAY and letter == b"b" and type(dtype) is _FLOAT and count and end - start == 8 * count
    if not usual or not data.startswith(_END, end):
        return False
    machine.count(6)
    content = data[start:end]
    array = np.frombuffer(content, dtype).copy()
    number, shape = len(memo), (count,)
    memo[number] = _EMPTY
    memo[number + 1] = (kind, _EMPTY, letter)
    memo[number + 2] = array
    memo[number + 3] = shape
    memo[number + 4] = content
    memo[number + 5] = (1, shape, dtype, False, content)
    machine.stack.append(array)
    machine.at = end + 4
    return True


_EMPTY = (0,)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    return _filled(shape, dtype, data, "F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise Refused("its number has a type that is none")
    return _filled((), dtype, data, "C")[()]


def _encoded(text: Any = "", encoding: Any = "latin1") -> bytes:
    """Bytes, which older protocols write as text to be encoded."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise RefusedName(f"_codecs.encode with {str(encoding)[:40]!r}")
    return text.encode("latin1")


def _byte_array(text: Any = b"", encoding: Any = "latin1") -> bytearray:
    return bytearray(text if type(text) is bytes else _encoded(text, encoding))


def _complex(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    return complex(float(real), float(imaginary))


def _entries(values: Any = ()) -> list[Any]:
    if type(values) not in (list, tuple):
        raise Refused("its pickle makes a set of what is no list")
    return checked_keys(list(values))


def _ordered(entries: Any = ()) -> OrderedDict:
    pairs = [tuple(pair) for pair in entries]
    checked_keys([key for key, _ in pairs])
    return OrderedDict(pairs)


def array_names() -> dict[str, Any]:
    """Dotted name in a pickle → what it stands for. Numpy 1 and 2 name their internals differently."""
    names: dict[str, Any] = {
        "numpy.ndarray": _ARRAY,
        "numpy.dtype": Maker(_dtype),
        "_codecs.encode": Maker(_encoded),
        "collections.OrderedDict": Maker(_ordered),
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray._reconstruct"] = Maker(_reconstruct, _vector)
        names[f"{core}.multiarray.scalar"] = Maker(_scalar)
        names[f"{core}.numeric._frombuffer"] = Maker(_from_buffer)
    for module in ("builtins", "__builtin__"):
        names[f"{module}.bytes"] = Maker(_encoded)
        names[f"{module}.bytearray"] = Maker(_byte_array)
        names[f"{module}.complex"] = Maker(_complex)
        names[f"{module}.set"] = Maker(lambda values=(): set(_entries(values)))
        names[f"{module}.frozenset"] = Maker(lambda values=(): frozenset(_entries(values)))
    return names


def read_array(data: bytes, names: dict[str, Any], budget: int) -> np.ndarray:
    """One ``.npy`` member. Raises :class:`Refused`, or what a damaged one makes numpy or the reader raise."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"unknown .npy version {version}")
    read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, by_columns, dtype = read_header(file)
    dtype = _plain_dtype(dtype.str if dtype.names is None and dtype.subdtype is None else str(dtype))
    if not dtype.hasobject:
        return _filled(shape, dtype, data[file.tell() :], "F" if by_columns else "C")
    array = Machine(data, names, budget=budget, at=file.tell()).load()
    if not isinstance(array, np.ndarray) or array.shape != shape or not array.dtype.hasobject:
        raise ValueError("an array of objects is not what its header says")
    return array
