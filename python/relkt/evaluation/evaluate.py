"""Evaluation of a model, or of embeddings, on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relkt.data import Level, Query, RetrievalData, Split, parse_member, sort_languages
from relkt.errors import ArgumentError
from relkt.evaluation.bootstrap import bootstrap_macro_mean
from relkt.evaluation.full_ranking import average_precision
from relkt.evaluation.ranking import Ranker, Ranking, check_rows
from relkt.evaluation.result import MEAN_AVERAGE_PRECISION, METRICS, Average, Estimate, Report

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DEPTH = 10  # largest cutoff of the metrics
_IR_MEASURES = {
    "P@1": "Success@1",
    "P@5": "Success@5",
    "P@10": "Success@10",
    "MRR@10": "RR@10",
    "nDCG@10": "nDCG@10",
}


def evaluate(
    model: SentenceTransformer,
    data: RetrievalData,
    *,
    split: Split | str | None = Split.TEST,
    level: Level | str = Level.PASSAGE,
    languages: Iterable[str] | None = None,
    trained_languages: Iterable[str] | None = None,
    full_ranking: bool = False,
    batch_size: int = 32,
    k: int = 10,
    num_resamples: int = 1000,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Encodes candidates and queries once, ranks exactly, and computes the metrics.

    Args:
        model: A sentence-transformers model; its query and document prompts are applied.
        data: The data set. All its passages or documents are candidates for every split.
        split: Split of the queries; None for all queries.
        level: Unit that is ranked; see :class:`relkt.data.Level`.
        languages: Languages of the queries; None for all.
        trained_languages: Languages that the model was trained on, for separate averages; None if unknown.
        full_ranking: Whether to compute mAP (:data:`relkt.evaluation.MEAN_AVERAGE_PRECISION`), too; this ranks all
            candidates for every query.
        batch_size: Texts per batch.
        k: Number of top-ranked candidates to keep for the exported run; at least 10.
        num_resamples: Number of bootstrap resamples for the intervals; 0 for no intervals.
        seed: Seed of the bootstrap.
        threads: Threads of the search; default: all that the process may use.
        progress: Called with the number of texts encoded since the last call; the total is candidates plus queries.

    Returns:
        The report, with P@1, P@5, P@10, MRR@10, nDCG@10 and, if requested, mAP.

    Raises:
        ArgumentError: If an argument is out of range, or there is no query to evaluate.
    """
    from relkt.encoders import encode_passages, encode_queries

    selected = _select(data, split, languages)
    _check(k, num_resamples, batch_size)
    candidates = selected.candidates(level)
    texts = [q.text for q in selected.queries]
    return evaluate_embeddings(
        encode_queries(model, texts, batch_size=batch_size, progress=progress),
        encode_passages(model, list(candidates.texts), batch_size=batch_size, progress=progress),
        selected,
        split=split,
        level=level,
        trained_languages=trained_languages,
        full_ranking=full_ranking,
        k=k,
        num_resamples=num_resamples,
        seed=seed,
        threads=threads,
    )


def evaluate_embeddings(
    query_embeddings: NDArray[np.float32],
    candidate_embeddings: NDArray[np.float32],
    data: RetrievalData,
    *,
    split: Split | str | None = None,
    level: Level | str = Level.PASSAGE,
    trained_languages: Iterable[str] | None = None,
    full_ranking: bool = False,
    k: int = 10,
    num_resamples: int = 1000,
    seed: int = 0,
    threads: int | None = None,
) -> Report:
    """Ranks embeddings exactly, and computes the metrics.

    Args:
        query_embeddings: (q, d) float32, row i for ``data.queries[i]``, of any norm.
        candidate_embeddings: (n, d) float32, row i for row i of ``data.candidates(level)``, of any norm.
        data: The data set, with exactly the queries to evaluate (see :meth:`RetrievalData.select`).
        split: Split of these queries; used in the report only.
        level: As in :func:`evaluate`.
        trained_languages: As in :func:`evaluate`.
        full_ranking: As in :func:`evaluate`.
        k: As in :func:`evaluate`.
        num_resamples: As in :func:`evaluate`.
        seed: As in :func:`evaluate`.
        threads: As in :func:`evaluate`.

    Raises:
        ValueError: If the rows do not match, an argument is out of range, or there is no query.
        TypeError: If the embeddings are not float32.
    """
    _check(k, num_resamples)
    if not data.queries:
        raise ArgumentError("data", problem=f"data set {data.name!r} has no query to evaluate")
    level = parse_member(Level, level, "level")
    trained = None if trained_languages is None else _trained(trained_languages, data.languages)
    check_rows("query_embeddings", query_embeddings, len(data.queries), "queries")
    ranker = Ranker(candidate_embeddings, data, level=level, threads=threads)
    query_ids = tuple(q.id for q in data.queries)
    ranking = Ranking(query_ids, ranker.candidate_ids, *ranker.best(query_embeddings, k))
    qrels = data.candidate_qrels(level)
    values = dict(zip(METRICS, measure(ranking, qrels), strict=True))
    if full_ranking:
        precision = average_precision(ranker, query_embeddings, query_ids, qrels)
        values = {MEAN_AVERAGE_PRECISION: precision, **values}
    languages = [*(trained or ()), *(x for x in data.languages if x not in (trained or ()))]
    estimates, averages = _summarise(values, data.queries, languages, trained, num_resamples, seed)
    return Report(
        data=data.name,
        split=None if split is None else parse_member(Split, split, "split"),
        level=level,
        num_candidates=len(ranking.candidate_ids),
        num_queries={language: sum(q.language == language for q in data.queries) for language in languages},
        trained_languages=trained,
        estimates=estimates,
        averages=averages,
        ranking=ranking,
        qrels=qrels,
    )


