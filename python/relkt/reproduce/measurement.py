"""The measurement of one run: every metric for every test question, and the conditions of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relkt.data import Level, RetrievalData
from relkt.evaluation import METRICS, Ranking, measure, rank
from relkt.training.examples.negatives import BM25Index, split_words

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Values = dict[Level, NDArray[np.float64]]
"""Level -> (metrics, q): each metric for each query, in the order of ``METRICS`` and of the queries."""

_DEPTH = 10  # number of ranks that the deepest metric needs


@dataclass(frozen=True)
class StageResult:
    """The results of a training run before its first stage, or after a stage.

    Args:
        name: ``"before"``, or the stage.
        dev_p1: P@1 of the kept weights on the dev questions, averaged over the trained languages; None if the run did
            not evaluate these weights.
        test: Level -> language -> P@1 on the test questions.
    """

    name: str
    dev_p1: float | None
    test: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Measurement:
    """The measurement of one run.

    Args:
        languages: Languages of the test questions that the system answers.
        values: Level -> (metrics, q): each metric for each test question in these languages, in the order of the data
            set.
        seconds: Wall time of loading, training and evaluation. Work lost to a kill is not counted.
        finished: End of the run, UTC, ISO 8601.
        machine: The machine: ``cpu``, ``cores``, ``threads``, ``gpu`` (None without one), ``versions``.
        curve: The dev evaluations of a training run, as (optimizer steps since its start, P@1).
        stages: The results of a training run before its first stage and after each stage.
    """

    languages: tuple[str, ...]
    values: Values = field(repr=False)
    seconds: float
    finished: str
    machine: Mapping[str, Any]
    curve: tuple[tuple[int, float], ...] = ()
    stages: tuple[StageResult, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "languages": list(self.languages),
            "seconds": self.seconds,
            "finished": self.finished,
            "machine": dict(self.machine),
            "curve": [list(point) for point in self.curve],
            "stages": [{"name": s.name, "dev_p1": s.dev_p1, "test": s.test} for s in self.stages],
            "values": {
                level.value: dict(zip(METRICS, values.tolist(), strict=True)) for level, values in self.values.items()
            },
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Measurement:
        """Restore a measurement from the values of :meth:`to_dict`.

        Raises:
            ValueError: If a value is missing or invalid.
        """
        try:
            return cls(
                languages=tuple(content["languages"]),
                values={
                    Level(level): np.array([by_metric[metric] for metric in METRICS], dtype=np.float64)
                    for level, by_metric in content["values"].items()
                },
                seconds=float(content["seconds"]),
                finished=str(content["finished"]),
                machine=dict(content["machine"]),
                curve=tuple((int(step), float(p1)) for step, p1 in content["curve"]),
                stages=tuple(StageResult(s["name"], s["dev_p1"], s["test"]) for s in content["stages"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"content: expected the values of a measurement, got an error: {error!r}") from error


def measure_encoder(model: SentenceTransformer, test: RetrievalData, *, batch_size: int) -> Values:
    """Measure an encoder at every level. Each text is encoded once.

    Args:
        model: The encoder.
        test: The data set with the queries to measure.
        batch_size: Texts encoded at once.
    """
    from relkt.encoders import encode_passages, encode_queries

    queries = encode_queries(model, [q.text for q in test.queries], batch_size=batch_size)
    embedded = {
        level: encode_passages(model, test.candidates(level).texts, batch_size=batch_size)
        for level in (Level.PASSAGE, Level.DOCUMENT)
    }
    embedded[Level.BEST_PASSAGE] = embedded[Level.PASSAGE]
    return {
        level: measure(rank(queries, passages, test, level=level, k=_DEPTH), test.candidate_qrels(level))
        for level, passages in embedded.items()
    }


def measure_bm25(test: RetrievalData) -> Values:
    """Measure BM25 at every level. Candidates of equal score keep their order, as for encoders.

    Args:
        test: The data set with the queries to measure, in the language of the passages.
    """
    return {level: measure(rank_bm25(test, level), test.candidate_qrels(level)) for level in Level}


def rank_bm25(test: RetrievalData, level: Level) -> Ranking:
    """The ten best candidates of each query by BM25 (fewer if there are fewer candidates).

    Args:
        test: The queries and candidates.
        level: The kind of candidates. At ``Level.BEST_PASSAGE``, documents are ranked by their best passage.
    """
    candidates = test.candidates(level)
    index = BM25Index(candidates.texts)
    scores = np.array([index.scores(words) for words in split_words([q.text for q in test.queries])])
    order = np.argsort(-scores, axis=1, kind="stable")
    ids = candidates.ids
    if level is Level.BEST_PASSAGE:
        ids = tuple(dict.fromkeys(candidates.documents))
        row_of = {document: row for row, document in enumerate(ids)}
        document_rows = [row_of[document] for document in candidates.documents]
        # A document has the rank and the score of its best passage.
        first = [_first_of_each(passages, document_rows) for passages in order.tolist()]
        rows = np.array([[document_rows[passage] for passage in passages] for passages in first], dtype=np.int64)
        order = np.array(first, dtype=np.int64)
    else:
        rows = order
    depth = min(_DEPTH, len(ids))
    best = np.take_along_axis(scores, order[:, :depth], axis=1).astype(np.float32)
    return Ranking(tuple(q.id for q in test.queries), ids, rows[:, :depth], best)


def _first_of_each(passages: list[int], document_rows: list[int]) -> list[int]:
    """The first passage of each document, from passages in ranked order."""
    first: dict[int, int] = {}
    for passage in passages:
        first.setdefault(document_rows[passage], passage)
    return list(first.values())
