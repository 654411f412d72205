"""Questions to answers: what the page and the API share."""

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
from relkt.app.limits import Limits, Turns
from relkt.encoders.origin import is_local
from relkt.retrieval import RetrievedPassage, Retriever, Where

DEFAULT_RESULTS = 10
"""Results of a question that names no number."""


@dataclass(frozen=True)
class Seconds:
    """How long parts of an answer took, without waiting for earlier questions.

    Args:
        encoding: Embedding the question.
        search: Searching the index, and reading the passages found.
        highlighting: Finding the best sentences; None if they were not asked for.
    """

    encoding: float
    search: float
    highlighting: float | None = None


@dataclass(frozen=True)
class Answer:
    """The ranked passages of a question.

    Args:
        question: The question.
        language: Its language, guessed.
        results: The passages, best first.
        candidates: How many passages the index has.
        seconds: How long it took.
        best: The best sentence of each passage where it has one; empty if they were not asked for.
        embedding: (d,) float32, the question's.
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
        limits: What one may ask.
    """

    def __init__(self, retriever: Retriever, *, limits: Limits | None = None) -> None:
        self.retriever = retriever
        self.limits = limits or Limits()
        self.filters: list[Filter] = filters_of(retriever.passages)
        self._guesser = LanguageGuesser()
        # An encoder is not safe to call from two threads, and a search uses every core by itself.
        self._turns = Turns(self.limits.waiting)
        self._passage_prompt: str | None = retriever.passages.notes.get("passage_prompt")

    @property
    def name(self) -> str:
        """What the index is called: its file's name without the ending."""
        return self.retriever.path.stem if self.retriever.path else "index"

    @property
    def encoder_name(self) -> str | None:
        """What the encoder is called; of one in a folder the end of its path, as the rest is nobody's business."""
        name = self.retriever.encoder_name
        if name is None or not is_local(name):
            return name
        path = Path(name)
        return f"{path.parent.name}/{path.name}" if path.name == "model" else path.name  # a run has its model there

    def warm_up(self) -> None:
        """Load the encoder and use it once, so that the first question takes no longer than others.

        Raises:
            ValueError: As :attr:`relkt.Retriever.encoder`.
            OSError: If the encoder cannot be loaded.
        """
        self.highlight(self.search("?", 1))

    def search(self, question: str, k: int = DEFAULT_RESULTS, *, where: Where | None = None) -> Answer:
        """The passages nearest to a question.

        Args:
            question: The question, in any language.
            k: How many passages; fewer where fewer fit.
            where: As for :meth:`relkt.Retriever.search`.

        Returns:
            The answer, without best sentences.

        Raises:
            ValueError: If the question is blank or too long, ``k`` is out of range, or there is no such column or
                value in ``where``.
            BusyError: If too many questions wait.
        """
        question = question.strip()
        if not question:
            raise ValueError("question: expected a text, got a blank one")
        if len(question) > (longest := self.limits.question_characters):
            raise ValueError(f"question: expected at most {longest:,} characters, got {len(question):,}")
        if not 1 <= k <= self.limits.results:
            raise ValueError(f"k: expected 1 to {self.limits.results}, got {k}")
        language = self._guesser.guess(question)
        with self._turns.turn():
            start = time.perf_counter()
            embeddings = self.retriever.encode([question])
            encoded = time.perf_counter()
            try:
                results = self.retriever.search_embeddings(embeddings, k, where=where or None)[0]
            except (TypeError, OverflowError) as error:
                # A value that the type of its column cannot hold.
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
        """The same answer with the best sentence of each passage.

        Args:
            answer: What :meth:`search` gave.

        Raises:
            BusyError: If too many questions wait.
        """
        passages = [result.passage for result in answer.results]
        with self._turns.turn():
            start = time.perf_counter()
            best = best_sentences(passages, answer.embedding, self.retriever.encoder, prompt=self._passage_prompt)
            seconds = time.perf_counter() - start
        return replace(answer, best=best, seconds=replace(answer.seconds, highlighting=seconds))
