"""New pieces for mUSE, and their embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.encoders import MuseEncoder, encode_queries, extend_vocabulary, load_encoder
from relkt.encoders.muse_tokenizer import vocabulary, with_pieces

# The tiny encoder does not know Greek letters; each word translates one English word.
GREEK = [
    ("γάτα", "cat"),
    ("σκύλος", "dog"),
    ("γάτα σκύλος", "cat dog"),
    ("σκύλος έτρεξε", "dog ran"),
    ("γάτα έτρεξε", "cat ran"),
    ("έτρεξε", "ran"),
]


def row(encoder: MuseEncoder, piece: str) -> torch.Tensor:
    return encoder.network.embedding.weight.detach()[encoder.tokenizer.token_to_id(piece)]


def test_a_new_piece_is_close_to_its_translation(tiny_encoder):
    before = {word: row(tiny_encoder, f"▁{word}").clone() for word in ("cat", "dog", "ran")}
    found = extend_vocabulary(tiny_encoder, {"el": GREEK}, num_pieces=60)
    assert set(found.pieces) == {"▁γάτα", "▁σκύλος", "▁έτρεξε"}
    assert found.per_language == {"el": 3}
    for greek, word in (("γάτα", "cat"), ("σκύλος", "dog"), ("έτρεξε", "ran")):
        rows = torch.stack(list(before.values()))
        near = torch.cosine_similarity(row(tiny_encoder, f"▁{greek}")[None], rows)
        assert list(before)[int(near.argmax())] == word
        assert float(near.max()) > 0.9


def test_a_single_translation_gives_its_own_embedding(tiny_encoder):
    fish = row(tiny_encoder, "▁fish").clone()
    extend_vocabulary(tiny_encoder, {"el": [("ψάρι", "fish")]}, num_pieces=50)
    assert torch.allclose(row(tiny_encoder, "▁ψάρι"), fish)


def test_existing_pieces_and_ascii_texts_do_not_change(tiny_encoder):
    texts = ["the cat sat", "a bird flew far", ""]
    pieces = vocabulary(tiny_encoder.tokenizer)
    ids = tiny_encoder.tokenize_texts(texts)
    with torch.no_grad():
        embedded = tiny_encoder(tiny_encoder.preprocess(texts))["sentence_embedding"]
    extend_vocabulary(tiny_encoder, {"el": GREEK, "xx": [("dogs ran", "dog ran")]}, num_pieces=60)
    assert vocabulary(tiny_encoder.tokenizer)[: len(pieces)] == pieces
    assert tiny_encoder.tokenize_texts(texts) == ids
    with torch.no_grad():
        assert torch.equal(tiny_encoder(tiny_encoder.preprocess(texts))["sentence_embedding"], embedded)
    # No new piece is pure ASCII, since that would change how English is split.
    assert not any(piece.strip("▁").isascii() for piece in vocabulary(tiny_encoder.tokenizer)[len(pieces) :])


def test_a_piece_of_two_languages_is_added_once(tiny_encoder):
    found = extend_vocabulary(tiny_encoder, {"el": [("ψάρι", "fish")], "xx": [("ψάρι", "bird")]}, num_pieces=50)
    assert found.pieces == ("▁ψάρι",)
    assert found.per_language == {"el": 1, "xx": 1}
    both = (row(tiny_encoder, "▁fish") + row(tiny_encoder, "▁bird")) / 2
    assert torch.allclose(row(tiny_encoder, "▁ψάρι"), both)


def test_the_same_texts_give_the_same_pieces(tiny_model):
    states = []
    for _ in range(2):
        encoder = MuseEncoder(tiny_model[0].tokenizer, tiny_model[0].network.config)
        encoder.network.load_state_dict(tiny_model[0].network.state_dict())
        extend_vocabulary(encoder, {"el": GREEK}, num_pieces=45)
        states.append((encoder.tokenizer.to_str(), encoder.network.embedding.weight.detach().numpy().tobytes()))
    assert states[0] == states[1]


def test_an_extended_encoder_is_saved_and_loaded(tiny_model: SentenceTransformer, tmp_path: Path):
    extend_vocabulary(tiny_model[0], {"el": GREEK}, num_pieces=60)
    texts = ["γάτα έτρεξε", "the cat ran"]
    embedded = encode_queries(tiny_model, texts)
    tiny_model.save_pretrained(str(tmp_path / "model"))
    loaded = load_encoder(tmp_path / "model", device="cpu")
    assert np.array_equal(encode_queries(loaded, texts), embedded)
    assert loaded[0].vocab_size == len(vocabulary(loaded[0].tokenizer)) == 40 + 3


def test_take_vocabulary_of_another_encoder(tiny_model):
    plain = MuseEncoder(tiny_model[0].tokenizer, tiny_model[0].network.config)
    extend_vocabulary(tiny_model[0], {"el": GREEK}, num_pieces=60)
    plain.take_vocabulary(tiny_model[0])
    plain.load_state_dict(tiny_model[0].state_dict())
    texts = ["γάτα έτρεξε"]
    with torch.no_grad():
        one, other = (encoder(encoder.preprocess(texts))["sentence_embedding"] for encoder in (plain, tiny_model[0]))
    assert torch.equal(one, other)
    assert plain.network.embedding.weight is not tiny_model[0].network.embedding.weight


def test_new_pieces_can_be_trained(tiny_encoder):
    extend_vocabulary(tiny_encoder, {"el": GREEK}, num_pieces=60)
    before = row(tiny_encoder, "▁γάτα").clone()
    optimizer = torch.optim.SGD(tiny_encoder.parameters(), lr=0.1)
    tiny_encoder(tiny_encoder.preprocess(["γάτα"]))["sentence_embedding"][0, 0].backward()
    optimizer.step()
    assert not torch.equal(row(tiny_encoder, "▁γάτα"), before)


def test_argument_errors_change_nothing(tiny_encoder):
    state = tiny_encoder.tokenizer.to_str()
    with pytest.raises(ValueError, match="num_pieces: expected at least 1, got 0"):
        extend_vocabulary(tiny_encoder, {"el": GREEK}, num_pieces=0)
    with pytest.raises(ValueError, match="parallel: expected at least one pair of texts in hi, got none"):
        extend_vocabulary(tiny_encoder, {"el": GREEK, "hi": []}, num_pieces=9)
    for pieces, message in (
        ([("", -1.0)], "got '' in row 0"),
        ([("ω", -1.0), ("▁cat", -1.0)], "got '▁cat' in row 1"),
        ([("ω", -1.0), ("ω", -2.0)], "got 'ω' in row 1"),
        ([("ω", float("nan"))], "got nan in row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            with_pieces(tiny_encoder.tokenizer, pieces)
        with pytest.raises(ValueError, match=message):
            tiny_encoder.add_pieces(pieces, torch.zeros(len(pieces), 12))
    with pytest.raises(ValueError, match=r"embeddings: expected the shape \(1, 12\), got \(1, 11\)"):
        tiny_encoder.add_pieces([("ω", -1.0)], torch.zeros(1, 11))
    with pytest.raises(ValueError, match=r"table: expected 12 columns, got the shape \(3, 11\)"):
        tiny_encoder.network.replace_embedding(torch.zeros(3, 11))
    assert tiny_encoder.tokenizer.to_str() == state
    assert tiny_encoder.vocab_size == 40
