"""The tokenizer, compared with the sentencepiece library on the same model."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from relkt.encoders.muse_tokenizer import read_sentencepiece, unigram_tokenizer
from relkt.encoders.muse_weights import resource_folder

TEXTS = [
    "How many people live in Warsaw?",
    "¿Cuántas personas viven en Varsovia?",
    "  two  spaces,\ttab\nand line\r\n ",
    "كم عدد سكان وارسو؟",
    "لِلمدرّسَةٌ",
    "有多少人住在华沙？",
    "ワルシャワには何人ﾃﾞすか",
    "바르샤바 인구",
    "Сколько людей живёт в Варшаве?",
    "วอร์ซอมีประชากรกี่คน น้ำ",
    "वारसा में कितने लोग रहते हैं?",
    "Πόσοι άνθρωποι ζουν στη Βαρσοβία;",
    "Có bao nhiêu người sống ở Warszawa?",
    "🙂🙂 👩‍👩‍👧 x",
    "½ ﬁne Ⅷ № １２３",
    "<s> is not a token </s>, <unk> neither",
    "extra_token_id_1",
    "▁ marks ▁▁spaces",
    "\u200b \u200f\ufeff\u00a0\x00\x0b\x85",
    "",
    "   ",
]


@pytest.fixture(scope="module")
def processor() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(resource_folder() / "sp.model"))


def expected_ids(processor: sentencepiece.SentencePieceProcessor, text: str) -> list[int]:
    return [1, *processor.encode(text), 2]


@pytest.mark.slow
@pytest.mark.parametrize("form", [None, "NFC", "NFD", "NFKD"])
def test_equals_the_library(muse, processor, form):
    texts = TEXTS if form is None else [unicodedata.normalize(form, text) for text in TEXTS]
    for text, ids in zip(texts, muse[0].tokenize_texts(texts), strict=True):
        assert ids == expected_ids(processor, text), ascii(text)


@pytest.mark.slow
def test_equals_the_library_on_every_character(muse, processor):
    # Every third code point of the first two planes, alone and before a letter.
    texts = [f"{c}{b}" for n in range(0, 0x20000, 3) if not 0xD800 <= n < 0xE000 for c in [chr(n)] for b in ("", "a")]
    for text, ids in zip(texts, muse[0].tokenize_texts(texts), strict=True):
        assert ids == expected_ids(processor, text), ascii(text)


@pytest.mark.slow
def test_equals_the_library_on_xquad(muse, processor):
    folder = os.environ.get("RELKT_XQUAD")
    if not folder:
        pytest.skip("RELKT_XQUAD is not set to a folder with XQuAD")
    texts = []
    for file in sorted(Path(folder).glob("xquad.*.json")):
        for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                texts += [paragraph["context"], *(qa["question"] for qa in paragraph["qas"])]
    assert len(texts) == 12 * (240 + 1190)
    different = [
        text
        for text, ids in zip(texts, muse[0].tokenize_texts(texts), strict=True)
        if ids != expected_ids(processor, text)
    ]
    assert different == []


@pytest.mark.slow
def test_a_run_of_unknown_characters_is_one_token(muse):
    assert muse[0].tokenize_texts(["\u0d05\u0d06\u0d07", "\u0d05"]) == [[1, 6, 0, 2], [1, 6, 0, 2]]


def test_the_best_segmentation_wins():
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁a", -1.0), ("b", -1.0), ("▁", -1.0), ("ab", -1.5)]
    # "▁ab": ▁a + b scores -2, ▁ + ab -2.5.
    assert unigram_tokenizer(pieces).encode("ab").ids == [1, 3, 4, 2]


def test_a_model_of_another_type_is_refused(tmp_path):
    proto = sentencepiece_model_pb2.ModelProto()
    proto.trainer_spec.model_type = proto.trainer_spec.BPE
    (tmp_path / "bpe.model").write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=r"bpe\.model: expected a unigram model"):
        read_sentencepiece(tmp_path / "bpe.model")
