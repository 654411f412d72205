"""Sentences of passages, and the best sentence."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from relkt.app.highlighting import MAX_SENTENCES, MAX_SENTENCES_IN_ALL, best_sentences, sentence_spans
from relkt.retrieval import IndexedPassage, Retriever


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["Dr. King was born in the U.S. in 1929.", 'He asked: "Really?"', "It cost 3.5 million."]),
        (None, ["One.", "Two!", "Three"]),
        ("de-AT", ["Das sind z. B. Äpfel.", "Und Birnen."]),
        ("ar", ["القاهرة عاصمة مصر.", "هل هي كبيرة؟", "نعم."]),
        ("hi", ["दिल्ली भारत की राजधानी है।", "यह बड़ी है।"]),
        ("en", ["😀 Hello.", "😀 Goodbye."]),
    ],
)
def test_spans(language: str | None, sentences: list[str]) -> None:
    text = "\n " + "  ".join(sentences) + " \n"
    assert [text[start:end] for start, end in sentence_spans(text, language)] == sentences


def test_spans_without_spaces() -> None:
    text = "北京是中国的首都。它很大！是吗？"
    assert [text[start:end] for start, end in sentence_spans(text, "zh")] == [
        "北京是中国的首都。",
        "它很大！",
        "是吗？",
    ]


def test_best_sentence_has_the_highest_score(retriever: Retriever) -> None:
    passages = [passage for passage in retriever.passages if passage.id in ("tides-1", "ice-1", "nil-1")]
    question = retriever.encode(["ทำไมน้ำแข็งลอยน้ำ"])[0]
    best = best_sentences(passages, question, retriever.encoder)
    for passage, sentence in zip(passages, best, strict=True):
        assert sentence is not None
        texts = [passage.text[start:end] for start, end in sentence_spans(passage.text, passage.language)]
        scores = retriever.encoder.encode_document(texts) @ question  # mUSE's are unit vectors
        assert passage.text[sentence.start : sentence.end] == texts[int(np.argmax(scores))]
        assert sentence.score == pytest.approx(max(scores), abs=1e-5)
    ice = passages[1].text
    assert best[1] is not None
    assert ice[best[1].start : best[1].end].startswith("Water expands")


def test_single_sentences_are_not_marked(retriever: Retriever) -> None:
    question = retriever.encode(["ice"])[0]
    texts = ["One sentence only.", "x. " * (MAX_SENTENCES + 1), "Ice floats. Bread rises."]
    passages = [IndexedPassage(id=str(number), text=text) for number, text in enumerate(texts)]
    best = best_sentences(passages, question, retriever.encoder)
    assert best[:2] == [None, None]
    assert best[2] is not None
    assert (best[2].start, best[2].end) == (0, 11)
    assert best_sentences(passages[:1], question, retriever.encoder) == [None]
    assert best_sentences([], question, retriever.encoder) == []


def test_the_number_of_sentences_is_limited(retriever: Retriever) -> None:
    text = " ".join(f"Sentence number {number}." for number in range(MAX_SENTENCES))
    passages = [IndexedPassage(str(row), text) for row in range(MAX_SENTENCES_IN_ALL // MAX_SENTENCES + 1)]
    seen: list[str] = []

    class Encoder:
        training = False

        def __getattr__(self, name: str) -> object:
            return getattr(retriever.encoder, name)

        def encode_document(self, texts: list[str], **_: object) -> object:
            seen.extend(texts)
            return np.ones((len(texts), 512), dtype=np.float32)

    question = np.ones(512, dtype=np.float32)
    best = best_sentences(passages, question, Encoder())  # type: ignore[arg-type]
    assert len(seen) == MAX_SENTENCES_IN_ALL
    assert [sentence is None for sentence in best] == [False] * (len(passages) - 1) + [True]
