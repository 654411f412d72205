"""Files that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file beside ``path`` that takes its place if all goes well, and is removed if not.

    Raises:
        IsADirectoryError: If ``path`` is a folder.
        OSError: If the file cannot be written.
    """
    # Through a link, what it points to is replaced, not the link.
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(f"path: expected a file, got the folder {str(target)!r}")
    temporary, file = _temporary_file(target)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            # Who may read the file that is replaced may read the new one, and nobody else.
            temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary_file(target: Path) -> tuple[Path, IO[bytes]]:
    attempt = 0
    while True:
        temporary = target.with_name(f".{target.name}.{os.getpid()}-{attempt}.tmp")
        try:
            return temporary, temporary.open("xb")
        except FileExistsError:
            attempt += 1
