"""Passages to an index file and their texts beside it, in steps that can be taken up again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from relkt._relkt import IndexFileError
from relkt.data.types import Passage
from relkt.encoders import encode_passages, model_checksum, num_truncated
from relkt.index import Index
from relkt.retrieval.build_state import BuildState, working
from relkt.retrieval.kinds import Storage
from relkt.retrieval.passages import BUILD, DIGEST, ID, IndexedPassage, PassageStore, is_plain_name
from relkt.retrieval.progress import IndexProgress
from relkt.retrieval.sources import Source, from_passages
from relkt.retrieval.store import write_store
from relkt.storage import atomic_file, locked

CHUNK = 2048
"""Passages between two saves, of which batches of similar length are made."""
BUILD_ROWS = 1 << 16
"""Rows handed to the index at once."""
SUFFIX = ".relkt"
"""The usual end of the name of an index file."""

_EXISTS = "path: {} exists; choose another name, or to overwrite it"


@dataclass(frozen=True)
class IndexPaths:
    """Where an index and what belongs to it lie.

    Args:
        index: The index file.
    """

    index: Path

    @property
    def work(self) -> Path:
        """The folder of a build that is under way."""
        return self.index.with_name(f"{self.index.name}.building")

    def new_texts(self) -> str:
        """A name for the passages' file that none has, beginning as the index file's."""
        names = (f"{self._base}.passages{number}.arrow" for number in chain([""], map("-{}".format, count(2))))
        return next(name for name in names if not self.index.with_name(name).exists())

    def may_be_texts(self, name: str) -> bool:
        """Whether :meth:`new_texts` could have given a name, now or for an index that was here before."""
        return re.fullmatch(re.escape(self._base) + r"\.passages(-\d+)?\.arrow", name) is not None

    @property
    def _base(self) -> str:
        return self.index.name.removesuffix(SUFFIX)

    def texts_of_index(self) -> Path | None:
        """The passages' file of the index that is there, if any."""
        try:
            name = Index.open(self.index).texts
        except (OSError, IndexFileError):
            return None
        return None if name is None or not is_plain_name(name) else self.index.with_name(name)


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

    Two files: the index, and the passages in an Arrow file named after it (``wiki.relkt``, ``wiki.passages.arrow``; one
    that replaces another gets the next free name, ``wiki.passages-2.arrow``). What is encoded is kept in a folder
    ``wiki.relkt.building`` until both are complete: the same call goes on where an earlier one was interrupted, or
    killed, and ends with the same files.

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
        overwrite: Replace an index that is there, and throw away an unfinished build of others.
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
    key = hashlib.sha256(json.dumps([source.fingerprint(), notes]).encode()).hexdigest()
    with locked(paths.work), working(paths.work, key, overwrite=overwrite) as state:
        if paths.index.exists() and not (overwrite or state.texts_name):
            raise FileExistsError(_EXISTS.format(paths.index))  # another build has ended meanwhile
        if state.rows is None:
            progress.activity("reading the passages")
            state.rows = write_store(source, state.texts, {BUILD: key, **notes})
            state.save()
        _encode(state, encoder, storage, batch_size, passage_prompt, progress)
        progress.activity("writing the index")
        _write(paths, state, storage)
        return state.rows


def check_output(path: str | os.PathLike[str], *, overwrite: bool) -> IndexPaths:
    """Check that an index can be written, before any work.

    Raises:
        FileExistsError: If there is an index and ``overwrite`` is not set, a file that is no index, or a folder.
        FileNotFoundError: If the folder of ``path`` does not exist.
    """
    # Through a link, so that the passages come to lie beside the index itself.
    paths = IndexPaths(Path(path).resolve())
    if not paths.index.parent.is_dir():
        raise FileNotFoundError(f"path: the folder of {path} does not exist")
    if paths.index.is_dir():
        raise FileExistsError(f"path: expected a file, got the folder {paths.index}")
    if paths.index.exists():
        if not overwrite and not BuildState.load(paths.work, "").texts_name:
            raise FileExistsError(_EXISTS.format(paths.index))
        try:
            Index.open(paths.index)
        except IndexFileError as error:
            # It may be anything, the passages themselves included.
            raise FileExistsError(f"path: {paths.index} is no index, and is not overwritten: {error}") from error
    return paths


def _encode(
    state: BuildState,
    encoder: SentenceTransformer,
    storage: Storage,
    batch_size: int,
    prompt: str | None,
    progress: IndexProgress,
) -> None:
    store = PassageStore.open(state.texts)
    progress.encoding(len(store), state.encoded)
    with state.vectors.open("r+b" if state.encoded else "wb") as file:
        for start in range(state.encoded, len(store), CHUNK):
            texts = store.texts(start, start + CHUNK)
            state.truncated += num_truncated(encoder, texts, prompt=prompt)
            try:
                rows = encode_passages(encoder, texts, batch_size=batch_size, progress=progress.encoded, prompt=prompt)
            except ValueError as error:
                raise ValueError(f"passages from {store[start].id!r} on: {error}") from error
            state.dim = rows.shape[1]
            stored = rows.astype(storage.value)
            # A chunk that was cut off is written again.
            file.seek(start * stored.itemsize * state.dim)
            file.write(stored.tobytes())
            file.flush()
            os.fsync(file.fileno())
            state.encoded = start + len(texts)
            state.save()
    if state.truncated and encoder.max_seq_length is not None:
        progress.truncated(state.truncated, encoder.max_seq_length)


def _write(paths: IndexPaths, state: BuildState, storage: Storage) -> None:
    """Puts both files in place.

    An index that is there keeps its passages until the new one, which names others, has taken its place: at any moment
    what lies there is whole.
    """
    assert state.dim is not None  # there is at least one passage
    before = paths.texts_of_index()
    if not state.texts_name:
        state.texts_name = paths.new_texts()
        state.save()
    texts = paths.index.with_name(state.texts_name)
    # A copy: until both files are in place the build can be taken up again.
    with state.texts.open("rb") as written, atomic_file(texts) as file:
        shutil.copyfileobj(written, file)
    store = PassageStore.open(state.texts)
    vectors: NDArray[Any] = np.memmap(state.vectors, mode="r", dtype=storage.value, shape=(len(store), state.dim))
    Index.build(
        paths.index,
        (np.array(vectors[start : start + BUILD_ROWS]) for start in range(0, len(store), BUILD_ROWS)),
        rows=len(store),
        ids=store.to_table().column(ID).to_pylist(),
        texts=texts.name,
        metadata={BUILD: state.key, DIGEST: store.digest()},
    )
    if before is not None and before != texts:
        with suppress(OSError):  # Windows deletes no file that is open
            before.unlink(missing_ok=True)
