"""Building an index: encode passages, write the index file and the passages' file next to it, and resume."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from relkt._relkt import IndexFileError
from relkt.data.types import Passage
from relkt.encoders import encode_passages, model_checksum, num_truncated
from relkt.errors import ArgumentError, ArgumentExistsError, ArgumentNotFoundError, Parameter
from relkt.index import Index
from relkt.retrieval.build_state import BuildState, working
from relkt.retrieval.kinds import Storage
from relkt.retrieval.passages import BUILD, DIGEST, ID, IndexedPassage, PassageStore
from relkt.retrieval.progress import IndexProgress
from relkt.retrieval.sources import Source, from_passages
from relkt.retrieval.store import write_store
from relkt.storage import atomic_file, locked, sha256_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHUNK = 2048
"""Passages encoded between two saves; batches of texts of similar length are formed within a chunk."""
BUILD_ROWS = 1 << 16
"""Rows handed to the index at once."""
SUFFIX = ".relkt"
"""The usual suffix of an index file."""


class BuildOptions(TypedDict, total=False):
    """The options of :func:`build_index`, for functions that pass them on."""

    storage: Storage
    batch_size: int
    query_prompt: str | None
    passage_prompt: str | None
    overwrite: bool
    progress: IndexProgress | None


@dataclass(frozen=True)
class IndexPaths:
    """Paths of an index and of the files that belong to it.

    Args:
        index: The index file.
    """

    index: Path

    @property
    def work(self) -> Path:
        """The work folder of an unfinished build."""
        return self.index.with_name(f"{self.index.name}.building")

    def new_texts(self) -> str:
        """An unused name for the passages' file. It starts like the name of the index file."""
        names = (f"{self._base}.passages{number}.arrow" for number in chain([""], map("-{}".format, count(2))))
        return next(name for name in names if not self.index.with_name(name).exists())

    def may_be_texts(self, name: str) -> bool:
        """True if :meth:`new_texts` may have returned ``name``, for this index or an earlier index of the same name."""
        return re.fullmatch(re.escape(self._base) + r"\.passages(-\d+)?\.arrow", name) is not None

    @property
    def _base(self) -> str:
        return self.index.name.removesuffix(SUFFIX)

    def texts_of_index(self) -> Path | None:
        """The passages' file of the existing index; None if there is no index or it names no file that relkt wrote."""
        try:
            name = Index.open(self.index).texts
        except (OSError, IndexFileError):
            return None
        # The named file is deleted once the index is replaced, but an index of unknown origin may name any file. So the
        # name is accepted only if relkt may have given it.
        return self.index.with_name(name) if name is not None and self.may_be_texts(name) else None


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
    """Encode passages and write an index of them, with the passages in a file next to it.

    Two files are written: the index, e.g. ``wiki.relkt``, and an Arrow file of the passages, named after the index:
    ``wiki.passages.arrow``. A rebuild takes the next free name, ``wiki.passages-2.arrow``. Until both files are
    complete, progress is saved in a folder ``wiki.relkt.building``. After an interruption or a kill, the same call
    resumes the build and writes the same files.

    Args:
        passages: The result of :func:`relkt.retrieval.read_passages`, or passages in memory: texts, mappings with the
            keys ``id``, ``text``, ``title``, ``document``, ``language`` and others, or passage objects.
        path: The index file.
        encoder: The encoder.
        encoder_name: The name with which :func:`relkt.load_encoder` loads the encoder again; None if it has no name.
        storage: Number format of the rows.
        batch_size: Passages encoded at once.
        query_prompt: Text put before each question of a search; default: the encoder's own prompt.
        passage_prompt: Text put before each passage; default: the encoder's own prompt.
        overwrite: Replace an existing index, and discard an unfinished build with other inputs.
        progress: Receives the progress.

    Returns:
        Number of passages.

    Raises:
        DataError: As :func:`relkt.retrieval.store.write_store`.
        ValueError: If ``batch_size`` is below 1, an embedding is zero or not finite, or another process builds the same
            index.
        FileExistsError: If an index, or an unfinished build with other inputs, exists and ``overwrite`` is not set.
        FileNotFoundError: If the folder of ``path`` does not exist.
        OSError: If a file cannot be written.
    """
    progress = progress or IndexProgress()
    storage = Storage(storage)
    if batch_size < 1:
        raise ArgumentError("batch_size", "at least 1", batch_size)
    paths = check_output(path, overwrite=overwrite)
    if encoder_name and Path(encoder_name).is_dir():
        encoder_name = str(Path(encoder_name).resolve())  # valid from any working folder
    source = passages if isinstance(passages, Source) else from_passages(passages)
    progress.activity("checking the encoder")
    notes = {
        "encoder": encoder_name,
        "encoder_checksum": model_checksum(encoder),
        "query_prompt": query_prompt,
        "passage_prompt": passage_prompt,
        "storage": storage.value,
    }
    build = sha256_of([json.dumps([source.fingerprint(), notes])])
    inputs = {"passages": sha256_of([json.dumps(source.fingerprint())]), **notes}
    with locked(paths.work), working(paths.work, inputs, overwrite=overwrite) as state:
        if paths.index.exists() and not (overwrite or state.texts_name):
            raise _exists(paths.index)  # another process has finished a build since the first check
        if state.rows is None:
            progress.activity("reading the passages")
            state.rows = write_store(source, state.texts, {BUILD: build, **notes})
            state.save()
        _encode(state, encoder, storage, batch_size, passage_prompt, progress)
        progress.activity("writing the index")
        _write(paths, state, storage, build)
        return state.rows


