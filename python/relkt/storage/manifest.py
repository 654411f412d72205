"""Manifests of resumable work.

Work that can be resumed lies in a folder with a manifest: a JSON file that lists what the work depends on. A later call
compares the manifest with its own arguments. If they are equal, the call resumes the work; otherwise, the error lists
each value that differs. Files that relkt may delete are recognised by their names (:meth:`Manifest.owns`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relkt.storage.atomic import PARTIAL, atomic_file, is_temporary
from relkt.storage.errors import FolderError

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "not set"})()
"""Stands for a value that one of two manifests lacks."""

_SHOWN = 60
"""Longest value, in characters, that a message shows."""


@dataclass(frozen=True)
class Difference:
    """A value that differs between two manifests.

    Args:
        name: Its keys, joined by dots.
        was: The value in the manifest; :data:`MISSING` if it has no such value.
        now: The value now; :data:`MISSING` if no value is given.
    """

    name: str
    was: Any
    now: Any

    def __str__(self) -> str:
        """``batch_size was 32, is now 64``; long values, such as checksums, are not shown."""
        if max(len(repr(self.was)), len(repr(self.now))) > _SHOWN:
            return f"{self.name} differs"
        return f"{self.name} was {self.was!r}, is now {self.now!r}"


def differences(was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """All values that differ between two nested mappings.

    Args:
        was: The values before.
        now: The values now.
        prefix: Put before each name.

    Returns:
        The differences, in the order of the keys: first the keys of ``was``, then the keys that only ``now`` has.
    """
    found: list[Difference] = []
    for key in dict.fromkeys([*was, *now]):
        before, after = was.get(key, MISSING), now.get(key, MISSING)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(Difference(f"{prefix}{key}", before, after))
    return found


@dataclass(frozen=True)
class Manifest:
    """The manifest of a folder of resumable work.

    Args:
        folder: The folder; it need not exist.
        name: The manifest's file name.
        mark: Values that every manifest of this kind starts with, e.g. ``{"relkt": "mining", "version": 3}``. If the
            first value differs, the file is not a manifest of this kind. If a later value differs, that is a difference
            like any other.
        owned: Regular expressions for the names of the other files that relkt writes into the folder.
    """

    folder: Path
    name: str
    mark: Mapping[str, Any] = field(default_factory=dict)
    owned: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.name

    def exists(self) -> bool:
        """True if the folder has a manifest, i.e. work was started in it."""
        return self.path.is_file()

    def read(self) -> dict[str, Any] | None:
        """The values, with the mark; None without a manifest.

        Raises:
            FolderError: If the file cannot be read, or is not a manifest of this kind.
        """
        if not self.exists():
            return None
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FolderError(f"{self.path}: expected JSON, got an error: {error}") from error
        if not isinstance(found, dict) or any(found.get(key) != value for key, value in list(self.mark.items())[:1]):
            raise FolderError(f"{self.path}: not a manifest written by relkt")
        return found

    def differences(self, values: Mapping[str, Any]) -> list[Difference]:
        """The differences between the manifest, which must exist, and ``values``.

        Raises:
            FolderError: As for :meth:`read`.
        """
        return differences(self.read() or {}, {**self.mark, **values})

    def write(self, values: Mapping[str, Any], *, indent: int | None = 2) -> None:
        """Write the mark and the values; makes the folder if it is missing.

        Args:
            values: What the work depends on, as JSON values.
            indent: As for :func:`json.dumps`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**self.mark, **values}, ensure_ascii=False, indent=indent) + "\n"
        with atomic_file(self.path, partial=self.path.with_name(self.name + PARTIAL)) as file:
            file.write(text.encode())

    def owns(self, name: str) -> bool:
        """True for the name of a file that relkt writes into the folder, and for the temporary name of such a file."""
        name = is_temporary(name) or name
        return name == self.name or any(re.fullmatch(pattern, name) for pattern in self.owned)

    def others(self) -> list[str]:
        """The names of all subfolders, and of the files that are not relkt's, sorted."""
        return sorted(path.name for path in self._paths() if not self._is_own(path))

    def remove_owned(self) -> None:
        """Delete relkt's files, the manifest last, so that a half-deleted folder is still recognised."""
        for path in sorted(filter(self._is_own, self._paths()), key=lambda path: path.name == self.name):
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.is_dir() else []

    def _is_own(self, path: Path) -> bool:
        return self.owns(path.name) and (path.is_symlink() or not path.is_dir())


def list_names(names: Iterable[str], limit: int = 5) -> str:
    """Names for a message: the first few, and an ellipsis for the others."""
    shown = list(names)
    return ", ".join(shown[:limit]) + (", ..." if len(shown) > limit else "")
