"""Passages to an index file and their texts beside it, in steps that can be taken up again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from relkt.data.types import Passage
from relkt.encoders import encode_passages, model_checksum, num_truncated
from relkt.files import replacing
from relkt.index import Index
from relkt.mining_files.lock import locked
from relkt.retrieval.kinds import Storage
from relkt.retrieval.passages import ID, IndexedPassage, PassageStore
from relkt.retrieval.progress import IndexProgress
from relkt.retrieval.sources import Source, from_passages
from relkt.retrieval.store import write_store

CHUNK = 2048
"""Passages between two saves, of which batches of similar length are made."""
BUILD_ROWS = 1 << 16
"""Rows handed to the index at once."""
PASSAGES = "passages.arrow"
"""The end of the name of the texts' file; it begins as the index file's."""
BUILD = "build"
"""The note, in both files, by which they find each other."""

_STATE, _ROWS, _TEXTS = "state.json", "embeddings.bin", PASSAGES
_SAVED = ("key", "rows", "dim", "encoded", "is_writing")


@dataclass(frozen=True)
class IndexPaths:
    """Where an index and what belongs to it lie.

    Args:
        index: The index file.
    """

    index: Path

    @property
    def texts(self) -> Path:
        """The file of the passages."""
        return self.index.with_name(f"{self.index.stem}.{PASSAGES}")

    @property
    def work(self) -> Path:
        """The folder of a build that is under way."""
        return self.index.with_name(f"{self.index.name}.building")


def build_index(
    passages: Source | Iterable[IndexedPassage | Passage | Mapping[str, Any] | str],
    path: str | os.PathLike[str],
    *,
    encoder: SentenceTransformer,
    encoder_name: str | None,
    storage: Storage = Storage.FLOAT32,
    batch_size: int = 32,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    overwrite: bool = False,
    progress: IndexProgress | None = None,
) -> int:
    """Encode passages and write an index of them, with their texts beside it.

    Two files: the index, and the passages in an Arrow file named after it (``wiki.relkt``, ``wiki.passages.arrow``).
    What is encoded is kept in a folder ``wiki.relkt.building`` until both are complete: the same call goes on where an
    earlier one was interrupted, or killed, and ends with the same files.

    Args:
        passages: What :func:`relkt.retrieval.read_passages` gives, or passages in memory: texts, mappings with the keys
            ``id``, ``text``, ``title``, ``document``, ``language`` and others, or passages.
        path: The index file.
        encoder: The encoder.
        encoder_name: Its name, by which :func:`relkt.load_encoder` finds it again; None if there is none.
        storage: Number format of the rows.
        batch_size: Passages encoded at once.
        query_prompt: Put before questions that are searched; default: the encoder's own.
        passage_prompt: Put before each passage; default: the encoder's own.
        overwrite: Replace an index that is there.
        progress: Told what happens.

    Returns:
        How many passages there are.

    Raises:
        DataError: As :func:`relkt.retrieval.store.write_store`.
        ValueError: If ``batch_size`` is below 1, or an embedding is zero or not finite.
        FileExistsError: If there is an index already and ``overwrite`` is not set, or an unfinished build of others.
        FileNotFoundError: If the folder of ``path`` does not exist.
        OSError: If a file cannot be written.
    """
    progress = progress or IndexProgress()
    storage = Storage(storage)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    paths = check_output(path, overwrite=overwrite)
    if encoder_name and Path(encoder_name).is_dir():
        encoder_name = str(Path(encoder_name).resolve())  # to be found from wherever the index is opened
    source = passages if isinstance(passages, Source) else from_passages(passages)
    progress.activity("checking the encoder")
    notes = {
        "encoder": encoder_name,
        "encoder_checksum": model_checksum(encoder),
        "query_prompt": query_prompt,
        "passage_prompt": passage_prompt,
        "storage": storage.value,
    }
    key = hashlib.sha256(json.dumps([source.fingerprint, notes]).encode()).hexdigest()
    with locked(paths.work.resolve()), _work(paths.work, key, overwrite=overwrite) as state:
        if state.rows is None:
            progress.activity("reading the passages")
            state.rows = write_store(source, paths.work / _TEXTS, {BUILD: key, **notes})
            state.save()
        store = PassageStore.open(paths.work / _TEXTS)
        _encode(store, state, encoder, storage, batch_size, passage_prompt, progress)
        progress.activity("writing the index")
        _write(paths, store, state, storage)
    return len(store)


def check_output(path: str | os.PathLike[str], *, overwrite: bool) -> IndexPaths:
    """Check that an index can be written, before any work.

    Raises:
        FileExistsError: If there is a file and ``overwrite`` is not set, or a folder.
        FileNotFoundError: If the folder of ``path`` does not exist.
    """
    paths = IndexPaths(Path(path))
    if not paths.index.parent.is_dir():
        raise FileNotFoundError(f"path: the folder of {paths.index} does not exist")
    # A build that was cut off between the two files goes on: it was allowed to write them.
    allowed = overwrite or _State.load(paths.work, "").is_writing
    for file in (paths.index, paths.texts):
        if file.is_dir():
            raise FileExistsError(f"path: expected a file, got the folder {file}")
        if file.exists() and not allowed:
            raise FileExistsError(f"path: {file} exists; choose another name, or to overwrite it")
    return paths


class _State:
    """What is done of a build."""

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / _STATE
        self.key = key
        self.rows: int | None = None
        self.dim: int | None = None
        self.encoded = 0
        self.is_writing = False

    @property
    def vectors(self) -> Path:
        return self._path.with_name(_ROWS)

    @classmethod
    def load(cls, folder: Path, key: str) -> _State:
        state = cls(folder, key)
        try:
            text = state._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return state
        saved = json.loads(text)
        for name in _SAVED:
            setattr(state, name, saved[name])
        return state

    def save(self) -> None:
        with replacing(self._path) as file:
            values = {name: getattr(self, name) for name in _SAVED}
            file.write(json.dumps(values).encode())


@contextmanager
def _work(folder: Path, key: str, *, overwrite: bool) -> Iterator[_State]:
    """The folder of a build; it is removed when the build is complete, or has nothing worth keeping."""
    folder.mkdir(exist_ok=True)
    if not (folder / _STATE).exists() and any(folder.iterdir()):
        raise FileExistsError(f"path: expected {folder} to be free for the build, got a folder with other files")
    state = _State.load(folder, key)
    state.save()
    if state.key != key:
        if not overwrite:
            raise FileExistsError(
                f"path: {folder} holds the unfinished build of other passages, or with another encoder or other "
                "settings: repeat that, choose another name, or to overwrite it"
            )
        for name in (_STATE, _ROWS, _TEXTS):
            (folder / name).unlink(missing_ok=True)
        state = _State(folder, key)
    try:
        yield state
    except BaseException:
        if not state.encoded:
            shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _encode(
    store: PassageStore,
    state: _State,
    encoder: SentenceTransformer,
    storage: Storage,
    batch_size: int,
    prompt: str | None,
    progress: IndexProgress,
) -> None:
    progress.encoding(len(store), state.encoded)
    too_long = 0
    with state.vectors.open("r+b" if state.encoded else "wb") as file:
        for start in range(state.encoded, len(store), CHUNK):
            texts = store.texts(start, start + CHUNK)
            too_long += num_truncated(encoder, texts, prompt=prompt)
            rows = encode_passages(encoder, texts, batch_size=batch_size, progress=progress.encoded, prompt=prompt)
            state.dim = rows.shape[1]
            stored = rows.astype(storage.value)
            # A chunk that was cut off is written again.
            file.seek(start * stored.itemsize * state.dim)
            file.write(stored.tobytes())
            file.flush()
            os.fsync(file.fileno())
            state.encoded = start + len(texts)
            state.save()
    if too_long and encoder.max_seq_length is not None:
        progress.truncated(too_long, encoder.max_seq_length)


def _write(paths: IndexPaths, store: PassageStore, state: _State, storage: Storage) -> None:
    assert state.dim is not None  # there is at least one passage
    state.is_writing = True
    state.save()
    # A copy: until both files are in place the build can be taken up again.
    with (paths.work / _TEXTS).open("rb") as texts, replacing(paths.texts) as file:
        shutil.copyfileobj(texts, file)
    vectors: NDArray[Any] = np.memmap(state.vectors, mode="r", dtype=storage.value, shape=(len(store), state.dim))
    Index.build(
        paths.index,
        (np.array(vectors[start : start + BUILD_ROWS]) for start in range(0, len(store), BUILD_ROWS)),
        rows=len(store),
        ids=store.to_table().column(ID).to_pylist(),
        texts=paths.texts.name,
        metadata={BUILD: state.key},
    )
