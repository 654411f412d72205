"""The folder next to the output with the finished work of a run: every file in it is complete."""

from __future__ import annotations

import errno
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from relkt.errors import ArgumentMessage, Parameter
from relkt.mining_files.options import CONDITIONS
from relkt.storage import PARTIAL, Difference, FolderError, Manifest, atomic_file, differences

INDEX = "passages.relkt"
"""The index of the passages."""
MINED = "mined"
"""Prefix of the files of mined negatives."""

_MARK = {"relkt": "mining", "version": 3}
_MANIFEST = "manifest.json"
_STARTED = "output.started"
"""A file that marks the temporary file of the output as written by relkt."""
_MINED = re.compile(rf"{MINED}-\d{{6,}}\.npz({re.escape(PARTIAL)})?")
_OWNED = (re.escape(_STARTED), rf"{MINED}-\d{{6,}}\.npz", r"(passages|queries)-\d{6,}\.npy", re.escape(INDEX))
_PARAMETERS = ("conditions.", "embedding.", "columns.", "corpus_columns.", "split")
"""Prefixes of the names in a manifest that are parameters."""
_DAMAGED = (ValueError, IndexError, EOFError, KeyError, RuntimeError, SyntaxError, TokenError, BadZipFile, zlib.error)
"""Errors that reading a damaged file of arrays may raise."""


class WorkFolderError(ArgumentMessage, FolderError):
    """The work folder of the output holds other work, or files that relkt did not write."""


