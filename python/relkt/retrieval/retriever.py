"""Questions in, passages out."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from relkt._relkt import IndexFileError
from relkt.arrays import Embeddings, as_count
from relkt.data.types import Passage
from relkt.encoders import encode_queries, load_encoder, model_checksum
from relkt.index import Index
from relkt.retrieval.building import build_index
from relkt.retrieval.kinds import Storage
from relkt.retrieval.passages import BUILD, DIGEST, IndexedPassage, PassageStore, Value, is_plain_name
from relkt.retrieval.progress import IndexProgress
from relkt.retrieval.sources import Source, from_passages
from relkt.retrieval.store import read_store

Where = Mapping[str, Value | Sequence[Value]]
"""The wanted value of each column, or several of which any will do."""


@dataclass(frozen=True)
class RetrievedPassage:
    """One result.

    Args:
        passage: The passage.
        score: Cosine of question and passage, in [-1, 1].
        rank: From 1, the best.
        row: Its row in the index.
    """

    passage: IndexedPassage
    score: float
    rank: int
    row: int


class Retriever:
    """An index, the texts of its passages, and the encoder of questions.

    Args:
        index: The index.
        passages: One passage for each of its rows: what :meth:`PassageStore.open` gives, or passages as for
            :meth:`build`.
        encoder: The encoder that embedded them.
        query_prompt: Put before each question; default: as noted when the passages were embedded, or the encoder's own.

    Raises:
        IndexFileError: If the passages are those of another index.
        ValueError: If their numbers differ, or the encoder has another dimension than the index.
    """

    def __init__(
        self,
        index: Index,
        passages: PassageStore | Iterable[IndexedPassage | Passage | Mapping[str, Any] | str],
        encoder: SentenceTransformer,
        *,
        query_prompt: str | None = None,
    ) -> None:
        store = passages if isinstance(passages, PassageStore) else read_store(from_passages(passages))
        if len(store) != len(index):
            raise ValueError(f"passages: expected {len(index)}, one for each row of the index, got {len(store)}")
        if {None} != {index.metadata.get(BUILD), store.notes.get(BUILD)}:
            _check_pair(index, store)
        self.index = index
        self.passages = store
        self._lock = threading.RLock()
        self._encoder: SentenceTransformer | None = None
        self._wanted: str | None = None
        self._device: str | None = None
        self._query_prompt = store.notes.get("query_prompt") if query_prompt is None else query_prompt
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
        """Open an index and the texts beside it, as ``relkt index`` and :meth:`build` write them.

        Neither is read as a whole, and the encoder is loaded when it is first needed.

        Args:
            path: The index file.
            encoder: The encoder or its name, if it is elsewhere than when the index was built.
            device: Where a named encoder runs; default: a GPU if there is one.
            verify: As for :meth:`relkt.Index.open`.

        Raises:
            OSError: If a file cannot be opened.
            IndexFileError: If a file is not what it should be, the index was saved without texts, or the texts are
                those of another index.
        """
        path = Path(path)
        index = Index.open(path, verify=verify)
        store = open_texts(index, path, verify=verify)
        retriever = cls.__new__(cls)
        retriever._lock = threading.RLock()
        retriever.index, retriever.passages = index, store
        retriever._query_prompt = store.notes.get("query_prompt")
        retriever._wanted, retriever._device, retriever._encoder = store.notes.get("encoder"), device, None
        if isinstance(encoder, SentenceTransformer):
            retriever._set_encoder(encoder)
        elif encoder is not None:
            retriever._wanted = str(encoder)
        return retriever

    @classmethod
    def build(
        cls,
        passages: Source | Iterable[IndexedPassage | Passage | Mapping[str, Any] | str],
        path: str | os.PathLike[str],
        *,
        encoder: SentenceTransformer | str = "muse",
        encoder_name: str | None = None,
        device: str | None = None,
        storage: Storage = Storage.FLOAT32,
        batch_size: int = 32,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        overwrite: bool = False,
        progress: IndexProgress | None = None,
    ) -> Retriever:
        """Encode passages, write an index with their texts beside it, and open it.

        Args:
            passages: Texts, mappings with the keys ``id``, ``text``, ``title``, ``document``, ``language`` and any
                others, passages, or what :func:`relkt.retrieval.read_passages` gives.
            path: The index file.
            encoder: The encoder, or its name.
            encoder_name: By which name to load it later; needed if ``encoder`` is not a name. Default: ``encoder``.
            device: Where a named encoder runs; default: a GPU if there is one.
            storage: As for :func:`relkt.retrieval.build_index`, as are all others.
            batch_size: Passages encoded at once.
            query_prompt: Put before questions; default: the encoder's own.
            passage_prompt: Put before passages; default: the encoder's own.
            overwrite: Replace an index that is there.
            progress: Told what happens.

        Raises:
            DataError: If a passage is not as it should be; names it and the value.
            ValueError: As :func:`relkt.retrieval.build_index`.
            OSError: As :func:`relkt.retrieval.build_index`.
        """
        model = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        name = encoder_name or (encoder if isinstance(encoder, str) else None)
        build_index(
            passages,
            path,
            encoder=model,
            encoder_name=name,
            storage=storage,
            batch_size=batch_size,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            overwrite=overwrite,
            progress=progress,
        )
        return cls.open(path, encoder=model)

    @property
    def encoder(self) -> SentenceTransformer:
        """The encoder.

        Raises:
            ValueError: If it is not the one that the passages were embedded with.
            OSError: If it cannot be loaded.
        """
        with self._lock:
            if self._encoder is None:
                if not self._wanted:
                    raise ValueError("encoder: the index does not say which encoder embedded it; give it to open()")
                self._set_encoder(load_encoder(self._wanted, device=self._device))
            assert self._encoder is not None
            return self._encoder

    def _set_encoder(self, encoder: SentenceTransformer) -> None:
        dim = encoder.get_embedding_dimension()
        if dim is not None and dim != self.index.dim:
            raise ValueError(f"encoder: expected one of dimension {self.index.dim}, that of the index, got {dim}")
        expected = self.passages.notes.get("encoder_checksum")
        if expected is not None and model_checksum(encoder) != expected:
            raise ValueError(
                f"encoder: expected {self.encoder_name or 'the one'} as it was when the passages were embedded, "
                "got one with other weights or settings; build the index again with it"
            )
        self._encoder = encoder

    @property
    def encoder_name(self) -> str | None:
        """The name of the encoder by which the index was built, if known."""
        return self.passages.notes.get("encoder") or None

    @property
    def path(self) -> Path | None:
        """The index file, if there is one."""
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
        # Fast tokenizers refuse a second thread, and the encoder is loaded once.
        with self._lock:
            return encode_queries(self.encoder, questions, batch_size=batch_size, prompt=self._query_prompt)

    @overload
    def search(  # type: ignore[overload-overlap]  # a str is a sequence of str, too; the first one is meant
        self, questions: str, k: int = 10, *, where: Where | None = None
    ) -> list[RetrievedPassage]: ...
    @overload
    def search(
        self, questions: Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[list[RetrievedPassage]]: ...
    def search(
        self, questions: str | Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[RetrievedPassage] | list[list[RetrievedPassage]]:
        """The passages nearest to each question, exactly.

        Args:
            questions: A question or several, in any language.
            k: Results for each; fewer where there are fewer passages.
            where: Which passages are considered: the wanted value of each column, or several of which any will do, e.g.
                ``{"language": "en", "year": [2019, 2020]}``. Default: all.

        Returns:
            Results, best first (ties: as the passages come); a list of them for each question, if several were given.

        Raises:
            ValueError: If a question is blank, ``k`` is below 1, or as :meth:`PassageStore.mask`.
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
        """As :meth:`search`, with questions that are embedded.

        Args:
            embeddings: (q, d) float32 or float16.
            k: Results for each.
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
        if self.passages.notes.get(BUILD) is not None and self.index.path is None:
            # It was changed since it was opened: rows may have moved.
            named, known = self.index.ids, self.passages
            for row in np.unique(hits.indices):
                if named[row] != known[int(row)].id:
                    raise ValueError(
                        f"index: row {row} is {named[row]!r} now, and was {known[int(row)].id!r}; build it anew"
                    )
        return [
            [
                RetrievedPassage(self.passages[int(row)], float(score), rank, int(row))
                for rank, (row, score) in enumerate(zip(rows, scores, strict=True), start=1)
            ]
            for rows, scores in zip(hits.indices, hits.scores, strict=True)
        ]


def open_texts(index: Index, path: Path, *, verify: bool = False) -> PassageStore:
    """The passages of an index.

    Args:
        index: The index.
        path: Its file.
        verify: Compare the passages with the digest that the index has of them.

    Raises:
        OSError: If the file cannot be opened.
        IndexFileError: If the index was saved without passages, or the file is not theirs.
    """
    if index.texts is None:
        raise IndexFileError(f"{path}: expected an index with passages, as `relkt index` writes, got one without")
    if not is_plain_name(index.texts):
        raise IndexFileError(f"{path}: expected its passages in a file beside it, got {index.texts!r}")
    beside = path.with_name(index.texts)
    # A link to an index leads to its passages, too.
    store = PassageStore.open(beside if beside.exists() else path.resolve().with_name(index.texts))
    _check_pair(index, store)
    if verify and store.digest() != index.metadata.get(DIGEST):
        raise IndexFileError(f"{store.path}: the passages are not what they were when the index was built")
    return store


def _check_pair(index: Index, store: PassageStore) -> None:
    if store.notes.get(BUILD) != index.metadata.get(BUILD) or len(store) != len(index):
        raise IndexFileError(
            f"the passages{'' if store.path is None else f' in {store.path}'} are those of another index; build it "
            "again, or bring back the file that belongs to it"
        )