def measure(ranking: Ranking, qrels: Mapping[str, Mapping[str, int]]) -> NDArray[np.float64]:
    """Computes each metric for each query with ir-measures.

    ir-measures sorts by score and breaks ties by id. The scores passed to it are negated ranks, so that it keeps the
    order of the ranking.

    Args:
        ranking: At least 10 candidates per query, or all candidates.
        qrels: Query id -> candidate id -> relevance.

    Returns:
        (metrics, q) float64, in the order of ``METRICS`` and of the ranking's queries.
    """
    # Imported here: ir_measures installs a log handler at import.
    import ir_measures

    measures = {ir_measures.parse_measure(_IR_MEASURES[name]): row for row, name in enumerate(METRICS)}
    # Numbers instead of ids, so that ids may contain any character.
    number_of = {candidate: str(row) for row, candidate in enumerate(ranking.candidate_ids)}
    judged = {
        str(number): {number_of[candidate]: relevance for candidate, relevance in qrels[query].items()}
        for number, query in enumerate(ranking.query_ids)
    }
    run = {
        str(number): {str(row): float(-place) for place, row in enumerate(rows)}
        for number, rows in enumerate(ranking.rows)
    }
    values = np.full((len(METRICS), len(ranking.query_ids)), np.nan)
    for metric in ir_measures.iter_calc(list(measures), judged, run):
        values[measures[metric.measure], int(metric.query_id)] = metric.value
    if np.isnan(values).any():
        raise RuntimeError("ir-measures returned no value for a query (a bug in relkt): please report it")
    return values


def _summarise(
    values: Mapping[str, NDArray[np.float64]],
    queries: Sequence[Query],
    languages: Sequence[str],
    trained: Sequence[str] | None,
    num_resamples: int,
    seed: int,
) -> tuple[dict[str, dict[str, Estimate]], dict[str, dict[Average, Estimate]]]:
    """Estimates per language and per average, from the (q,) values of each metric."""
    row_of = {language: row for row, language in enumerate(languages)}
    questions = {parallel: column for column, parallel in enumerate(dict.fromkeys(q.parallel for q in queries))}
    language_rows = np.array([row_of[q.language] for q in queries])
    columns = np.array([questions[q.parallel] for q in queries])
    sums = np.zeros((len(values), len(languages), len(questions)))
    counts = np.zeros((len(languages), len(questions)))
    for metric_sums, metric_values in zip(sums, values.values(), strict=True):
        np.add.at(metric_sums, (language_rows, columns), metric_values)
    np.add.at(counts, (language_rows, columns), 1)
    means = sums.sum(axis=2) / counts.sum(axis=1)  # (metrics, languages)

    def over(rows: list[int]) -> list[Estimate]:
        points = means[:, rows].mean(axis=1)
        if num_resamples == 0:
            return [Estimate(float(point)) for point in points]
        asked = counts[rows].any(axis=0)
        ends = bootstrap_macro_mean(
            sums[:, rows][:, :, asked], counts[rows][:, asked], num_resamples=num_resamples, seed=seed
        )
        return [
            Estimate(float(point), None if np.isnan(low) else (float(low), float(high)))
            for point, (low, high) in zip(points, ends, strict=True)
        ]

    estimates: dict[str, dict[str, Estimate]] = {metric: {} for metric in values}
    averages: dict[str, dict[Average, Estimate]] = {metric: {} for metric in values}
    for language, row in row_of.items():
        for metric, estimate in zip(values, over([row]), strict=True):
            estimates[metric][language] = estimate
    groups = {Average.ALL: list(row_of.values())}
    if trained is not None:
        groups[Average.TRAINED] = [row_of[language] for language in trained]
        groups[Average.UNTRAINED] = [row for language, row in row_of.items() if language not in trained]
    for average in Average:
        if groups.get(average):
            for metric, estimate in zip(values, over(groups[average]), strict=True):
                averages[metric][average] = estimate
    return estimates, averages


def _select(data: RetrievalData, split: Split | str | None, languages: Iterable[str] | None) -> RetrievalData:
    if languages is not None:
        if isinstance(languages, str):
            raise ArgumentError("languages", "a list of language codes", f"the string {languages!r}")
        languages = list(languages)
    selected = data.select(split=split, languages=languages)
    if not selected.queries:
        wanted = "" if languages is None else f" in {', '.join(languages)}"
        part = "no query" if split is None else f"no {Split(split).value} query"
        raise ArgumentError("split", problem=f"data set {data.name!r} has {part}{wanted}")
    return selected


def _trained(trained: Iterable[str], evaluated: Iterable[str]) -> tuple[str, ...]:
    if isinstance(trained, str):
        raise ArgumentError("trained_languages", "a list of language codes", f"the string {trained!r}")
    return sort_languages(set(trained) & set(evaluated))


def _check(k: int, num_resamples: int, batch_size: int = 1) -> None:
    if k < _DEPTH:
        raise ArgumentError("k", f"at least {_DEPTH}, the cutoff of the metrics", k)
    if num_resamples < 0:
        raise ArgumentError("num_resamples", "0 or more", num_resamples)
    if batch_size < 1:
        raise ArgumentError("batch_size", "1 or more", batch_size)
