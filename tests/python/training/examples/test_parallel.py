"""Parallel sentences of passages and their translations."""

from __future__ import annotations

from dataclasses import replace

from relkt.data.types import RetrievalData
from relkt.training.examples.parallel import parallel_sentences


def test_passages_are_cut_in_languages_with_as_many_sentences(tiny_data: RetrievalData) -> None:
    first, second = tiny_data.passages[:2]
    data = replace(
        tiny_data,
        passages=(replace(first, text="One. Two."), replace(second, text="Three.")),
        queries=(),
        qrels={},
        translations={"de": {first.id: "Eins. Zwei."}, "th": {first.id: "หนึ่ง สอง", second.id: "สาม"}},
    )
    assert parallel_sentences(data, ("en", "de", "th")) == [
        {"en": "One.", "de": "Eins."},
        {"en": "Two.", "de": "Zwei."},
        {"en": "One. Two.", "th": "หนึ่ง สอง"},
        {"en": "Three.", "th": "สาม"},
    ]
