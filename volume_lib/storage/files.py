"""How files are written: whole or not at all, and with what makes later damage visible."""

from __future__ import annotations

import contextlib
import io
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib.storage.archives import seal


@contextlib.contextmanager
def atomic_write(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name in ``path``'s folder; on success the file takes its place, on failure it goes.

    The folder is made where it is missing. ``durable``: survives a power cut, which costs the disk some
    milliseconds. ``OSError`` (full disk, read-only folder …) names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with open(temporary, "rb+") as file:  # on disk before it is named, or a power cut leaves it empty
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"cannot write: {os.strerror(error.errno)}", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_temporary_files(folder: str | Path) -> list[Path]:
    """Delete what writers that were killed left under ``folder``. No writer may be at work there."""
    left = [path for path in Path(folder).rglob(".*.tmp") if re.search(r"\.[0-9a-f]{8}\.tmp$", path.name)]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def write_bytes(path: str | Path, data: bytes, *, durable: bool = True) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_write(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def save_torch(path: Path, content: dict[str, Any]) -> None:
    import torch

    # Through memory, because torch turns a full disk into an assertion about its zip writer.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, seal(buffer))


def save_npz(path: Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, seal(buffer))
