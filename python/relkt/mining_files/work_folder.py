"""The folder beside the output that holds what is done so far: whatever is in it under its own name is complete."""

from __future__ import annotations

import errno
import io
import json
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

from relkt.mining_files.options import CONDITIONS
from relkt.storage import FolderError

INDEX = "passages.relkt"
"""The index of the passages."""
MINED = "mined"
"""What names of files of mined negatives start with."""

_VERSION = 3
_MARK = {"relkt": "mining", "version": _VERSION}
"""Tells a manifest of ours from others' files of that name."""
_MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_STARTED = "output.started"
"""Says that the unfinished output beside the output is ours."""
_MINED = re.compile(rf"{MINED}-\d{{6,}}\.npz({re.escape(_PARTIAL)})?")
_OURS = re.compile(
    rf"({re.escape(_MANIFEST)}|{re.escape(_STARTED)}|{MINED}-\d{{6,}}\.npz|(passages|queries)-\d{{6,}}\.npy)"
    rf"({re.escape(_PARTIAL)})?|{re.escape(INDEX)}|\.{re.escape(INDEX)}\.\d+-\d+\.tmp"
)
"""Names of all files that a run makes in its folder."""
_DAMAGED = (ValueError, IndexError, EOFError, KeyError, RuntimeError, SyntaxError, TokenError, BadZipFile, zlib.error)
"""What reading a damaged file of arrays raises."""


WorkFolderError = FolderError
"""The work folder cannot be used: it belongs to another run, is in use, or holds files that relkt did not write."""


