"""The folder beside the output that holds what is done so far: whatever is in it under its own name is complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

CONDITIONS = "conditions"
"""Key of what negatives depend on, but embeddings do not."""
MINED = "mined"
"""What names of files of mined negatives start with."""

_MANIFEST = "manifest.json"
_PARTIAL = ".partial"


class WorkFolderError(ValueError):
    """A folder of a run with other inputs or parameters, or one that is no such folder."""


class WorkFolder:
    """What is done of a run.

    Args:
        output: The file the run writes; the folder is ``OUTPUT.work`` beside it.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(f"{output.name}.work")

    def open(self, manifest: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Opens the folder, or makes a new one.

        Args:
            manifest: What the work depends on, as JSON can hold it.
            overwrite: Whether to delete what does not fit of the work of a run with another manifest: all, or the
                negatives where only conditions are others.

        Returns:
            Whether there was work to go on with.

        Raises:
            WorkFolderError: If the folder belongs to a run with another manifest and may not be overwritten, or is
                somebody else's.
        """
        if self.path.exists() and not self.path.is_dir():
            raise WorkFolderError(f"{self.path}: expected a folder of ours, or nothing, got a file")
        names = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        if _MANIFEST in names:
            differences = _differences(json.loads((self.path / _MANIFEST).read_text(encoding="utf-8")), manifest)
            if not differences:
                return True
            if not overwrite:
                raise WorkFolderError(
                    f"{self.path} holds the work of another run: {'; '.join(differences)}. Give that run's inputs and "
                    "options to go on with it, or --overwrite to replace it"
                )
            if all(difference.startswith(f"{CONDITIONS}.") for difference in differences):
                self.delete(*(name for name in names if name.startswith(MINED)))
                self._write_manifest(manifest)
                return True
            self.remove()
        elif names - {_MANIFEST + _PARTIAL}:
            raise WorkFolderError(f"{self.path}: expected a folder of ours, got one without {_MANIFEST}")
        self.path.mkdir(exist_ok=True)
        self._write_manifest(manifest)
        return False

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self.write(_MANIFEST, lambda file: file.write(json.dumps(dict(manifest), indent=2).encode()))

    def has(self, name: str) -> bool:
        """Whether a file is there, and so complete."""
        return (self.path / name).is_file()

    def write(self, name: str, content: Callable[[IO[bytes]], Any]) -> None:
        """Writes a file, which appears once it is complete."""
        with self.writing(name) as partial, partial.open("wb") as file:
            content(file)

    @contextmanager
    def writing(self, name: str, target: Path | None = None) -> Iterator[Path]:
        """A path to write to; what is there at the end gets its name, or takes the place of another file."""
        partial = self.path / f"{name}{_PARTIAL}"
        partial.unlink(missing_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(self.path / name if target is None else target)

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Writes arrays into one file."""
        self.write(name, lambda file: np.savez(file, allow_pickle=False, **arrays))

    def read_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """What :meth:`write_arrays` wrote."""
        with np.load(self.path / name, allow_pickle=False) as file:
            return dict(file)

    def delete(self, *names: str) -> None:
        """Deletes files that are needed no more."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes the folder; the manifest goes last, so that what is left after a kill is still known for ours."""
        for path in self.path.iterdir():
            if path.name != _MANIFEST:
                path.unlink()
        shutil.rmtree(self.path)


def _differences(was: Any, now: Mapping[str, Any], prefix: str = "") -> list[str]:
    if not isinstance(was, dict):
        return [f"{prefix or 'its manifest'} was {was!r}"]
    found = []
    for key in dict.fromkeys([*was, *now]):
        name = f"{prefix}{key}"
        if key not in was or key not in now:
            there, missing = ("now", "then") if key in now else ("then", "now")
            found.append(f"{name} is there {there} but not {missing}")
        elif isinstance(now[key], Mapping):
            found += _differences(was[key], now[key], f"{name}.")
        elif was[key] != now[key]:
            values = f": {was[key]!r} then, {now[key]!r} now" if len(str(now[key])) < 60 else ""
            found.append(f"{name} differs{values}")
    return found
