"""How files are written (whole or not at all) and how damaged ones are reported."""

from __future__ import annotations

import contextlib
import io
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.storage.safe_pickle import RefusedName


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
    write_bytes(path, buffer.getbuffer())


def save_npz(path: Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getbuffer())


def read(path: Path, reader: Callable[[Path], Any], notebook: str) -> Any:
    """``reader(path)``, with every way to fail told in one line."""
    written_by = f"'{notebook}' writes it"
    try:
        return reader(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: does not exist; {written_by}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {written_by}") from error
    except RefusedName as error:
        message = f"{path}: refused, its pickle names {error}, which no file of this workflow does"
        raise InputError(f"{message}; {written_by}") from error
    except Exception as error:  # a damaged file can make zipfile, pickle, numpy and torch raise anything
        size = path.stat().st_size
        raise InputError(
            f"{path}: truncated or not a {path.suffix} file ({size} bytes, {type(error).__name__}); "
            f"delete it and run the notebook again: {written_by}"
        ) from error


def require(path: Path, content: Any, keys: tuple[str, ...], notebook: str) -> None:
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: holds a {type(content).__name__}, not named values; '{notebook}' writes it"
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; '{notebook}' writes them")
