"""TREC files of a ranking: runs and qrels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from relkt.evaluation.ranking import Ranking
from relkt.storage import atomic_file


def write_run(ranking: Ranking, path: str | Path, tag: str = "relkt") -> None:
    """Writes a ranking as a TREC run file: ``query Q0 candidate rank score tag``.

    Tools that read a run sort it by score (trec_eval in single precision, with ties by id). So each score is written at
    least one float32 step below the score before it, which keeps the order of the ranking.

    The file is complete or not written at all.

    Args:
        ranking: The ranking.
        path: The file to write.
        tag: Name of the run, one word.

    Raises:
        ValueError: If the tag is not one word.
    """
    _check_tag(tag)
    with atomic_file(path) as file:
        for query, rows, scores in zip(ranking.query_ids, ranking.rows, ranking.scores, strict=True):
            file.write(run_lines(query, [ranking.candidate_ids[row] for row in rows], scores, tag).encode())


def run_lines(query_id: str, candidate_ids: Sequence[str], scores: NDArray[np.float32], tag: str = "relkt") -> str:
    """Formats the lines of one query in a TREC run; see :func:`write_run`.

    Args:
        query_id: Id of the query.
        candidate_ids: Ids of its results, best first.
        scores: (k,) float32, best first.
        tag: Name of the run, one word.

    Raises:
        ValueError: If the tag is not one word.
    """
    _check_tag(tag)
    apart = strictly_falling(scores[None, :])[0]
    # 9 significant digits distinguish every float32 from its neighbours.
    return "".join(
        f"{_trec_id(query_id)} Q0 {_trec_id(candidate)} {place} {score:.9g} {tag}\n"
        for place, (candidate, score) in enumerate(zip(candidate_ids, apart, strict=True), start=1)
    )


def write_qrels(query_ids: Sequence[str], qrels: Mapping[str, Mapping[str, int]], path: str | Path) -> None:
    """Writes the judgements of some queries as a TREC qrels file: ``query 0 candidate relevance``.

    The file is complete or not written at all.

    Args:
        query_ids: Ids of the queries, in the order of the file.
        qrels: Query id -> candidate id -> relevance.
        path: The file to write.
    """
    with atomic_file(path) as file:
        for query in query_ids:
            for candidate, relevance in qrels[query].items():
                file.write(f"{_trec_id(query)} 0 {_trec_id(candidate)} {relevance}\n".encode())


def strictly_falling(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lowers scores where needed, so that each is at least one float32 step below the score before it.

    Args:
        scores: (q, k) float32, best first in each row.
    """
    out = scores.copy()
    for column in range(1, out.shape[1]):
        below = np.nextafter(out[:, column - 1], np.float32(-np.inf))
        out[:, column] = np.minimum(out[:, column], below)
    return out


def _check_tag(tag: str) -> None:
    if tag.split() != [tag]:
        raise ValueError(f"tag: expected one word, got {tag!r}")


def _trec_id(identifier: str) -> str:
    """Id as one word: white space and the percent sign are percent-encoded, as in URLs."""
    return "".join(quote(c, safe="") if c.isspace() or c == "%" else c for c in identifier)
