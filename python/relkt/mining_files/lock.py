"""One run at a time for each output."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from relkt.mining_files.work_folder import WorkFolderError

_OURS = b"made by relkt\n"
"""The content of a lock file that a run has made."""
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Holds ``WORK.lock``, a lock of the operating system, which goes with the process however that ends.

    A file system without locks is taken as it is. A file that a run has made is deleted at the end; one that a killed
    run left behind is not locked, and so in nobody's way. An empty file of somebody else's serves as well, and stays.

    Args:
        work: The folder that only one run may use.

    Raises:
        WorkFolderError: If another run holds the lock, or the file is somebody else's.
        OSError: If the file cannot be written.
    """
    path = work.with_name(f"{work.name}.lock")
    while True:
        file, made = _opened(path)
        try:
            if not _lock(file):
                raise WorkFolderError(f"another run is using {work}: wait for its end, or give another output")
            ours = _is_ours(file, path, made=made)
        except BaseException:
            file.close()
            raise
        if _is_at(file, path):
            break
        file.close()  # of a run that has just ended, and deleted it
    try:
        yield
    finally:
        if ours:
            with suppress(OSError):  # Windows deletes no file that is open
                path.unlink()
        file.close()
        if ours and sys.platform == "win32":
            with suppress(OSError):  # another run may have it by now
                path.unlink()


def _opened(path: Path) -> tuple[IO[bytes], bool]:
    """The file, and whether it was not there before."""
    try:
        try:
            return path.open("x+b", buffering=0), True
        except FileExistsError:
            return path.open("a+b", buffering=0), False
    except OSError as error:
        raise OSError(f"output: expected a place that can be written, got {path}: {error.strerror or error}") from error


def _is_ours(file: IO[bytes], path: Path, *, made: bool) -> bool:
    """Whether a run has made the file, which it then says in it.

    Raises:
        WorkFolderError: If somebody else has written into it.
    """
    file.seek(0)
    content = file.read(len(_OURS) + 1)
    if content == _OURS:
        return True
    if content:
        raise WorkFolderError(
            f"{path}: expected a lock of ours, or nothing, got somebody else's file: move it away, or give another "
            "output"
        )
    if made:
        try:
            if file.write(_OURS) != len(_OURS):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error
    return made


def _lock(file: IO[bytes]) -> bool:
    file.seek(0)  # Windows locks a byte at this place
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
