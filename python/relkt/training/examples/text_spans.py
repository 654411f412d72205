"""Sentences and spans of texts. Spans of passages serve as pseudo-questions."""

from __future__ import annotations

import re

import numpy as np

SPAN_WORDS = (5, 25)
"""Minimum and maximum number of words of a span; a shorter text is used whole."""

# Thai, Lao, Burmese, Khmer, kana and Chinese have no spaces between words: up to three characters count as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_UNSPACED}]{{1,3}}|[^\\s{_UNSPACED}]+")


_SENTENCE_END = re.compile("(?<=[.!?;\u0964])\\s+|(?<=[\u3002\uff01\uff1f])\\s*")


def sentences(text: str) -> list[str]:
    """A text's sentences. They end with . ! ? ; or the danda, followed by a space, or with \u3002 \uff01 \uff1f.

    This is a heuristic to align a text with its translation. An abbreviation wrongly ends a sentence, but it mostly
    does so in both languages.
    """
    return [part for part in _SENTENCE_END.split(text.strip()) if part]


def draw_span(text: str, rng: np.random.Generator) -> str:
    """A random span of consecutive words of a text.

    First the length of the span is drawn uniformly from the range :data:`SPAN_WORDS`, then its position.

    Args:
        text: The text; not blank.
        rng: Generator; two numbers are drawn.

    Returns:
        A substring of the text.
    """
    words = [match.span() for match in _WORD.finditer(text)]
    fewest, most = SPAN_WORDS
    length = min(int(rng.integers(fewest, most + 1)), len(words))
    start = int(rng.integers(len(words) - length + 1))
    return text[words[start][0] : words[start + length - 1][1]]
