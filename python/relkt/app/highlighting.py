"""The highest-scoring sentence of a passage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentencex import get_sentence_boundaries

from relkt.encoders import encode_passages
from relkt.retrieval import IndexedPassage

MAX_SENTENCES = 100
"""Passages with more sentences are not highlighted: encoding them would take longer than the search."""
MAX_SENTENCES_IN_ALL = 400
"""Maximum number of sentences encoded per question; further passages are not highlighted."""


@dataclass(frozen=True)
class BestSentence:
    """A sentence of a passage.

    Args:
        start: Index of its first character in the passage's text.
        end: Index after its last character.
        score: Cosine of question and sentence, in [-1, 1].
    """

    start: int
    end: int
    score: float


def sentence_spans(text: str, language: str | None = None) -> list[tuple[int, int]]:
    """Start and end of each sentence of a text, without surrounding white space.

    Args:
        text: The text.
        language: Code of its language, which determines the known abbreviations. Default: English.
    """
    spans = []
    for boundary in get_sentence_boundaries((language or "en").split("-")[0].lower(), text):
        start, end = boundary["start_index"], boundary["end_index"]
        part = text[start:end]
        if part.strip():
            spans.append((end - len(part.lstrip()), start + len(part.rstrip())))
    return spans


def best_sentences(
    passages: Sequence[IndexedPassage],
    question: NDArray[np.float32],
    encoder: SentenceTransformer,
    *,
    prompt: str | None = None,
) -> list[BestSentence | None]:
    """The highest-scoring sentence of each passage.

    Args:
        passages: The passages.
        question: (d,) float32, unit-length embedding of the question.
        encoder: The encoder that embedded the question.
        prompt: Text to put before each sentence. Default: the encoder's passage prompt.

    Returns:
        A sentence per passage. It is None if the passage has a single sentence or more than :data:`MAX_SENTENCES`, or
        if this passage and those before it together have more than :data:`MAX_SENTENCES_IN_ALL` sentences to encode.
    """
    spans = [sentence_spans(passage.text, passage.language) for passage in passages]
    spans = [found if 1 < len(found) <= MAX_SENTENCES else [] for found in spans]
    in_all = accumulate(len(found) for found in spans)
    spans = [found if total <= MAX_SENTENCES_IN_ALL else [] for found, total in zip(spans, in_all, strict=True)]
    texts = [passage.text[start:end] for passage, found in zip(passages, spans, strict=True) for start, end in found]
    if not texts:
        return [None] * len(passages)
    scores = iter((encode_passages(encoder, texts, prompt=prompt) @ question).tolist())
    best: list[BestSentence | None] = []
    for found in spans:
        candidates = [BestSentence(start, end, next(scores)) for start, end in found]
        best.append(max(candidates, key=lambda sentence: sentence.score, default=None))
    return best
