"""The character map, compared with the sentencepiece library."""

from __future__ import annotations

import random
import unicodedata

import pytest
import sentencepiece

from relkt.encoders import MuseEncoder
from relkt.encoders.charsmap import Charsmap
from relkt.encoders.muse_tokenizer import charsmap_of
from relkt.encoders.muse_weights import resource_folder


@pytest.fixture(scope="module")
def charsmap(muse) -> Charsmap:
    found = charsmap_of(muse.tokenizer)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def processor() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(resource_folder() / "sp.model"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("ＡＢ１", "AB1"),
        ("e\u0301", "é"),
        ("e\u0323\u0302", "ệ"),  # the longest match, not the first
        ("ｶﾞ", "ガ"),
        ("\u1112\u1161\u11ab", "한"),
        ("ﻼ\u064e", "لا\u064e"),
        ("½", "1⁄2"),
        ("plain", "plain"),
        ("😀", "😀"),
        ("", ""),
    ],
)
def test_takes_the_longest_match(charsmap, text, normalized):
    assert charsmap.normalize(text) == normalized


@pytest.mark.slow
def test_normalizes_as_the_library_does(charsmap, processor):
    rng = random.Random(5)
    alphabet = [
        "a",
        "e",
        "ﬁ",
        "Ａ",
        "ﷲ",
        "ﻻ",
        "カ",
        "ｶ",
        "한",
        "ㄱ",
        "ก",
        "\u0e33",
        "क",
        *map(chr, range(0x300, 0x330)),
    ]
    alphabet += [*map(chr, range(0x300, 0x330)), *map(chr, range(0x64B, 0x656)), "\u1100", "\u1161", "\u11a8"]
    alphabet += ["ﾞ", "ﾟ", "\u093c", "\u200d", "\u0345"]
    for _ in range(3000):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 8)))
        # The library also marks spaces and the start; the map does not.
        expected = processor.normalize(text).replace("▁", "")
        assert charsmap.normalize(text).replace(" ", "") == expected, ascii(text)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["plain English", "Grüße aus Köln", "tiếng Việt", "今天天气很好", "สวัสดีครับ", "हिन्दी"])
def test_ordinary_text_needs_no_repair(charsmap, text):
    assert not charsmap.needs_repair(text)
    assert not charsmap.needs_repair(text)  # from the cache


@pytest.mark.slow
@pytest.mark.parametrize("text", [unicodedata.normalize("NFD", "tiếng Việt"), "ｶﾞ", "ﻼ\u064e", "\u00a0\u0301"])
def test_finds_the_texts_that_need_repair(charsmap, text):
    assert charsmap.needs_repair(text)


@pytest.mark.parametrize("blob", [b"", b"\x00\x00\x00\x00", b"\x08\x00\x00\x00abcd", b"\x03\x00\x00\x00abcdef"])
def test_a_truncated_blob_is_refused(blob):
    with pytest.raises(ValueError, match=f"got {len(blob)} bytes"):
        Charsmap(blob)


@pytest.mark.slow
def test_the_cache_of_clusters_is_bounded(charsmap, monkeypatch):
    monkeypatch.setattr("relkt.encoders.charsmap._MAX_CLUSTERS", 10)
    for c in range(0x4E00, 0x4E40):
        charsmap.needs_repair(chr(c) + "\u0f71")
    assert len(charsmap._agreeing) <= 11


def test_a_tokenizer_without_map_needs_no_repair(tiny_encoder: MuseEncoder):
    assert charsmap_of(tiny_encoder.tokenizer) is None
