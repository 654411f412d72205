"""An evaluator for the trainer of sentence-transformers that searches exactly, without a matrix of scores."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import SimilarityFunction
from tqdm import trange
from typing_extensions import override

from relkt.index import search
from relkt.integrations.semantic_search import as_float_rows, is_cosine

COSINE = SimilarityFunction.COSINE.value


class RetrievalEvaluator(InformationRetrievalEvaluator):
    """``InformationRetrievalEvaluator`` of sentence-transformers, with relkt's search.

    It has the same arguments, result keys and files. The values are the same, too, except if float32 rounding in the
    original swaps passages of nearly equal cosine; relkt ranks by the exact cosine. Equal cosines are ordered by id, as
    in the original.

    The original stores ``queries x corpus_chunk_size`` scores; relkt stores only the top-k. ``corpus_chunk_size`` is
    the number of passages that are encoded, stored and searched at once.

    The score is the cosine. By default, a model whose similarity function is not the cosine is an error;
    ``score_functions={"cosine": cos_sim}`` evaluates it by cosine.

    Args:
        *args: As ``InformationRetrievalEvaluator``: ``queries`` (id -> text), ``corpus`` (id -> text),
            ``relevant_docs`` (query id -> set of passage ids), ...; queries without relevant documents are left out.
        **kwargs: As ``InformationRetrievalEvaluator``, with the same defaults.

    Raises:
        ValueError: If no query has a relevant document, the corpus is empty, a score function is not
            ``sentence_transformers.util.cos_sim``, or ``main_score_function`` is not the cosine. A call of the
            evaluator raises it if the model's similarity is not the cosine, or an embedding is zero or has a NaN.
    """

    __signature__ = inspect.signature(InformationRetrievalEvaluator)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.queries:
            raise ValueError("queries, relevant_docs: expected at least one query with a relevant document, got none")
        if not self.corpus:
            raise ValueError("corpus: expected at least one passage, got none")
        self._similarity_is_the_models = self.score_functions is None
        for name, function in (self.score_functions or {}).items():
            if not is_cosine(function):
                raise ValueError(
                    f"score_functions: expected sentence_transformers.util.cos_sim, got {function!r} for {name!r}; "
                    "relkt searches by cosine"
                )
        names = [COSINE, *self.score_function_names] if self._similarity_is_the_models else self.score_function_names
        if self.main_score_function is not None and self.main_score_function.value not in names:
            raise ValueError(
                f"main_score_function: expected one of {', '.join(map(repr, names))}, "
                f"got {self.main_score_function.value!r}"
            )

    @property
    @override
    def description(self) -> str:
        """Name of the original in model cards."""
        return "Information Retrieval"

    @override
    def compute_all_metrics(  # type: ignore[override]  # the original's return annotation is wrong
        self,
        model: SentenceTransformer,
        corpus_model: SentenceTransformer | None = None,
        corpus_embeddings: Any = None,
        output_path: str | None = None,
    ) -> dict[str, dict[str, dict[int, float]]]:
        """Encodes, searches and computes the metrics.

        Args:
            model: Model that encodes the queries.
            corpus_model: Model that encodes the passages; default: ``model``.
            corpus_embeddings: (n, d), array or tensor of the passages in the order of ``corpus``; default: encode them.
            output_path: Folder for the predictions, which are written if ``write_predictions`` is True.

        Returns:
            Score function -> metric (``"accuracy@k"``, ...) -> k -> value.
        """
        if self._similarity_is_the_models and model.similarity_fn_name != COSINE:
            raise ValueError(
                f"model: expected similarity_fn_name 'cosine', got {model.similarity_fn_name!r}; to evaluate it by "
                "cosine, pass score_functions={'cosine': sentence_transformers.util.cos_sim}"
            )
        hits = self._search(model, corpus_model or model, corpus_embeddings)
        scores: dict[str, dict[int, float]] = self.compute_metrics(hits)  # type: ignore[arg-type]
        for name in self.score_function_names:
            if self.write_predictions and output_path is not None:
                self._write_predictions(hits, Path(output_path), name)
            self.output_scores(scores)  # type: ignore[no-untyped-call]
        return dict.fromkeys(self.score_function_names, scores)

    def _search(
        self, model: SentenceTransformer, corpus_model: SentenceTransformer, corpus_embeddings: Any
    ) -> list[list[dict[str, Any]]]:
        """The best passages of each query, by falling score, then by id."""
        ks = (self.accuracy_at_k, self.precision_recall_at_k, self.mrr_at_k, self.ndcg_at_k, self.map_at_k)
        depth = max(max(each) for each in ks)
        embedded = self.embed_inputs(
            model, self.queries, "query", prompt_name=self.query_prompt_name, prompt=self.query_prompt
        )
        queries = as_float_rows("queries", embedded)
        # The search orders equal scores by row, so the rows are sorted by id.
        by_id = sorted(range(len(self.corpus_ids)), key=self.corpus_ids.__getitem__)
        rank_of = np.empty(len(by_id), dtype=np.int64)
        rank_of[by_id] = np.arange(len(by_id))
        scores = np.empty((len(queries), 0), dtype=np.float32)
        ranks = np.empty((len(queries), 0), dtype=np.int64)
        starts = trange(
            0, len(self.corpus), self.corpus_chunk_size, desc="Corpus Chunks", disable=not self.show_progress_bar
        )
        for start in starts:
            chunk = slice(start, start + self.corpus_chunk_size)
            if corpus_embeddings is None:
                part = self.embed_inputs(
                    corpus_model,
                    self.corpus[chunk],
                    "document",
                    prompt_name=self.corpus_prompt_name,
                    prompt=self.corpus_prompt,
                )
            else:
                part = corpus_embeddings[chunk]
            rows = as_float_rows("corpus", part)
            order = np.argsort(rank_of[chunk])
            hits = search(queries, rows[order], min(depth, len(rows)))
            scores = np.concatenate([scores, hits.scores], axis=1)
            ranks = np.concatenate([ranks, rank_of[chunk][order][hits.indices]], axis=1)
            best = np.lexsort((ranks, -scores), axis=1)[:, :depth]
            scores, ranks = np.take_along_axis(scores, best, axis=1), np.take_along_axis(ranks, best, axis=1)
        ids = [self.corpus_ids[row] for row in by_id]
        return [_as_dicts(ids, *row) for row in zip(ranks, scores, strict=True)]

    def _write_predictions(self, hits: list[list[dict[str, Any]]], folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.predictions_file.replace(".jsonl", f"_{name}.jsonl")
        with path.open("w", encoding="utf-8") as file:
            for query_id, query, results in zip(self.queries_ids, self.queries, hits, strict=True):
                file.write(json.dumps({"query_id": query_id, "query": query, "results": results}) + "\n")


def _as_dicts(ids: list[Any], ranks: NDArray[np.int64], scores: NDArray[np.float32]) -> list[dict[str, Any]]:
    pairs = zip(ranks.tolist(), scores.tolist(), strict=True)
    return [{"corpus_id": ids[rank], "score": score} for rank, score in pairs]
