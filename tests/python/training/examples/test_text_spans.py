"""Spans cut from passages."""

from __future__ import annotations

import numpy as np
import pytest

from relkt.training.examples.text_spans import SPAN_WORDS, draw_span

ENGLISH = " ".join(f"w{i}" for i in range(60)) + "."
CHINESE = "".join(chr(0x4E00 + i) for i in range(60)) + "，2008 年。"


def draws(text: str, count: int = 500) -> list[str]:
    rng = np.random.default_rng(0)
    return [draw_span(text, rng) for _ in range(count)]


def test_spans_are_whole_words_of_the_text() -> None:
    words = ENGLISH.split()
    spans = [span.split() for span in draws(ENGLISH)]
    assert all(span == words[words.index(span[0]) :][: len(span)] for span in spans)
    lengths = {len(span) for span in spans}
    assert lengths == set(range(SPAN_WORDS[0], SPAN_WORDS[1] + 1))
    assert {span[0] for span in spans} >= {"w0", "w10", "w40"}
    assert any(span[-1] == "w59." for span in spans)


def test_writing_without_spaces_is_cut_too() -> None:
    spans = draws(CHINESE)
    assert all(span in CHINESE for span in spans)
    lengths = [len(span) for span in spans]
    assert min(lengths) < 20
    assert max(lengths) > 50
    assert len(set(spans)) > 100


@pytest.mark.parametrize("text", ["one", "one two  three four", " 中文 "])
def test_a_short_text_is_taken_whole(text: str) -> None:
    assert set(draws(text, 20)) == {text.strip()}


def test_the_generator_alone_decides() -> None:
    assert draws(ENGLISH) == draws(ENGLISH)
