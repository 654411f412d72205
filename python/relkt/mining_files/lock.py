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

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Holds ``WORK.lock``, a lock of the operating system, which goes with the process however that ends.

    A file system without locks is taken as it is. The file is deleted at the end; one that a killed run left behind is
    not locked, and so in nobody's way.

    Args:
        work: The folder that only one run may use.

    Raises:
        WorkFolderError: If another run holds the lock.
    """
    path = work.with_name(f"{work.name}.lock")
    while True:
        file = path.open("ab")
        try:
            if not _lock(file):
                raise WorkFolderError(f"another run is using {work}: wait for its end, or give another output")
        except BaseException:
            file.close()
            raise
        if _is_at(file, path):
            break
        file.close()  # of a run that has just ended, and deleted it
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes no file that is open
            path.unlink()
        file.close()
        if sys.platform == "win32":
            with suppress(OSError):  # another run may have it by now
                path.unlink()


def _lock(file: IO[bytes]) -> bool:
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
