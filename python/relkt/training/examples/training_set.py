"""Training questions, their positives, and the candidates that are never their negatives."""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from relkt.data.types import Candidates, Level, Query, RetrievalData, Split

Rows: TypeAlias = NDArray[np.int64]


class TrainingSet:
    """The training questions of a data set in some languages, with their positives among the candidates.

    Args:
        data: The data set; the queries of its train split are used.
        languages: Languages of the questions, ISO 639-1 codes.
        level: Whether candidates are passages or documents.

    Attributes:
        data: The data set.
        languages: The languages.
        level: The level.
        queries: The questions, in the order of the data set.
        in_english: ``parallel`` -> text of the English training question, even if English is not in ``languages``.
        english: The English translation of each question, or the question itself if it has no translation.
        without_english: Number of questions in other languages that have no English translation.
        candidates: The candidate texts, ``n`` of them.
        groups: Document number of each candidate, shape ``(n,)``, int64.
        pairs: Question row and candidate row of every positive, shape ``(m, 2)``, int64, by question.

    Raises:
        ValueError: If there is no training question in one of the languages.
    """

    def __init__(self, data: RetrievalData, *, languages: tuple[str, ...], level: Level) -> None:
        self.data = data
        self.languages = languages
        self.level = level
        train = data.select(split=Split.TRAIN)
        self.queries: tuple[Query, ...] = tuple(q for q in train.queries if q.language in languages)
        if missing := sorted(set(languages) - {q.language for q in self.queries}):
            raise ValueError(
                f"data: data set {data.name!r} has no query in {', '.join(missing)} in the train split; expected at "
                "least one in each training language"
            )
        self.in_english = {q.parallel: q.text for q in train.queries if q.language == "en"}
        self.english: tuple[str, ...] = tuple(self.in_english.get(q.parallel, q.text) for q in self.queries)
        self.without_english = sum(q.language != "en" and q.parallel not in self.in_english for q in self.queries)
        self.candidates: Candidates = data.candidates(level)
        row_of = {candidate: row for row, candidate in enumerate(self.candidates.ids)}
        numbers: dict[str, int] = {}
        self.groups: Rows = np.array(
            [numbers.setdefault(document, len(numbers)) for document in self.candidates.documents], dtype=np.int64
        )
        qrels = data.candidate_qrels(level)
        self._positives: list[tuple[int, ...]] = [
            tuple(sorted(row_of[c] for c, relevance in qrels[q.id].items() if relevance > 0)) for q in self.queries
        ]
        self.pairs: Rows = np.array(
            [(query, row) for query, rows in enumerate(self._positives) for row in rows], dtype=np.int64
        ).reshape(-1, 2)
        self._blocked: dict[tuple[int, ...], Rows] = {}

    @cached_property
    def _rows_of_group(self) -> list[list[int]]:
        rows: list[list[int]] = [[] for _ in range(int(self.groups.max()) + 1)]
        for row, group in enumerate(self.groups.tolist()):
            rows[group].append(row)
        return rows

    @cached_property
    def translations(self) -> dict[str, dict[int, str]]:
        """Language -> candidate row -> the candidate's translation, if the data set has one.

        A document's translation joins its passages' translations; all of these must exist.
        """
        parts: dict[str, list[str]] = {}
        for passage in self.data.passages:
            parts.setdefault(passage.id if self.level is Level.PASSAGE else passage.document, []).append(passage.id)
        return {
            language: {
                row: "\n\n".join(texts[part] for part in parts[candidate])
                for row, candidate in enumerate(self.candidates.ids)
                if all(part in texts for part in parts[candidate])
            }
            for language, texts in self.data.translations.items()
            if language in self.languages
        }

    @cached_property
    def _rows_of_text(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, text in enumerate(self.candidates.texts):
            rows.setdefault(text, []).append(row)
        return rows

    def positives(self, query: int) -> tuple[int, ...]:
        """Candidate rows of the positives of a question, ascending."""
        return self._positives[query]

    def copies(self, query: int) -> set[int]:
        """Rows of all candidates whose text equals that of a positive of a question, the positives included."""
        return {
            row for positive in self._positives[query] for row in self._rows_of_text[self.candidates.texts[positive]]
        }

    def check_negatives(self) -> None:
        """Check that at least one question has a possible negative.

        Raises:
            ValueError: If no question has a candidate that may be its negative.
        """
        if all(len(self.blocked(query)) == len(self.groups) for query in range(len(self.queries))):
            raise ValueError(
                f"data: expected candidates of other documents as negatives at level {self.level.value}, got none"
            )

    def blocked(self, query: int) -> Rows:
        """Candidate rows that are never negatives of a question, ascending.

        These are the question's positives, all candidates from the documents of the positives, and all candidates whose
        text equals that of a positive.
        """
        positives = self._positives[query]
        if positives not in self._blocked:
            rows: set[int] = set()
            for row in positives:
                rows.update(self._rows_of_group[int(self.groups[row])])
            rows |= self.copies(query)
            self._blocked[positives] = np.array(sorted(rows), dtype=np.int64)
        return self._blocked[positives]