def check_output(path: str | os.PathLike[str], *, overwrite: bool) -> IndexPaths:
    """Check that an index can be written, before any work.

    Raises:
        FileExistsError: If an index exists and ``overwrite`` is not set, or ``path`` is a folder or another file.
        FileNotFoundError: If the folder of ``path`` does not exist.
    """
    # Links are followed, so that the passages lie next to the index itself.
    paths = IndexPaths(Path(path).resolve())
    if not paths.index.parent.is_dir():
        raise ArgumentNotFoundError("path", problem=f"the folder of {path} does not exist")
    if paths.index.is_dir():
        raise ArgumentExistsError("path", "a file", f"the folder {paths.index}")
    if paths.index.exists():
        state = None if overwrite else BuildState.load(paths.work)
        if not overwrite and not (state and state.texts_name):
            raise _exists(paths.index)
        try:
            Index.open(paths.index)
        except IndexFileError as error:
            # ``path`` may be any file, even the passages' source.
            problem = f"{paths.index} is not an index and is not overwritten: {error}"
            raise ArgumentExistsError("path", problem=problem) from error
    return paths


def _exists(index: Path) -> ArgumentExistsError:
    hint = ["choose another name, or pass ", Parameter("overwrite", "True"), " to replace it"]
    return ArgumentExistsError("path", problem=f"{index} exists", hint=hint)


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
                raise ValueError(f"passages starting at {store[start].id!r}: {error}") from error
            state.dim = rows.shape[1]
            stored = rows.astype(storage.value)
            # After a kill, a half-written chunk is overwritten.
            file.seek(start * stored.itemsize * state.dim)
            file.write(stored.tobytes())
            file.flush()
            os.fsync(file.fileno())
            state.encoded = start + len(texts)
            state.save()
    if state.truncated and encoder.max_seq_length is not None:
        progress.truncated(state.truncated, encoder.max_seq_length)


def _write(paths: IndexPaths, state: BuildState, storage: Storage, build: str) -> None:
    """Put both files in place.

    The passages' file gets a new name. The passages' file of a replaced index is kept until the new index is in place.
    So the index and the passages that it names are complete at any moment.
    """
    assert state.dim is not None  # there is at least one passage
    before = paths.texts_of_index()
    if not state.texts_name:
        state.texts_name = paths.new_texts()
        state.save()
    texts = paths.index.with_name(state.texts_name)
    # The file is copied, not moved, so that the build can be resumed until both files are in place.
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
        metadata={BUILD: build, DIGEST: store.digest()},
    )
    if before is not None and before != texts:
        with suppress(OSError):  # Windows cannot delete an open file
            before.unlink(missing_ok=True)
