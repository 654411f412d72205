"""The texts that hard negatives are mined from, each once, and their embeddings."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from datasets import Dataset
from numpy.typing import NDArray

from relkt.arrays import Embeddings


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of an anchor and a positive, with every text once.

    Attributes:
        queries: (q,) Arrow array of large_string, the anchors in the order in which they first appear.
        corpus: (n,) Arrow array of large_string, the passages: the corpus given, then the positives that it lacks.
        starts: (q + 1,) int64, where the positives of each query start in ``positives``, and where the last ones end.
        positives: (p,) int64 rows of the corpus, for each query in the order in which they first appear.
        rows_per_query: (q,) int64, rows of the data set for each query; more than positives if pairs are repeated.
    """

    queries: pa.Array
    corpus: pa.Array
    starts: NDArray[np.int64]
    positives: NDArray[np.int64]
    rows_per_query: NDArray[np.int64]

    @property
    def query_of_pair(self) -> NDArray[np.int64]:
        """(p,) int64, the query that each of ``positives`` belongs to."""
        return np.repeat(np.arange(len(self.queries)), np.diff(self.starts))

    def texts(self, queries: NDArray[np.int64], passages: NDArray[np.int64]) -> list[tuple[str, str]]:
        """The texts of pairs of a query and a passage."""
        return list(
            zip(
                self.queries.take(pa.array(queries)).to_pylist(),
                self.corpus.take(pa.array(passages)).to_pylist(),
                strict=True,
            )
        )


