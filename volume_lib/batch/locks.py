"""One launcher at a time for an experiment, one process at a time in a run's folder.

The locks are the operating system's (``flock``): whatever way their holder ends, SIGKILL included,
they end with it, and none is ever stale. The file says who holds it; it goes when the holder lets go.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import getpass
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from volume_lib.errors import InputError

FILE_NAME = ".lock"
_POLL = 0.1
_LARGEST = 10_000
_CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK
"""Links are not followed, and a pipe is not waited for."""
_NOT_OURS = "{}: is no lock of this package (a link, or somebody's file); it stays as it is, move it away"


class Held(Exception):
    """Somebody else holds the lock; the message says who."""


class Abandoned(Exception):
    """The wait for a lock was given up."""


@contextlib.contextmanager
def lock(
    folder: str | Path, what: str, *, wait: bool = False, abandon: Callable[[], bool] = lambda: False
) -> Iterator[int]:
    """Hold ``<folder>/.lock``; gives its file descriptor, which a child process may inherit and hold on to.

    ``what`` is told to whoever comes second. Raises :class:`Held` when somebody else holds it and we do not
    ``wait``, :class:`Abandoned` when ``abandon()`` turns true meanwhile, and InputError where the folder
    cannot be written to.
    """
    path = Path(folder) / FILE_NAME
    while (descriptor := _try(path)) is None:
        if not wait:
            raise Held(holder_of(path))
        if abandon():
            raise Abandoned
        time.sleep(_POLL)
    try:
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "user": _user(), "what": what}
        holder["since"] = datetime.now().astimezone().isoformat(timespec="seconds")
        with contextlib.suppress(OSError):  # a full disk; the lock holds without a word
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        if abandon():
            raise Abandoned
        yield descriptor
    finally:
        with contextlib.suppress(OSError):  # before it is released, so that it is surely ours
            path.unlink()
        os.close(descriptor)


def _try(path: Path) -> int | None:
    """The descriptor of the locked file; None if somebody else has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | _CAREFUL, 0o666)
    except OSError as error:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise InputError(_NOT_OURS.format(path)) from error
        raise InputError(f"{path.parent}: cannot be written to: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return descriptor  # a file system without locks: better unguarded than not at all
        os.close(descriptor)
        return None
    if _is_still(path, descriptor):
        if not _is_ours(descriptor):
            os.close(descriptor)
            raise InputError(_NOT_OURS.format(path))
        return descriptor
    os.close(descriptor)  # its last holder removed the file between our opening and locking it
    return _try(path)


def _is_ours(descriptor: int) -> bool:
    """Whether an open file is a lock that may be written: a plain file of one name, with our words."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > _LARGEST:
        return False
    content = os.pread(descriptor, _LARGEST, 0)
    return not content or content.startswith(b'{"pid": ')


def is_held(folder: str | Path) -> bool:
    """Whether somebody holds ``<folder>/.lock`` now."""
    try:
        descriptor = os.open(Path(folder) / FILE_NAME, os.O_RDONLY | _CAREFUL)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        named, ours = os.stat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)


def holder_of(path: Path) -> str:
    """In words, who holds the lock."""
    try:
        holder = json.loads(path.read_text())
        return "{what}: process {pid} of {user} on {host}, since {since}".format(**holder)
    except (OSError, ValueError, KeyError):
        return "another process"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this user id, as in some containers
        return str(os.getuid())
