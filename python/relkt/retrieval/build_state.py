"""What is done of a build, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relkt.storage import atomic_file

_STATE, _VECTORS, _TEXTS = "state.json", "embeddings.bin", "passages.arrow"
_SAVED = ("key", "rows", "dim", "encoded", "truncated", "texts_name")


class BuildState:
    """What is done of a build.

    Args:
        folder: Its folder.
        key: What tells its passages, encoder and settings from others.

    Attributes:
        rows: How many passages there are; None until they are all in :attr:`texts`.
        dim: Dimensions of the embeddings; None until there is one.
        encoded: How many passages are in :attr:`vectors`.
        truncated: How many of these were longer than the encoder takes.
        texts_name: The name that the passages' file gets beside the index; empty until it is about to be written.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self.key = key
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
        """The embeddings, one after the other."""
        return self._folder / _VECTORS

    @classmethod
    def load(cls, folder: Path, key: str) -> BuildState:
        """The state that was saved, or that of a new build where nothing was.

        Raises:
            FileExistsError: If what was saved cannot be read.
        """
        state = cls(folder, key)
        try:
            saved = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            for name in _SAVED:
                setattr(state, name, saved[name])
        except FileNotFoundError:
            return cls(folder, key)
        except (ValueError, KeyError, TypeError) as error:
            raise FileExistsError(
                f"path: {folder} is no build that can go on: remove it, or choose another name"
            ) from error
        return state

    def save(self) -> None:
        """Write the state; at any moment there is the old one or the new one."""
        with atomic_file(self._folder / _STATE) as file:
            file.write(json.dumps({name: getattr(self, name) for name in _SAVED}).encode())

    def is_whole(self) -> bool:
        """Whether the files are there of which the state speaks."""
        return (self.rows is None or self.texts.is_file()) and (self.encoded == 0 or self.vectors.is_file())


@contextmanager
def working(folder: Path, key: str, *, overwrite: bool) -> Iterator[BuildState]:
    """The state of a build; its folder is removed when the build is complete, or has nothing worth keeping.

    Args:
        folder: Its folder.
        key: What tells its passages, encoder and settings from others.
        overwrite: Throw away the build of others that may be there.

    Raises:
        FileExistsError: If the folder holds another build and ``overwrite`` is not set, or is no build's.
    """
    folder.mkdir(exist_ok=True)
    if not (folder / _STATE).exists() and any(not _is_ours(file) for file in folder.iterdir()):
        raise FileExistsError(f"path: expected {folder} to be free for the build, got a folder with other files")
    state = BuildState.load(folder, key)
    if state.key != key and not overwrite:
        raise FileExistsError(
            f"path: {folder} holds the unfinished build of other passages, or with another encoder or other "
            "settings: repeat that, choose another name, or to overwrite it"
        )
    if state.key != key or not state.is_whole():
        _remove(folder)
        folder.mkdir()
        state = BuildState(folder, key)
    state.save()
    try:
        yield state
    except BaseException:
        if not state.encoded:
            _remove(folder)
        raise
    _remove(folder)


def _is_ours(file: Path) -> bool:
    return file.name in (_VECTORS, _TEXTS) or (file.name.startswith(".") and file.name.endswith(".tmp"))


def _remove(folder: Path) -> None:
    """Removes a folder whose name is free at once: a kill in between leaves no half of a build under it."""
    away = folder.with_name(f".{folder.name}.{os.getpid()}.removed")
    folder.replace(away)
    shutil.rmtree(away, ignore_errors=True)
