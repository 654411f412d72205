"""Answers questions, for the page and the API."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relkt.app.filters import Filter, filters_of
from relkt.app.highlighting import BestSentence, best_sentences
from relkt.app.languages import LanguageGuess, LanguageGuesser
from relkt.app.limits import BoundedLock, Limits
from relkt.encoders.origin import is_local
from relkt.retrieval import RetrievedPassage, Retriever, Where

DEFAULT_RESULTS = 10
"""Number of results if a request does not set it."""


@dataclass(frozen=True)
class Seconds:
    """Seconds that each part of an answer took; the wait for earlier questions is not counted.

    Args:
        encoding: Embedding the question.
        search: Searching the index, and reading the passages found.
        highlighting: Finding the best sentences; None if not requested.
    """

    encoding: float
    search: float
    highlighting: float | None = None


@dataclass(frozen=True)
class Answer:
    """The ranked passages of a question.

    Args:
        question: The question.
        language: Its detected language.
        results: The passages, best first.
        candidates: Number of passages in the index.
        seconds: Durations of the parts.
        best: The best sentence of each passage, or None; empty if not requested.
        embedding: (d,) float32, embedding of the question.
    """

    question: str
    language: LanguageGuess
    results: Sequence[RetrievedPassage]
    candidates: int
    seconds: Seconds
    best: Sequence[BestSentence | None] = ()
    embedding: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32), repr=False, compare=False)


class SearchService:
    """Answers questions from one index, one at a time.

    Args:
        retriever: The index, with its passages and encoder.
        limits: Limits of a request.
    """

    def __init__(self, retriever: Retriever, *, limits: Limits | None = None) -> None:
        self.retriever = retriever
        self.limits = limits or Limits()
        self.filters: list[Filter] = filters_of(retriever.passages)
        self._guesser = LanguageGuesser()
        # An encoder is not thread-safe, and a search uses every core.
        self._lock = BoundedLock(self.limits.waiting)
        self._passage_prompt: str | None = retriever.passages.notes.get("passage_prompt")

    @property
    def name(self) -> str:
        """Name of the index: its file name without suffix."""
        return self.retriever.path.stem if self.retriever.path else "index"

    @property
    def encoder_name(self) -> str | None:
        """Name of the encoder; for a folder, only the end of its path, because the rest is private."""
        name = self.retriever.encoder_name
        if name is None or not is_local(name):
            return name
        path = Path(name)
        return f"{path.parent.name}/{path.name}" if path.name == "model" else path.name  # the model of a run

    def warm_up(self) -> None:
        """Load the encoder and use it once, so that the first question is as fast as later ones.

        Raises:
            ValueError: See :attr:`relkt.Retriever.encoder`.
            OSError: If the encoder cannot be loaded.
        """
        self.highlight(self.search("?", 1))

    def search(self, question: str, k: int = DEFAULT_RESULTS, *, where: Where | None = None) -> Answer:
        """The passages with the highest scores.

        Args:
            question: The question, in any language.
            k: Number of passages; fewer are returned if fewer match ``where``.
            where: See :meth:`relkt.Retriever.search`.

        Returns:
            The answer, without best sentences.

        Raises:
            ValueError: If the question is blank or too long, ``k`` is out of range, or ``where`` has an unknown column
                or a value of the wrong type.
            BusyError: If too many questions are waiting.
        """
        question = question.strip()
        if not question:
            raise ValueError("question: expected a text, got a blank one")
        if len(question) > (longest := self.limits.question_characters):
            raise ValueError(f"question: expected at most {longest:,} characters, got {len(question):,}")
        if not 1 <= k <= self.limits.results:
            raise ValueError(f"k: expected 1 to {self.limits.results}, got {k}")
        language = self._guesser.guess(question)
        with self._lock.hold():
            start = time.perf_counter()
            embeddings = self.retriever.encode([question])
            encoded = time.perf_counter()
            try:
                results = self.retriever.search_embeddings(embeddings, k, where=where or None)[0]
            except (TypeError, OverflowError) as error:
                # A value out of the range of its column's type.
                raise ValueError(f"where: {error}") from error
            end = time.perf_counter()
        return Answer(
            question,
            language,
            results,
            len(self.retriever),
            Seconds(encoded - start, end - encoded),
            embedding=embeddings[0],
        )

    def highlight(self, answer: Answer) -> Answer:
        """The answer, with the best sentence of each passage added.

        Args:
            answer: An answer of :meth:`search`.

        Raises:
            BusyError: If too many questions are waiting.
        """
        passages = [result.passage for result in answer.results]
        with self._lock.hold():
            start = time.perf_counter()
            best = best_sentences(passages, answer.embedding, self.retriever.encoder, prompt=self._passage_prompt)
            seconds = time.perf_counter() - start
        return replace(answer, best=best, seconds=replace(answer.seconds, highlighting=seconds))