def read_pairs(dataset: Dataset, anchor: str, positive: str, corpus: Sequence[str] | None) -> Pairs:
    """Reads two columns and drops repeated texts.

    Raises:
        TypeError: If ``corpus`` is no list of texts, or a cell of the columns is no text; the message names the row.
        ValueError: If a cell is empty (None).
    """
    listed = [] if corpus is None else [_listed_texts("corpus", corpus)]
    queries, query_of_row = _numbered(_column(dataset, anchor))
    passages, passage_of_row = _numbered([*listed, *_column(dataset, positive)])
    passage_of_row = passage_of_row[len(passage_of_row) - len(query_of_row) :]
    del listed
    pa.default_memory_pool().release_unused()  # there may be gigabytes of texts, and a model comes next

    num_queries, num_passages = len(queries), len(passages)
    pairs, first_rows = np.unique(query_of_row * num_passages + passage_of_row, return_index=True)
    order = np.lexsort((first_rows, pairs // num_passages))
    query_of_pair, positives = np.divmod(pairs[order], num_passages)
    return Pairs(
        queries,
        passages,
        np.searchsorted(query_of_pair, np.arange(num_queries + 1)),
        positives,
        np.bincount(query_of_row, minlength=num_queries),
    )


def _numbered(texts: list[pa.Array]) -> tuple[pa.Array, NDArray[np.int64]]:
    """The distinct texts in the order of their first appearance, and for each text which of these it is."""
    encoded = pa.chunked_array(texts, pa.large_string()).dictionary_encode()
    numbers = np.concatenate([part.indices.to_numpy() for part in encoded.chunks]).astype(np.int64)
    return encoded.chunk(encoded.num_chunks - 1).dictionary, numbers


def _column(dataset: Dataset, name: str) -> list[pa.Array]:
    if dataset.format["type"] == "custom":  # a transform makes the cells when they are read
        return [_listed_texts(f"dataset: column {name!r}", dataset[name][:])]
    column = dataset.select_columns(name).with_format("arrow")[:].column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return [_listed_texts(f"dataset: column {name!r}", column.to_pylist())]
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(f"dataset: column {name!r}: expected texts, got None in row {row}")
    chunks: list[pa.Array] = column.cast(pa.large_string()).chunks
    return chunks


def _listed_texts(name: str, texts: Any) -> pa.Array:
    if isinstance(texts, str | bytes):
        raise TypeError(f"{name}: expected a list of texts, got one text; put it in a list")
    try:
        listed = list(texts)
    except TypeError:
        raise TypeError(f"{name}: expected a list of texts, got {type(texts).__name__}") from None
    if not all(issubclass(kind, str) for kind in set(map(type, listed))):
        row = next(row for row, text in enumerate(listed) if not isinstance(text, str))
        if listed[row] is None:
            raise ValueError(f"{name}: expected texts, got None in row {row}")
        raise TypeError(f"{name}: expected texts, got {type(listed[row]).__name__} in row {row}")
    return pa.array(listed, type=pa.large_string())


class _Poolable(Protocol):
    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> Any: ...
    def stop_multi_process_pool(self, pool: Any) -> Any: ...


@contextmanager
def pool_of(model: _Poolable, use_multi_process: list[str] | bool) -> Iterator[Any]:
    """A pool of processes while the context lasts, or None if none is wanted."""
    if not use_multi_process:
        yield None
        return
    pool = model.start_multi_process_pool(
        target_devices=None if isinstance(use_multi_process, bool) else use_multi_process
    )
    try:
        yield pool
    finally:
        model.stop_multi_process_pool(pool)


@dataclass(frozen=True)
class Encoding:
    """How texts become embeddings; the fields are the arguments of ``mine_hard_negatives`` of the same names."""

    query_prompt_name: str | None
    query_prompt: str | None
    corpus_prompt_name: str | None
    corpus_prompt: str | None
    batch_size: int
    use_multi_process: list[str] | bool
    cache_folder: str | os.PathLike[str] | None
    verbose: bool


def embed(model: Any, pairs: Pairs, encoding: Encoding) -> tuple[Embeddings, Embeddings]:
    """Embeddings of the queries and of the corpus, from the cache where they are there, and put there where not.

    Files have the names that sentence-transformers 6 gives them, so that both find each other's.

    Returns:
        (q, d) and (n, d) float32, or both float16 if the model's are.

    Raises:
        ValueError: If a file of the cache, or what the model gives, does not have one row for each text or is not
            finite, the model has no prompt of a name, or the embeddings of queries and corpus differ in width.
        OSError: If the cache cannot be read or written.
    """
    _check_prompt_names(model, encoding)
    queries = _Texts("query", "queries", pairs.queries.to_pylist(), encoding.query_prompt, encoding.query_prompt_name)
    corpus = _Texts("corpus", "passages", pairs.corpus.to_pylist(), encoding.corpus_prompt, encoding.corpus_prompt_name)
    files: dict[str, Path | None] = {"query": None, "corpus": None}
    if encoding.cache_folder:
        folder = Path(encoding.cache_folder)
        folder.mkdir(parents=True, exist_ok=True)
        base_model = model.model_card_data.base_model or ""
        for texts in (queries, corpus):
            files[texts.kind] = folder / f"{texts.kind}_embeddings_{texts.digest(base_model)}.npy"
    found = {texts.kind: _load(files[texts.kind], texts, encoding.verbose) for texts in (queries, corpus)}
    if any(embeddings is None for embeddings in found.values()):
        with pool_of(model, encoding.use_multi_process) as pool:
            for texts, encode in ((corpus, model.encode_document), (queries, model.encode_query)):
                if found[texts.kind] is None:
                    found[texts.kind] = embeddings = encode(
                        texts.texts,
                        pool=pool,
                        batch_size=encoding.batch_size,
                        normalize_embeddings=True,
                        convert_to_numpy=True,
                        show_progress_bar=encoding.verbose,
                        prompt_name=texts.prompt_name,
                        prompt=texts.prompt,
                    )
                    _check(f"model: embeddings of the {texts.plural}", embeddings, len(texts.texts))
                    _save(files[texts.kind], texts, embeddings, encoding.verbose)
    return _comparable(_as_float(found["query"]), _as_float(found["corpus"]))


@dataclass(frozen=True)
class _Texts:
    kind: str
    plural: str
    texts: list[str]
    prompt: str | None
    prompt_name: str | None

    def digest(self, base_model: str, block: int = 65536) -> str:
        """SHA-256 of ``repr((base_model, prompt, prompt_name, texts))``, without ever making the whole of it."""
        digest = hashlib.sha256(usedforsecurity=False)
        digest.update(f"({base_model!r}, {self.prompt!r}, {self.prompt_name!r}, [".encode())
        for start in range(0, len(self.texts), block):
            digest.update((", " if start else "").encode() + repr(self.texts[start : start + block])[1:-1].encode())
        digest.update(b"])")
        return digest.hexdigest()


def _load(file: Path | None, texts: _Texts, verbose: bool) -> NDArray[Any] | None:
    if file is None or not file.exists():
        return None
    embeddings = np.load(file)
    _check(f"cache_folder: {file}", embeddings, len(texts.texts))
    if verbose:
        print(f"[Cache] Loaded {texts.kind} embeddings from {file} (shape={embeddings.shape})")  # noqa: T201
    return embeddings


def _save(file: Path | None, texts: _Texts, embeddings: NDArray[Any], verbose: bool) -> None:
    if file is None:
        return
    # Under another name until it is complete: a run that is cut off leaves no half file to the next one.
    unfinished = file.with_name(f".{file.stem}.{uuid.uuid4().hex}.tmp")
    try:
        with unfinished.open("xb") as stream:
            np.save(stream, embeddings)
        unfinished.replace(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if verbose:
        print(f"[Cache] Saved {texts.kind} embeddings to {file}")  # noqa: T201


def _check(name: str, embeddings: Any, rows: int) -> None:
    shape = getattr(embeddings, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != rows:
        raise ValueError(f"{name}: expected an array of shape ({rows}, d), one row for each text, got {shape}")
    # In double precision no sum of squares of float32 overflows, so it is finite if and only if all values are.
    finite = np.isfinite(np.einsum("ij,ij->i", embeddings, embeddings, dtype=np.float64))
    if not finite.all():
        raise ValueError(f"{name}: expected finite values, got a NaN or an infinity in row {int(np.argmin(finite))}")


def _check_prompt_names(model: Any, encoding: Encoding) -> None:
    for argument in ("query_prompt_name", "corpus_prompt_name"):
        name, instead = getattr(encoding, argument), getattr(encoding, argument.removesuffix("_name"))
        prompts = getattr(model, "prompts", None) or {}
        if name is not None and instead is None and name not in prompts:
            raise ValueError(f"{argument}: expected one of the model's prompts, {sorted(prompts)}, got {name!r}")


def _as_float(embeddings: Any) -> Embeddings:
    array = np.asarray(embeddings)
    return np.ascontiguousarray(array, dtype=array.dtype if array.dtype == np.float16 else np.float32)


def _comparable(queries: Embeddings, corpus: Embeddings) -> tuple[Embeddings, Embeddings]:
    if queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            "model: expected embeddings of one width, got "
            f"{queries.shape[1]} for queries and {corpus.shape[1]} for passages"
        )
    if queries.dtype != corpus.dtype:
        queries, corpus = queries.astype(np.float32), corpus.astype(np.float32)
    # A text without any known word may have an embedding of zeros. Its score with every other text is 0: the same as
    # that of unit vectors along two further axes, one for queries and one for passages.
    zero_queries, zero_passages = (np.logical_not(rows.any(axis=1)) for rows in (queries, corpus))
    if zero_queries.any() or zero_passages.any():
        return _widened(queries, zero_queries, 0), _widened(corpus, zero_passages, 1)
    return queries, corpus


def _widened(embeddings: Embeddings, ones: NDArray[np.bool_], column: int) -> Embeddings:
    more = np.zeros((len(embeddings), 2), embeddings.dtype)
    more[ones, column] = 1
    return _as_float(np.hstack([embeddings, more]))
