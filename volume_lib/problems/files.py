"""Data sets that lie in files: found, downloaded when missing, and otherwise explained."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from volume_lib.errors import InputError

_may_download = contextvars.ContextVar("may_download", default=True)


@contextlib.contextmanager
def no_downloads(really: bool = True) -> Iterator[None]:
    """Within, data sets that are not there are not downloaded."""
    token = _may_download.set(not really)
    try:
        yield
    finally:
        _may_download.reset(token)


def find_or_download(read: Callable[[bool], Any], name: str, root: Path, folder: str, files: str) -> Any:
    """``read(False)``, which reads the files; where they are missing ``read(True)``, which downloads them.

    Raises InputError saying where problem ``name`` looked (``folder`` in ``root``) and for what (``files``)
    when they are missing and cannot be downloaded, and when they cannot be read.
    """
    place = f"{files} in {root / folder}"
    new_folders = [path for path in (root / folder, *(root / folder).parents) if not path.exists()]
    try:
        return read(False)
    except (RuntimeError, OSError) as error:
        # torchvision's word for missing files, and Python's
        if "not found" not in str(error) and not isinstance(error, FileNotFoundError):
            raise InputError(f"{place}: {_one_line(error)}; place them anew") from error
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{place} are damaged ({_one_line(error)}); delete and place them anew") from error
    try:
        if not _may_download.get():
            raise FileNotFoundError("not asked for")
        return read(True)
    except Exception as error:
        for path in new_folders:  # the innermost first; torchvision makes them before it asks the network
            with contextlib.suppress(OSError):
                path.rmdir()
        raise InputError(
            f"{name}: not in {root / folder}, and no download ({_one_line(error)}). Place {files} "
            f"there, or set VOLUME_LIB_DATA to the folder that holds {folder}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
