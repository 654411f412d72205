"""Retriever: questions in, passages out."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from relkt._relkt import IndexFileError
from relkt.arrays import Embeddings, as_count
from relkt.data.types import Passage
from relkt.encoders import encode_queries, load_encoder, model_checksum
from relkt.index import Index
from relkt.retrieval.building import BuildOptions, build_index
from relkt.retrieval.passages import BUILD, DIGEST, IndexedPassage, PassageStore, Value, is_plain_name
from relkt.retrieval.sources import Source, from_passages
from relkt.retrieval.store import read_store

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from typing_extensions import Unpack

Where = Mapping[str, Value | Sequence[Value]]
"""The wanted value of each column, or a list of accepted values."""


@dataclass(frozen=True)
class RetrievedPassage:
    """One result.

    Args:
        passage: The passage.
        score: Cosine of question and passage, in [-1, 1].
        rank: The rank, from 1.
        row: The passage's row in the index.
    """

    passage: IndexedPassage
    score: float
    rank: int
    row: int

    def to_dict(self) -> dict[str, Any]:
        """Rank, score, and the passage's id, text, title, document, language and fields."""
        return {"rank": self.rank, "score": self.score, **self.passage.to_dict()}


class Retriever:
    """An index, the texts of its passages, and the encoder of questions.

    Args:
        index: The index.
        passages: One passage for each row of the index: the result of :meth:`PassageStore.open`, or passages as for
            :meth:`build`.
        encoder: The encoder that embedded the passages. An encoder given by name is loaded when first needed. Default:
            the name noted in the passages' file.
        query_prompt: Text put before each question. Default: the prompt noted in the passages' file, or the encoder's
            own prompt.
        device: Device of an encoder given by name; default: a GPU if available.

    Raises:
        IndexFileError: If the passages belong to another index.
        ValueError: If index and passages differ in length, or index and encoder differ in dimension.
    """

    def __init__(
        self,
        index: Index,
        passages: PassageStore | Iterable[IndexedPassage | Passage | Mapping[str, Any] | str],
        encoder: SentenceTransformer | str | None = None,
        *,
        query_prompt: str | None = None,
        device: str | None = None,
    ) -> None:
        store = passages if isinstance(passages, PassageStore) else read_store(from_passages(passages))
        if len(store) != len(index):
            raise ValueError(f"passages: expected {len(index)}, one for each row of the index, got {len(store)}")
        if {None} != {index.metadata.get(BUILD), store.notes.get(BUILD)}:
            _check_pair(index, store)
        self.index = index
        self.passages = store
        self._lock = threading.RLock()
        self._device = device
        self._query_prompt = store.notes.get("query_prompt") if query_prompt is None else query_prompt
        self._encoder: SentenceTransformer | None = None
        self._to_load = self.encoder_name
        if isinstance(encoder, str | os.PathLike):
            self._to_load = os.fspath(encoder)
        elif encoder is not None:
            self._set_encoder(encoder)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: SentenceTransformer | str | None = None,
        device: str | None = None,
        verify: bool = False,
    ) -> Retriever:
        """Open an index with its passages, as written by ``relkt index`` and :meth:`build`.

        Both files are memory-mapped, and the encoder is loaded when it is first needed.

        Args:
            path: The index file.
            encoder: The encoder or its name; default: the name noted when the index was built.
            device: Device of an encoder given by name; default: a GPU if available.
            verify: As for :meth:`relkt.Index.open`; if True, the passages are also compared with their checksum.

        Raises:
            OSError: If a file cannot be opened.
            IndexFileError: If a file is damaged or of another kind, the index was saved without passages, or the
                passages belong to another index.
        """
        index = Index.open(path, verify=verify)
        return cls(index, open_texts(index, Path(path), verify=verify), encoder, device=device)

    @classmethod
    def build(
        cls,
        passages: Source | Iterable[IndexedPassage | Passage | Mapping[str, Any] | str],
        path: str | os.PathLike[str],
        *,
        encoder: SentenceTransformer | str = "muse",
        encoder_name: str | None = None,
        device: str | None = None,
        **options: Unpack[BuildOptions],
    ) -> Retriever:
        """Encode passages, write an index with the passages next to it, and open it.

        Args:
            passages: Texts, mappings with the keys ``id``, ``text``, ``title``, ``document``, ``language`` and any
                others, passage objects, or the result of :func:`relkt.retrieval.read_passages`.
            path: The index file.
            encoder: The encoder, or its name.
            encoder_name: The name with which to load the encoder later. Default: ``encoder``, if that is a name.
            device: Device of an encoder given by name; default: a GPU if available.
            **options: ``storage``, ``batch_size``, ``query_prompt``, ``passage_prompt``, ``overwrite`` and
                ``progress``, as for :func:`relkt.retrieval.build_index`.

        Raises:
            DataError: If a passage is invalid; the message names the passage and the value.
            ValueError: As :func:`relkt.retrieval.build_index`.
            OSError: As :func:`relkt.retrieval.build_index`.
        """
        model = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        name = encoder_name or (encoder if isinstance(encoder, str) else None)
        build_index(passages, path, encoder=model, encoder_name=name, **options)
        return cls.open(path, encoder=model)

    @property
    def encoder(self) -> SentenceTransformer:
        """The encoder.

        Raises:
            ValueError: If it is not the encoder that embedded the passages, or its name is unknown.
            OSError: If it cannot be loaded.
        """
        with self._lock:
            if self._encoder is None:
                if not self._to_load:
                    raise ValueError("encoder: the index does not say which encoder embedded it; give it to open()")
                self._set_encoder(load_encoder(self._to_load, device=self._device))
            assert self._encoder is not None
            return self._encoder

    def _set_encoder(self, encoder: SentenceTransformer) -> None:
        dim = encoder.get_embedding_dimension()
        if dim is not None and dim != self.index.dim:
            raise ValueError(f"encoder: expected dimension {self.index.dim}, as in the index, got {dim}")
        expected = self.passages.notes.get("encoder_checksum")
        if expected is not None and model_checksum(encoder) != expected:
            raise ValueError(
                f"encoder: expected {self.encoder_name or 'the encoder'} as it was when the passages were embedded, "
                "got other weights or settings; build the index again with this encoder"
            )
        self._encoder = encoder

    @property
    def encoder_name(self) -> str | None:
        """The name of the encoder that embedded the passages, if known."""
        return self.passages.notes.get("encoder") or None

    @property
    def path(self) -> Path | None:
        """The index file; None for an index in memory."""
        return self.index.path

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"Retriever({self.index!r}, encoder={self.encoder_name!r})"

    def encode(self, questions: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed questions.

        Args:
            questions: The questions, in any language.
            batch_size: Questions encoded at once.

        Returns:
            (q, d) float32, unit rows.

        Raises:
            ValueError: If a question is blank.
        """
        for row, question in enumerate(questions):
            if not isinstance(question, str) or not question.strip():
                raise ValueError(f"questions: expected a text in row {row}, got {question!r}")
        # The lock lets one thread at a time encode, because fast tokenizers refuse a second thread. It also makes sure
        # that the encoder is loaded only once.
        with self._lock:
            return encode_queries(self.encoder, questions, batch_size=batch_size, prompt=self._query_prompt)

    @overload
    def search(  # type: ignore[overload-overlap]  # a str is also a sequence of str; the first overload is meant
        self, questions: str, k: int = 10, *, where: Where | None = None
    ) -> list[RetrievedPassage]: ...
    @overload
    def search(
        self, questions: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[RetrievedPassage]]: ...
    def search(
        self, questions: str | Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[RetrievedPassage] | list[list[RetrievedPassage]]:
        """The exact top-k passages of each question.

        Args:
            questions: A question or several, in any language.
            k: Results for each question; fewer if fewer passages match.
            where: Filter: the wanted value of each column, or a list of accepted values, e.g.
                ``{"language": "en", "year": [2019, 2020]}``. Default: all passages.

        Returns:
            Results, best first (ties: lower row first); for several questions, a list of results for each.

        Raises:
            ValueError: If a question is blank or ``k`` is below 1; also as :meth:`PassageStore.mask`.
        """
        if isinstance(questions, str):
            return self.search_embeddings(self.encode([questions]), k, where=where)[0]
        questions = list(questions)
        if not questions:
            return []
        return self.search_embeddings(self.encode(questions), k, where=where)

    def search_embeddings(
        self, embeddings: Embeddings, k: int = 10, *, where: Where | None = None, threads: int | None = None
    ) -> list[list[RetrievedPassage]]:
        """The exact top-k passages of each embedded question, see :meth:`search`.

        Args:
            embeddings: (q, d) float32 or float16.
            k: Results for each question.
            where: As for :meth:`search`.
            threads: As for :meth:`relkt.Index.search`.

        Raises:
            TypeError: As :meth:`relkt.Index.search`.
            ValueError: As :meth:`relkt.Index.search` and :meth:`PassageStore.mask`.
        """
        k = as_count("k", k, "of at least 1", least=1)
        if len(self.index) != len(self.passages):
            raise ValueError(f"index: expected {len(self.passages)} rows, one for each passage, got {len(self.index)}")
        allow = None if not where else self.passages.mask(where)
        if allow is not None and not allow.any():
            return [[] for _ in range(len(embeddings))]
        hits = self.index.search(embeddings, min(k, len(self.index)), allow=allow, threads=threads)
        self._check_rows(np.unique(hits.indices))
        return [
            [
                RetrievedPassage(self.passages[int(row)], float(score), rank, int(row))
                for rank, (row, score) in enumerate(zip(rows, scores, strict=True), start=1)
            ]
            for rows, scores in zip(hits.indices, hits.scores, strict=True)
        ]

    def _check_rows(self, rows: NDArray[np.int64]) -> None:
        """Check that each row still has its passage; rows may have moved if the index changed after it was opened."""
        if self.passages.notes.get(BUILD) is None or self.index.path is not None:
            return
        ids = self.index.ids
        for row in rows:
            if ids[row] != self.passages[int(row)].id:
                raise ValueError(
                    f"index: row {row} is {ids[row]!r}, and was {self.passages[int(row)].id!r} when the index was "
                    "opened; build the index again"
                )


def open_texts(index: Index, path: Path, *, verify: bool = False) -> PassageStore:
    """The passages of an index.

    Args:
        index: The index.
        path: The index file.
        verify: Compare the passages with the checksum in the index.

    Raises:
        OSError: If the file cannot be opened.
        IndexFileError: If the index was saved without passages, or the file belongs to another index.
    """
    if index.texts is None:
        raise IndexFileError(f"{path}: expected an index with passages, as `relkt index` writes, got one without")
    if not is_plain_name(index.texts):
        raise IndexFileError(f"{path}: expected the name of a file in the same folder, got {index.texts!r}")
    file = path.with_name(index.texts)
    # If the index is a link, its passages may lie next to the link or next to its target.
    store = PassageStore.open(file if file.exists() else path.resolve().with_name(index.texts))
    _check_pair(index, store)
    if verify and store.digest() != index.metadata.get(DIGEST):
        raise IndexFileError(f"{store.path}: the passages have changed since the index was built")
    return store


def _check_pair(index: Index, store: PassageStore) -> None:
    if store.notes.get(BUILD) != index.metadata.get(BUILD) or len(store) != len(index):
        raise IndexFileError(
            f"the passages{'' if store.path is None else f' in {store.path}'} belong to another index; build the index "
            "again, or restore its passages' file"
        )
