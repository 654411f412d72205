"""Spans of passages, which stand in for questions."""

from __future__ import annotations

import re

import numpy as np

SPAN_WORDS = (5, 25)
"""The fewest and the most words of a span; a shorter text is taken whole."""

# Thai, Lao, Burmese, Khmer, kana and Chinese characters are written without spaces: runs of three count as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_UNSPACED}]{{1,3}}|[^\\s{_UNSPACED}]+")


_SENTENCE_END = re.compile("(?<=[.!?;\u0964])\\s+|(?<=[\u3002\uff01\uff1f])\\s*")


def sentences(text: str) -> list[str]:
    """A text's sentences, by their last marks: . ! ? ; and a space, the danda and a space, or \u3002 \uff01 \uff1f.

    A rule of thumb, for the same text in two languages: abbreviations end a sentence too, mostly in both.
    """
    return [part for part in _SENTENCE_END.split(text.strip()) if part]


def draw_span(text: str, rng: np.random.Generator) -> str:
    """Some consecutive words of a text.

    Their number is drawn from :data:`SPAN_WORDS`, every number being as likely, and then their place.

    Args:
        text: Not blank.
        rng: Two numbers are drawn from it.

    Returns:
        A part of the text, as it stands there.
    """
    words = [match.span() for match in _WORD.finditer(text)]
    fewest, most = SPAN_WORDS
    length = min(int(rng.integers(fewest, most + 1)), len(words))
    start = int(rng.integers(len(words) - length + 1))
    return text[words[start][0] : words[start + length - 1][1]]
