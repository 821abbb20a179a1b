"""Tensors of torch out of ``.pt`` files and of the ``.npz`` files of older notebooks.

A tensor is a stretch of a storage: here one that lies within its file, no larger than what is stored.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from volume_lib.storage.archives import Archive, Refused
from volume_lib.storage.arrays import array_names
from volume_lib.storage.pickles import Leaf, Machine, Maker, Marker, Odd

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_KINDS = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip
_ODD_STORAGES = ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")
_ODD = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_meta_tensor_no_storage": "meta",
    "_rebuild_qtensor": "quantised",
    "_rebuild_wrapper_subclass": "wrapped",
}
_ODD_ARGUMENTS = ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric")
_DTYPES = (*_KINDS.values(), "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")


class Storage(Leaf):
    """The memory that tensors share: bytes, and the type that they are of."""

    __slots__ = ("flat", "memory")

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        import torch

        # torch's own memory: its alignment is part of what decides the last bit of a sum
        raw = torch.empty(size, dtype=torch.uint8)
        self.memory = raw.numpy().data if size else memoryview(bytearray())
        self.flat = raw.view(dtype) if size else torch.empty(0, dtype=dtype)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor | Odd:
    if type(storage) is Odd:
        return storage
    if type(storage) is not Storage or type(size) is not tuple or type(stride) is not tuple:
        raise ValueError("a tensor without a storage")
    whole = all(type(n) is int and n >= 0 for n in (offset, *size, *stride))
    if not whole or len(size) != len(stride) or len(size) > 64:
        raise ValueError("a tensor's shape is none")
    if len(rest) > 2 and rest[2]:
        return Odd("lazily negated or conjugated")
    flat, count = storage.flat, math.prod(size)
    if count > len(flat):
        raise Refused(f"its tensor of shape {size} is expanded from {len(flat)} stored values")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
    if last >= max(len(flat), 1):
        raise ValueError("a tensor reaches beyond its storage")
    return flat.as_strided(size, stride, offset) if count else flat.new_empty(size)


def _typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any
) -> Any:
    """The newer form, for types that have no storage class: the storage is of bytes."""
    import torch

    if type(storage) is not Storage or not isinstance(dtype, torch.dtype):
        raise ValueError("a tensor without a storage")
    typed = Storage.__new__(Storage)
    typed.memory, typed.flat = storage.memory, storage.flat.view(dtype)
    return _tensor(typed, offset, size, stride)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _with_attributes(maker: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor with attributes, which nothing here uses."""
    if type(maker) is not Maker or type(arguments) is not tuple:
        raise Refused("its pickle calls what is no function")
    return maker.make(*arguments)


def _odd(kind: str) -> Callable[..., Odd]:
    return lambda *_: Odd(kind)


@cache
def tensor_names() -> dict[str, Any]:
    """Dotted name → what it stands for, of tensors and of what lies in them."""
    import torch

    names: dict[str, Any] = {
        "torch._utils._rebuild_tensor": Maker(_tensor),
        "torch._utils._rebuild_tensor_v2": Maker(_tensor),
        "torch._utils._rebuild_tensor_v3": Maker(_typed_tensor),
        "torch._utils._rebuild_parameter": Maker(_parameter),
        "torch._utils._rebuild_parameter_with_state": Maker(_parameter),
        "torch._tensor._rebuild_from_type_v2": Maker(_with_attributes),
        "torch.serialization._get_layout": Maker(_odd("layout")),
        "torch.Size": Maker(lambda sizes=(): tuple(sizes)),
        "torch.Tensor": Marker(),
        "torch.nn.parameter.Parameter": Marker(),
        "torch.storage.UntypedStorage": Marker(torch.uint8),
    }
    names |= {f"torch._utils.{name}": Maker(_odd(kind)) for name, kind in _ODD.items()}
    names |= {f"torch.{name}": Odd(name) for name in _ODD_ARGUMENTS}
    names |= {f"torch.{name}": getattr(torch, name) for name in _DTYPES if hasattr(torch, name)}
    for module in ("torch", "torch.cuda"):
        names |= {f"{module}.{kind}Storage": Marker(getattr(torch, name)) for kind, name in _KINDS.items()}
        names |= {f"{module}.{kind}Storage": Odd("quantised") for kind in _ODD_STORAGES}
    return names


class _Names(dict[str, Any]):
    """The names of arrays, and those of tensors from the first one on: arrays are read without torch."""

    def __missing__(self, name: str) -> Any:
        if not name.startswith("torch."):
            raise KeyError(name)
        return tensor_names()[name]


