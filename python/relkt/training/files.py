"""Files that are whole at any moment."""

from __future__ import annotations

import os
from pathlib import Path

PARTIAL = ".partial"
"""The end of the name of a file, or a folder, that is being written."""


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that at any moment there is the old one or the new one, whenever the process is killed.

    Whether the new one outlasts a power cut is up to the file system: the folder itself is not synchronised.
    """
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
