"""Atomic writes: whenever a process is killed, a path holds its old content or its new content, both complete.

A new file or folder is written under a temporary name in the same folder, flushed to disk and renamed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PARTIAL = ".partial"
"""Suffix of a temporary file with a fixed name, for folders that are written by one process at a time."""

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+-\d+\.(tmp|old)", re.DOTALL)


@contextmanager
def atomic_file(path: str | os.PathLike[str], *, partial: Path | None = None) -> Iterator[IO[bytes]]:
    """A new binary file that replaces ``path`` when the context ends without an error, and is deleted otherwise.

    The permissions of a replaced file are kept. If ``path`` is a symbolic link, its target is replaced. A device or a
    pipe is written to directly.

    Args:
        path: The file to write.
        partial: The temporary file, on the same file system as ``path``. It is overwritten if it exists. Default: a
            hidden file with an unused name in the folder of ``path``, see :func:`is_temporary`.

    Raises:
        IsADirectoryError: If ``path`` is a folder.
        OSError: If the file cannot be written completely; the message names the temporary file.
    """
    if _is_special(Path(path)):
        with Path(path).open("wb") as device:
            yield device
        return
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(f"path: expected a file, got the folder {str(target)!r}")
    temporary, file = _new_file(target) if partial is None else (partial, _replaced(partial))
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # NumPy bypasses Python's buffer and may miss a full disk.
            expected, size = file.tell(), os.fstat(file.fileno()).st_size
            if size < expected:
                raise OSError(errno.EIO, f"expected {expected} bytes on the disk, got {size}", str(temporary))
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and str(temporary) not in str(error):
            if error.errno is not None:
                raise OSError(error.errno, error.strerror, str(temporary)) from error
            if type(error) is OSError:  # errors of other types keep their type and message
                raise OSError(f"{temporary}: {error}") from error
        raise
    _sync(target.parent)


def atomic_write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a whole file, see :func:`atomic_file`; a text is encoded as UTF-8.

    Raises:
        IsADirectoryError: If ``path`` is a folder.
        OSError: If the file cannot be written.
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new, empty folder that replaces ``path`` when the context ends without an error, and is deleted otherwise.

    On Linux, the old and the new folder exchange their names in one step. On other systems, the old folder is renamed
    first; if the process is killed before the new folder is renamed, the next call restores the old folder. Only one
    process at a time may write ``path``, because a call deletes the temporary folders that it takes for those of killed
    processes. Missing parent folders are made.

    Raises:
        NotADirectoryError: If ``path`` exists and is not a folder.
        OSError: If the folder cannot be written.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"path: expected a folder, got the file {str(target)!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(target)
    new = target.with_name(_temporary_name(target, 0))
    old = new.with_suffix(".old")
    new.mkdir()
    try:
        yield new
        for folder, _, names in os.walk(new):
            for name in names:
                _sync(Path(folder) / name)
            _sync(Path(folder))
        if not target.exists():
            new.rename(target)
        elif not _exchange(new, target):
            target.rename(old)
            new.rename(target)
    finally:
        _restore(target, old)
        # After an exchange, the old folder has the temporary name of the new folder.
        shutil.rmtree(new, ignore_errors=True)
    _sync(target.parent)


def is_temporary(name: str) -> str | None:
    """The name of the file that a temporary file of :func:`atomic_file` would have replaced.

    Returns:
        The name, e.g. ``run.json`` for ``.run.json.1234-0.tmp`` and ``run.json.partial``; None for other names.
    """
    if found := _TEMPORARY.fullmatch(name):
        return found["name"]
    return name.removesuffix(PARTIAL) if name.endswith(PARTIAL) and name != PARTIAL else None


def remove_temporaries(path: Path) -> None:
    """Delete what killed writers of ``path`` left; restore the old folder if the new one did not get its place.

    Files whose names end in :data:`PARTIAL` are kept, since relkt may not have made them.
    """
    if not path.parent.is_dir():
        return
    for found in path.parent.glob(".*"):
        match = _TEMPORARY.fullmatch(found.name)
        if match is None or match["name"] != path.name:
            continue
        if found.suffix == ".old":
            _restore(path, found)
        elif found.is_dir() and not found.is_symlink():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)


def _restore(target: Path, old: Path) -> None:
    """Rename an old folder back if nothing has taken its place; delete it otherwise."""
    if not target.exists() and old.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _is_special(path: Path) -> bool:
    # The path is tested before its links are resolved, because /dev/stdout resolves to a name that cannot be opened.
    return path.exists() and not path.is_file() and not path.is_dir()


def _temporary_name(target: Path, attempt: int) -> str:
    return f".{target.name}.{os.getpid()}-{attempt}.tmp"


def _new_file(target: Path) -> tuple[Path, IO[bytes]]:
    attempt = 0
    while True:
        temporary = target.with_name(_temporary_name(target, attempt))
        try:
            return temporary, temporary.open("xb")
        except FileExistsError:
            attempt += 1


def _replaced(path: Path) -> IO[bytes]:
    # The existing file is deleted first, so that a link is not followed.
    path.unlink(missing_ok=True)
    return path.open("xb")


def _sync(path: Path) -> None:
    """Flush a file's content, or a folder's names, to disk, if the system supports this."""
    if path.is_symlink():
        return
    with suppress(OSError):  # Windows cannot open folders, and some file systems cannot flush them
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; returns False, with both unchanged, where the system cannot."""
    at_working_folder, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    rename.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    failed = rename(at_working_folder, os.fsencode(first), at_working_folder, os.fsencode(second), exchange)
    return not failed