class WorkFolder:
    """What is done of a run.

    Args:
        output: The file the run writes; the folder is ``OUTPUT.work`` beside it. Where either is a symbolic link, it is
            what that leads to.

    Attributes:
        output: The file that is written.
        path: The folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = _followed(output)
        named = self.output.with_name(f"{self.output.name}.work")
        self.path = _followed(named)
        self._linked = self.path != named
        self._output_partial = named.with_name(f"{named.name}{_PARTIAL}")

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
                somebody else's, or has somebody else's files in it that would be deleted. Nothing is deleted then.
        """
        if self.path.exists() and not self.path.is_dir():
            raise WorkFolderError(f"{self.path}: expected a folder of ours, or nothing, got a file")
        names = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        if _MANIFEST in names:
            differences = _differences(self._read_manifest(), _MARK | dict(manifest))
            self._check_output_partial()
            if not differences:
                return True
            if not overwrite:
                raise WorkFolderError(
                    f"{self.path} holds the work of another run: {'; '.join(differences)}. Give that run's inputs and "
                    "options to go on with it, or --overwrite to replace it"
                )
            if all(difference.startswith(f"{CONDITIONS}.") for difference in differences):
                self.delete(*filter(_MINED.fullmatch, names))
                self._write_manifest(manifest)
                return True
            if others := sorted(path.name for path in self.path.iterdir() if not _is_ours(path)):
                raise WorkFolderError(
                    f"{self.path}: expected files of ours only, which --overwrite deletes, got {others[0]!r} among "
                    "them: move it away, or give another output"
                )
            self._delete_ours()
        elif names - {_MANIFEST + _PARTIAL}:
            raise WorkFolderError(f"{self.path}: expected a folder of ours, got one without {_MANIFEST}")
        else:
            self._check_output_partial()
        self.path.mkdir(exist_ok=True)
        self._write_manifest(manifest)
        return False

    def _read_manifest(self) -> Any:
        path = self.path / _MANIFEST
        advice = f"move {self.path} away, or delete it if you know it for the work of a run, or give another output"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WorkFolderError(
                f"{path}: expected JSON that can be read, got an error ({error}): {advice}"
            ) from error
        if not isinstance(found, dict) or found.get("relkt") != _MARK["relkt"] or type(found.get("version")) is not int:
            raise WorkFolderError(f"{path}: expected a manifest of ours, got somebody else's: {advice}")
        return found

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self.write(_MANIFEST, lambda file: file.write(json.dumps(_MARK | dict(manifest), indent=2).encode()))

    def has(self, name: str) -> bool:
        """Whether a file is there, and so complete."""
        return (self.path / name).is_file()

    def has_array(self, name: str, rows: int, dim: int | None = None) -> bool:
        """Whether a file of :meth:`write_array` is there and whole; one that is damaged is deleted.

        Args:
            name: Its name.
            rows: How many it is to have.
            dim: How wide they are to be; default: any width.
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
            whole = shape == expected and dtype == np.float32 and size == path.stat().st_size
        except _DAMAGED:
            whole = False
        if not whole:
            self.delete(name)
        return whole

    def has_arrays(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a file of :meth:`write_arrays` is there and whole; one that is damaged is deleted.

        Args:
            name: Its name.
            shapes: Of the arrays in it.
        """
        if not self.has(name):
            return False
        try:
            whole = {key: value.shape for key, value in self.read_arrays(name).items()} == dict(shapes)
        except _DAMAGED:
            whole = False
        except OSError as error:
            if error.errno != errno.EINVAL:  # a place before the start of the file
                raise
            whole = False
        if not whole:
            self.delete(name)
        return whole

    def write(self, name: str, content: Callable[[IO[bytes]], Any]) -> None:
        """Writes a file, which appears once it is complete and on the disk."""
        with _complete(self.path / f"{name}{_PARTIAL}", self.path / name) as partial, partial.open("wb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
            expected, size = file.tell(), os.fstat(file.fileno()).st_size
            if size != expected:
                raise OSError(errno.EIO, f"expected {expected} bytes on the disk, got {size}", str(partial))

    @contextmanager
    def writing_output(self) -> Iterator[Path]:
        """A path beside the output to write to; what is there at the end takes the place of the output."""
        self._check_output_partial()
        if not self.has(_STARTED):
            self.write(_STARTED, lambda _: None)
        with _complete(self._output_partial, self.output) as partial:
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())

    def _check_output_partial(self) -> None:
        if os.path.lexists(self._output_partial) and not self.has(_STARTED):
            raise WorkFolderError(
                f"{self._output_partial}: expected no such file, as the output is written there first, got somebody "
                "else's: move it away, or give another output"
            )

    def write_array(self, name: str, rows: NDArray[np.float32]) -> None:
        """Writes one array into a file."""
        content = io.BytesIO()  # NumPy writes to files past Python, and does not hear of a full disk at the end
        np.save(content, rows, allow_pickle=False)
        self.write(name, lambda file: file.write(content.getbuffer()))

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Writes arrays into one file."""
        self.write(name, lambda file: np.savez(file, allow_pickle=False, **arrays))

    def read_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """What :meth:`write_arrays` wrote."""
        with (self.path / name).open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, Mapping):
                raise ValueError(f"{self.path / name}: expected several arrays, got one")
            return dict(found)

    def delete(self, *names: str) -> None:
        """Deletes files that are needed no more."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes the folder; files in it that are not ours stay, and so does it then."""
        self._delete_ours()
        if not self._linked:
            with suppress(OSError):  # somebody else's files
                self.path.rmdir()

    def _delete_ours(self) -> None:
        """The manifest goes last, so that what is left after a kill is still known for ours."""
        if self.has(_STARTED):
            self._output_partial.unlink(missing_ok=True)
        ours = [path for path in self.path.iterdir() if _is_ours(path)]
        for path in sorted(ours, key=lambda path: path.name == _MANIFEST):
            path.unlink()


def _followed(path: Path) -> Path:
    """What a path leads to, if it is a link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _is_ours(path: Path) -> bool:
    return _OURS.fullmatch(path.name) is not None and (path.is_symlink() or not path.is_dir())


@contextmanager
def _complete(partial: Path, target: Path) -> Iterator[Path]:
    """A path to write to; what is there at the end takes the place of the target. Errors name the file."""
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(target)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and str(partial) not in str(error):
            if error.errno is None:
                raise OSError(f"{partial}: {error}") from error
            raise OSError(error.errno, error.strerror, str(partial)) from error
        raise


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
