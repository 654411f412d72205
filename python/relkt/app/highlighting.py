"""The sentence of a passage that answers a question best."""

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
"""A passage with more sentences has no best one: encoding them would take longer than the search."""
MAX_SENTENCES_IN_ALL = 400
"""Sentences encoded for one question; the passages behind them have no best one."""


@dataclass(frozen=True)
class BestSentence:
    """A sentence of a passage.

    Args:
        start: The first of its characters in the passage's text.
        end: One past the last.
        score: Cosine of question and sentence, in [-1, 1].
    """

    start: int
    end: int
    score: float


def sentence_spans(text: str, language: str | None = None) -> list[tuple[int, int]]:
    """Where the sentences of a text begin and end, without the space around them.

    Args:
        text: The text.
        language: Code of its language, which decides about abbreviations. Default: English.
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
    """The sentence of each passage that is nearest to a question.

    Args:
        passages: The passages.
        question: (d,) float32, its unit embedding.
        encoder: The encoder that embedded it.
        prompt: Put before each sentence. Default: the encoder's own for passages.

    Returns:
        One for each passage; None where there is one sentence only, more than :data:`MAX_SENTENCES`, or
        passages before it have :data:`MAX_SENTENCES_IN_ALL`.
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
