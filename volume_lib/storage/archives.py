"""Zip archives (``.npz`` and ``.pt`` files) from anybody: their limits and their check sums.

What an archive holds is judged from its own directory before anything is unpacked. Every member is read
to its end, where its check sum is compared, and the members together are compared with the archive's
*seal*: a digest of all their sums that our own writers leave in a member ``digest`` (of a ``.pt``) or
``digest.npy``. Archives of other writers, and of older versions, have no seal.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_INFLATED = 16 << 20
"""Bytes that deflated members may have together, and 30 times the file's own size beside."""


class Refused(Exception):
    """The file is whole, but asks for what no file of this workflow does; the message says for what."""


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open for reading what is a regular file; a pipe or a device is refused instead of waited for."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise Refused("it is a folder")
        if not stat.S_ISREG(kind):
            raise Refused("it is a pipe or a device, not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_text(path: str | Path) -> str:
    """The text of a regular file, in UTF-8."""
    with open_regular(path) as file:
        return io.TextIOWrapper(file, encoding="utf-8").read()


class Archive:
    """The members of a zip file by name; closed by ``with``.

    Raises :class:`Refused` where the directory is beyond the limits, ``zipfile.BadZipFile`` and others
    where it is damaged.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        self.size = os.fstat(file.fileno()).st_size
        self._zip = zipfile.ZipFile(file)
        self.members = {info.filename: info for info in self._zip.infolist()}
        if len(self.members) < len(self._zip.infolist()):
            raise zipfile.BadZipFile("a member twice")
        file.seek(-12 - len(self._zip.comment), os.SEEK_END)  # the count that ends the directory
        if int.from_bytes(file.read(2), "little") not in (len(self.members), 0xFFFF):
            raise zipfile.BadZipFile("members are missing")
        self._unread = set(self.members)
        self._check_limits()

    def _check_limits(self) -> None:
        deflated = 0
        for info in self.members.values():
            if info.compress_type == zipfile.ZIP_DEFLATED:
                deflated += info.file_size
            elif info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise zipfile.BadZipFile(f"{info.filename} is neither stored nor deflated")
        stored = sum(info.compress_size for info in self.members.values())
        if stored > self.size:
            raise zipfile.BadZipFile("members overlap")
        if deflated > _INFLATED + 30 * self.size:
            raise Refused(f"its {self.size:,} bytes would become {deflated:,}")

    def read(self, name: str) -> bytes:
        """A member, its check sum compared."""
        self._unread.discard(name)
        return self._zip.read(self.members[name])

    def read_into(self, name: str, memory: memoryview) -> None:
        """A member into memory of its very size, without a second copy of it."""
        info, at = self.members[name], 0
        if info.file_size != len(memory):
            raise ValueError(f"{name} has {info.file_size} bytes, not {len(memory)}")
        self._unread.discard(name)
        with self._zip.open(info) as member:
            while part := member.read(1 << 20):
                memory[at : at + len(part)] = part
                at += len(part)

    def finish(self) -> None:
        """Read what nobody asked for, and compare the seal, if there is one."""
        for name in sorted(self._unread):
            self.read(name)
        for name in self.members:
            if name.rpartition("/")[2] in _SEALS:
                found, right = self.read(name), _seal(self.members, name)
                if len(found) == len(right) and found != right:  # other lengths are another writer's
                    raise ValueError("its members are not those that were written together")


_SEALS = ("digest", "digest.npy")


def _seal(members: dict[str, zipfile.ZipInfo], own: str) -> bytes:
    """What the member ``own`` must hold: the digest of all others' names, sizes and check sums."""
    lines = [f"{n}\0{info.file_size}\0{info.CRC}" for n, info in sorted(members.items()) if n != own]
    text = hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
    if not own.endswith(".npy"):
        return text.encode()
    array = io.BytesIO()
    np.lib.format.write_array(array, np.array(text))
    return array.getvalue()


def seal(buffer: io.BytesIO) -> Any:
    """Add the seal to the archive that ``buffer`` holds; returns its bytes."""
    with zipfile.ZipFile(buffer, "a") as archive:
        members = {info.filename: info for info in archive.infolist()}
        folders = {name.partition("/")[0] for name in members if "/" in name}
        own = f"{folders.pop()}/digest" if folders else "digest.npy"
        # without the time of day: the same content is the same file
        archive.writestr(zipfile.ZipInfo(own), _seal(members, own))
    return buffer.getbuffer()
