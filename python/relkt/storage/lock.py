"""A lock that lets one process at a time use a folder."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from relkt.storage.errors import LockedError, NotWritableError

_CONTENT = b"made by relkt\n"
"""The content of a lock file that relkt made."""
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``FOLDER.lock`` while the context lasts.

    However the process ends, the operating system releases the lock, so the lock file of a killed process does not
    block others. On a file system without locks, nothing is locked. A lock file that relkt made is deleted at the end.
    An empty file that existed before also serves as a lock file, but is kept.

    Args:
        folder: The folder that only one process may use; it need not exist.

    Raises:
        LockedError: If another process holds the lock, or the file has content that relkt did not write.
        OSError: If the file cannot be written.
    """
    path = folder.with_name(f"{folder.name}.lock")
    while True:
        file, made = _opened(path)
        try:
            if not _lock(file):
                raise LockedError(f"another run is using {folder}; wait for it to finish, or choose another output")
            is_own = _is_own(file, path, made=made)
        except BaseException:
            file.close()
            raise
        if _is_at(file, path):
            break
        file.close()  # the process that held the lock has just ended and deleted this file
    try:
        yield
    finally:
        if is_own:
            with suppress(OSError):  # Windows cannot delete an open file
                path.unlink()
        file.close()
        if is_own and sys.platform == "win32":
            with suppress(OSError):  # another process may have opened it by now
                path.unlink()


def _opened(path: Path) -> tuple[IO[bytes], bool]:
    """The file, and whether this call made it."""
    try:
        try:
            return path.open("x+b", buffering=0), True
        except FileExistsError:
            return path.open("a+b", buffering=0), False
    except OSError as error:
        raise NotWritableError("output", "a writable place", f"{path}: {error.strerror or error}") from error


def _is_own(file: IO[bytes], path: Path, *, made: bool) -> bool:
    """True if relkt made the file. If ``made``, writes relkt's content into it first.

    Raises:
        LockedError: If the file has other content.
    """
    file.seek(0)
    content = file.read(len(_CONTENT) + 1)
    if content == _CONTENT:
        return True
    if content:
        raise LockedError(
            f"{path}: expected a lock file of relkt, got a file with other content; move it away, or choose another "
            "output"
        )
    if made:
        try:
            if file.write(_CONTENT) != len(_CONTENT):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error
    return made


def _lock(file: IO[bytes]) -> bool:
    file.seek(0)  # Windows locks a byte at this position
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