def _described(identity: Any, stored: int) -> tuple[str, Storage | Odd]:
    """Key and empty storage for a persistent id, of at most ``stored`` bytes."""
    if type(identity) is not tuple or len(identity) < 5 or identity[0] != "storage":
        raise Refused("its pickle refers to what is no tensor")
    _, kind, key, _, count = identity[:5]
    if type(kind) is Odd:
        return key, kind
    if type(kind) is not Marker or kind.value is None or type(key) is not str or type(count) is not int:
        raise Refused("its pickle refers to what is no tensor")
    size = count * kind.value.itemsize
    if not 0 <= size <= stored:
        raise ValueError(f"storage {key} of {size} bytes is larger than the file")
    return key, Storage(size, kind.value)


def read_archive(archive: Archive) -> Any:
    """The content of a ``.pt`` file as torch has written them since version 1.6."""
    main = [name for name in archive.members if name.rpartition("/")[2] == "data.pkl"]
    if len(main) != 1:
        raise ValueError("not an archive of torch")
    folder = main[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.members and archive.read(order) != sys.byteorder.encode():
        raise Refused("its numbers have the byte order of another kind of machine")
    storages: dict[str, Storage | Odd] = {}

    def persistent(identity: Any) -> Storage | Odd:
        name = f"{folder}data/{identity[2]}" if type(identity) is tuple and len(identity) > 2 else ""
        if name not in archive.members:
            raise ValueError("a storage is missing")
        if name not in storages:
            _, found = _described(identity, archive.members[name].file_size)
            storages[name] = found
            if isinstance(found, Storage):
                archive.read_into(name, found.memory)
        return storages[name]

    data = archive.read(main[0])
    content = Machine(
        data, _Names(array_names()), persistent=persistent, budget=500_000 + archive.size
    ).load()
    archive.finish()
    return content


_MAGIC = 0x1950A86A20F9469CFC6C


def read_stream(data: bytes) -> Any:
    """The content of a file as torch wrote them before version 1.6, and still writes a lone storage.

    Four pickles (magic number, protocol, machine, content), one with the storages' keys, and their bytes.
    """
    machine = Machine(data, {})
    if data[:1] != b"\x80" or machine.load() != _MAGIC:
        raise ValueError("not a file of torch")
    for _ in ("protocol", "machine"):
        machine = Machine(data, {}, at=machine.at)
        machine.load()
    storages: dict[str, Storage | Odd] = {}
    left = len(data)

    def persistent(identity: Any) -> Storage | Odd:
        nonlocal left
        if type(identity) is tuple and len(identity) > 2 and identity[2] in storages:
            return storages[identity[2]]
        if type(identity) is tuple and len(identity) > 5 and identity[5] is not None:
            raise Refused("its storage is a view of another")
        key, storage = _described(identity, left)
        storages[key] = storage
        left -= len(storage.memory) if type(storage) is Storage else 0
        return storage

    machine = Machine(data, _Names(array_names()), persistent=persistent, at=machine.at)
    content = machine.load()
    machine = Machine(data, {}, at=machine.at)
    _fill(machine.load(), storages, data, machine.at)
    return content


def _fill(keys: Any, storages: dict[str, Storage | Odd], data: bytes, at: int) -> None:
    """The storages' bytes, in the order of ``keys``, each behind its number of values."""
    if type(keys) is not list or len(keys) != len(storages):
        raise ValueError("storages are missing")
    for key in keys:
        storage = storages.pop(key)
        if type(storage) is not Storage:
            return  # quantised: its content is refused whatever it is
        count, at = int.from_bytes(data[at : at + 8], "little"), at + 8
        size = len(storage.memory)
        if count != len(storage.flat) or at + size > len(data):
            raise ValueError("the file ends early")
        storage.memory[:] = data[at : at + size]
        at += size


def names_in_arrays() -> dict[str, Any]:
    """For pickles in ``.npz`` files, whose tensors carry their storages along."""

    def storage(data: Any) -> Any:
        if type(data) is bytes and data[:2] == b"PK":
            raise Refused("its tensor is an archive of its own")
        found = read_stream(data) if type(data) is bytes else None
        if type(found) not in (Storage, Odd):
            raise Refused("its tensor has a storage that is none")
        return found

    return _Names(array_names() | {"torch.storage._load_from_bytes": Maker(storage)})
