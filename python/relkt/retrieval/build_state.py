"""The work folder of an index build: what is finished, so that an interrupted build can be resumed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relkt.errors import ArgumentExistsError, Parameter
from relkt.storage import FolderError, Manifest, differences

_STATE, _VECTORS, _TEXTS = "state.json", "embeddings.bin", "passages.arrow"
_INPUTS = "inputs"
_PROGRESS = ("rows", "dim", "encoded", "truncated", "texts_name")


class BuildState:
    """The state of a build, kept in ``state.json`` of its work folder.

    Args:
        folder: The work folder.
        inputs: What the build depends on: checksums of passages and encoder, and the settings.

    Attributes:
        rows: Number of passages; None until :attr:`texts` holds all passages.
        dim: Dimension of the embeddings; None until the first is computed.
        encoded: Number of passages whose embeddings are in :attr:`vectors`.
        truncated: Number of encoded passages that exceed the encoder's token limit.
        texts_name: Name of the passages' file next to the index; empty until just before that file is written.
    """

    def __init__(self, folder: Path, inputs: Mapping[str, Any]) -> None:
        self._folder = folder
        self.inputs = dict(inputs)
        self.rows: int | None = None
        self.dim: int | None = None
        self.encoded = 0
        self.truncated = 0
        self.texts_name = ""

    @property
    def texts(self) -> Path:
        """The passages."""
        return self._folder / _TEXTS

    @property
    def vectors(self) -> Path:
        """The embeddings, concatenated."""
        return self._folder / _VECTORS

    @classmethod
    def load(cls, folder: Path) -> BuildState | None:
        """The saved state of a work folder; None if nothing was saved.

        Raises:
            FileExistsError: If the saved state cannot be read.
        """
        try:
            saved = _manifest(folder).read()
            if saved is None:
                return None
            state = cls(folder, saved[_INPUTS])
            for name in _PROGRESS:
                setattr(state, name, saved[name])
        except (FolderError, ValueError, KeyError, TypeError) as error:
            raise ArgumentExistsError(
                "path",
                problem=f"{folder} is not a build that can be resumed",
                hint="remove it, or choose another name",
            ) from error
        return state

    def save(self) -> None:
        """Write the state atomically."""
        _manifest(self._folder).write({_INPUTS: self.inputs, **{name: getattr(self, name) for name in _PROGRESS}})

    def is_complete(self) -> bool:
        """True if the files that the state describes exist."""
        return (self.rows is None or self.texts.is_file()) and (self.encoded == 0 or self.vectors.is_file())


@contextmanager
def working(folder: Path, inputs: Mapping[str, Any], *, overwrite: bool) -> Iterator[BuildState]:
    """The state of a build: a saved one with the same inputs, or a new one.

    The work folder is removed at the end of the build. It is also removed after an error, if no embedding was computed.

    Args:
        folder: The work folder.
        inputs: What the build depends on.
        overwrite: Discard an unfinished build with other inputs.

    Raises:
        FileExistsError: If the folder holds an unfinished build with other inputs and ``overwrite`` is not set, or
            it holds files that relkt did not write.
    """
    folder.mkdir(exist_ok=True)
    manifest = _manifest(folder)
    if not manifest.exists() and (others := manifest.others()):
        problem = f"{folder} is needed for the build and contains files that relkt did not write: {others[0]}"
        raise ArgumentExistsError("path", problem=problem)
    state = BuildState.load(folder) or BuildState(folder, inputs)
    found = differences(state.inputs, inputs)
    if found and not overwrite:
        raise ArgumentExistsError(
            "path",
            problem=f"{folder} holds an unfinished build with other inputs ({'; '.join(map(str, found))})",
            hint=[
                "repeat that call, choose another name, or pass ",
                Parameter("overwrite", "True"),
                " to discard it",
            ],
        )
    if found or not state.is_complete():
        _remove(folder)
        folder.mkdir()
        state = BuildState(folder, inputs)
    state.save()
    try:
        yield state
    except BaseException:
        if not state.encoded:
            _remove(folder)
        raise
    _remove(folder)


def _manifest(folder: Path) -> Manifest:
    return Manifest(folder, _STATE, owned=(_VECTORS, _TEXTS))


def _remove(folder: Path) -> None:
    """Rename a folder, then remove it, so that a kill leaves no partial build under its name."""
    renamed = folder.with_name(f".{folder.name}.{os.getpid()}.removed")
    folder.replace(renamed)
    shutil.rmtree(renamed, ignore_errors=True)