class WorkFolder:
    """The finished work of a run.

    Args:
        output: The file that the run writes; the folder is ``OUTPUT.work`` next to it. Symbolic links are followed for
            both.

    Attributes:
        output: The file to write.
        path: The folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = _followed(output)
        named = self.output.with_name(f"{self.output.name}.work")
        self.path = _followed(named)
        self._linked = self.path != named
        self._output_partial = named.with_name(f"{named.name}{PARTIAL}")
        self._manifest = Manifest(self.path, _MANIFEST, _MARK, _OWNED)

    def open(self, manifest: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Opens the folder, or makes a new one.

        Args:
            manifest: Everything that the work depends on, as JSON values.
            overwrite: Delete work with another manifest; if only conditions differ, delete only the negatives.

        Returns:
            True if there is work to resume.

        Raises:
            WorkFolderError: If the folder is not a work folder, if it holds work with another manifest and
                ``overwrite`` is false, or if it holds files of other programs next to work that would be deleted. Then
                nothing is deleted.
        """
        if self.path.exists() and not self.path.is_dir():
            raise _error(f"expected {self.path} to be a work folder or free, got a file")
        found = self._read_manifest()
        if found is None:
            if self.path.is_dir() and {path.name for path in self.path.iterdir()} - {_MANIFEST + PARTIAL}:
                raise _error(f"{self.path} is not a work folder of relkt: it has no {_MANIFEST}")
            self._check_output_partial()
            self._manifest.write(manifest)
            return False
        different = differences(found, {**_MARK, **manifest})
        self._check_output_partial()
        if not different:
            return True
        if not overwrite:
            raise _other_work(self.path, different)
        if all(difference.name.startswith(f"{CONDITIONS}.") for difference in different):
            self.delete(*(path.name for path in self.path.iterdir() if _MINED.fullmatch(path.name)))
            self._manifest.write(manifest)
            return True
        if others := self._manifest.others():
            raise _error(
                f"{self.path} contains files that relkt did not write ({others[0]!r}), so it is not deleted; move them "
                "away, or choose another output"
            )
        self._delete_owned()
        self._manifest.write(manifest)
        return False

    def _read_manifest(self) -> dict[str, Any] | None:
        try:
            found = self._manifest.read()
            if found is not None and type(found.get("version")) is not int:
                raise FolderError(f"{self._manifest.path}: not a manifest written by relkt")
        except FolderError as error:
            raise _error(
                f"{error}; move {self.path} away, delete it if it is left over from a run, or choose another output"
            ) from error
        return found

    def has(self, name: str) -> bool:
        """True if a file exists; every existing file is complete."""
        return (self.path / name).is_file()

    def has_array(self, name: str, rows: int, dim: int | None = None) -> bool:
        """True if a file written by :meth:`write_array` exists and is intact; deletes a damaged one.

        Args:
            name: Name of the file.
            rows: Expected number of rows.
            dim: Expected number of columns. Default: any.
        """
        if not self.has(name):
            return False
        path = self.path / name
        try:
            with path.open("rb") as file:
                npy.read_magic(file)
                shape, _, dtype = npy.read_array_header_1_0(file)
                size = file.tell() + int(np.prod(shape)) * dtype.itemsize
            expected = (rows, shape[-1] if dim is None else dim)
            intact = shape == expected and dtype == np.float32 and size == path.stat().st_size
        except _DAMAGED:
            intact = False
        if not intact:
            self.delete(name)
        return intact

    def has_arrays(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """True if a file written by :meth:`write_arrays` exists and is intact; deletes a damaged one.

        Args:
            name: Name of the file.
            shapes: Expected names and shapes of the arrays.
        """
        if not self.has(name):
            return False
        try:
            intact = {key: value.shape for key, value in self.read_arrays(name).items()} == dict(shapes)
        except _DAMAGED:
            intact = False
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: a read at a position before the start of the file
                raise
            intact = False
        if not intact:
            self.delete(name)
        return intact

    def write(self, name: str, content: Callable[[IO[bytes]], Any]) -> None:
        """Writes a file, which appears once it is complete and flushed to disk."""
        with atomic_file(self.path / name, partial=self.path / f"{name}{PARTIAL}") as file:
            content(file)

    @contextmanager
    def writing_output(self) -> Iterator[IO[bytes]]:
        """A new file that replaces the output when the context ends."""
        self._check_output_partial()
        if not self.has(_STARTED):
            self.write(_STARTED, lambda _: None)
        with atomic_file(self.output, partial=self._output_partial) as file:
            yield file

    def _check_output_partial(self) -> None:
        if os.path.lexists(self._output_partial) and not self.has(_STARTED):
            raise _error(
                f"expected no file {self._output_partial}, the temporary file of the output, got one that relkt did "
                "not write; move it away, or choose another output"
            )

    def write_array(self, name: str, rows: NDArray[np.float32]) -> None:
        """Writes one array into a file."""
        content = io.BytesIO()  # np.save bypasses Python's file object and may miss a full disk
        np.save(content, rows, allow_pickle=False)
        self.write(name, lambda file: file.write(content.getbuffer()))

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Writes several arrays into one file."""
        self.write(name, lambda file: np.savez(file, allow_pickle=False, **arrays))

    def read_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Reads a file written by :meth:`write_arrays`."""
        with (self.path / name).open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, Mapping):
                raise ValueError(f"{self.path / name}: expected several arrays, got one")
            return dict(found)

    def delete(self, *names: str) -> None:
        """Deletes files, if they exist."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes relkt's files, and the folder unless it holds other files."""
        self._delete_owned()
        if not self._linked:
            with suppress(OSError):  # not empty
                self.path.rmdir()

    def _delete_owned(self) -> None:
        if self.has(_STARTED):
            self._output_partial.unlink(missing_ok=True)
        self._manifest.remove_owned()


def _followed(path: Path) -> Path:
    """The target of a link, or the path itself."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _error(problem: str) -> WorkFolderError:
    return WorkFolderError("output", problem=problem)


def _other_work(path: Path, different: list[Difference]) -> WorkFolderError:
    problem: list[str | Parameter] = [f"{path} holds the work of another run: "]
    for number, difference in enumerate(different):
        is_parameter = difference.name.startswith(_PARAMETERS)
        text = str(difference).removeprefix(difference.name)
        problem += ["; " if number else "", Parameter(difference.name) if is_parameter else difference.name, text]
    hint: list[str | Parameter] = [
        "repeat the inputs and options of that run to resume it, or give ",
        Parameter("overwrite", "True"),
        " to replace it",
    ]
    return WorkFolderError("output", problem=problem, hint=hint)
