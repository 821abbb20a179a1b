"""The three kinds of files, read within limits; what can be wrong with them is told in one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from volume_lib.errors import InputError
from volume_lib.storage.archives import Archive, Refused, open_regular
from volume_lib.storage.arrays import read_array
from volume_lib.storage.tensors import names_in_arrays, read_archive, read_stream

_LARGEST_JSON = 256 << 20
_DIGEST = "blake2b:"


def read(path: Path, reader: Callable[[Path], Any], notebook: str) -> Any:
    """``reader(path)``, with every way to fail told in one line."""
    written_by = f"'{notebook}' writes it"
    try:
        return reader(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: does not exist; {written_by}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {written_by}") from error
    except Refused as error:
        raise InputError(f"{path}: refused, {error}; {written_by}") from error
    except Exception as error:  # a damaged file can make zipfile, json, numpy and torch raise anything
        size = path.stat().st_size
        raise InputError(
            f"{path}: truncated or not a {path.suffix} file, or damaged ({size} bytes, "
            f"{type(error).__name__}); delete it and run the notebook again: {written_by}"
        ) from error


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an ``.npz`` file, object arrays included.

    Raises :class:`Refused` for what no file of this workflow asks for, ``OSError`` where the file cannot
    be opened, and other exceptions of many kinds where it is damaged.
    """
    with open_regular(path) as file:
        archive = Archive(file)
        names, budget = names_in_arrays(), 500_000 + archive.size
        wanted = [name for name in archive.members if name != "digest.npy"]
        arrays = {name.removesuffix(".npy"): read_array(archive.read(name), names, budget) for name in wanted}
        archive.finish()
        return arrays


def load_torch(path: Path) -> Any:
    """A ``.pt`` file of tensors, arrays and plain containers, on the CPU; raises as :func:`load_npz`."""
    with open_regular(path) as file:
        is_archive = file.read(2) == b"PK"
        file.seek(0)
        return read_archive(Archive(file)) if is_archive else read_stream(file.read())


def json_digest(content: dict[str, Any]) -> str:
    """What ``content`` says, in 32 letters, however it is laid out."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return _DIGEST + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def load_json(path: Path) -> Any:
    """A ``.json`` file, its ``digest`` (if any) compared and taken out; raises as :func:`load_npz`."""
    with open_regular(path) as file:
        text = file.read(_LARGEST_JSON + 1)
    if len(text) > _LARGEST_JSON:
        raise Refused(f"it is larger than {_LARGEST_JSON:,} bytes")
    content = json.loads(text.decode("utf-8"))
    if not isinstance(content, dict):
        return content
    digests = [key for key, value in content.items() if isinstance(value, str) and value.startswith(_DIGEST)]
    digests = digests or [key for key in content if key == "digest"]
    for key in digests:
        if content.pop(key) != json_digest(content):
            raise Refused("it was changed after it was written (take out its digest if that was you)")
    return content
