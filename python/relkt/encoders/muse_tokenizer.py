"""mUSE's tokenizer: its SentencePiece unigram model as a tokenizer of the ``tokenizers`` library."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from relkt.encoders.charsmap import Charsmap

UNKNOWN_ID, START_ID, END_ID = 0, 1, 2


def read_sentencepiece(path: Path) -> Tokenizer:
    """Reads the tokenizer of a SentencePiece unigram model.

    Raises:
        ValueError: If the file is not a unigram model, or its unknown, start and end pieces are not 0, 1 and 2.
    """
    proto = _read_proto(path)
    trainer = proto.trainer_spec
    special = (trainer.unk_id, trainer.bos_id, trainer.eos_id)
    if trainer.model_type != trainer.UNIGRAM or special != (UNKNOWN_ID, START_ID, END_ID):
        raise ValueError(f"{path}: expected a unigram model with special ids 0, 1, 2, got {special}")
    return unigram_tokenizer([(p.piece, p.score) for p in proto.pieces], proto.normalizer_spec.precompiled_charsmap)


def charsmap_bytes(path: Path) -> bytes:
    """The compiled character map of a SentencePiece model."""
    return bytes(_read_proto(path).normalizer_spec.precompiled_charsmap)


def _read_proto(path: Path) -> Any:
    # Imported here: only the published model needs protobuf, a saved encoder does not.
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(path.read_bytes())
    return proto


def unigram_tokenizer(pieces: Sequence[tuple[str, float]], charsmap: bytes = b"") -> Tokenizer:
    """Makes a tokenizer that segments like SentencePiece's unigram model and puts ``<s>`` and ``</s>`` around a text.

    Args:
        pieces: Each piece and its log probability; the first three are the unknown, start and end piece.
        charsmap: The model's compiled character map; may be empty.
    """
    # In a text, "<s>" is three characters, not the start piece, because SentencePiece excludes special pieces from the
    # search. Here special pieces get names with a space, which no normalised text contains (spaces become "▁").
    special = [(f" {piece}", score) for piece, score in pieces[:3]]
    tokenizer = Tokenizer(models.Unigram([*special, *pieces[3:]], unk_id=UNKNOWN_ID))
    mapped = [normalizers.Precompiled(charsmap)] if charsmap else []
    tokenizer.normalizer = normalizers.Sequence(
        [*mapped, normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", START_ID), ("</s>", END_ID)]
    )
    return tokenizer


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Returns the pieces of a unigram tokenizer, by id."""
    return [str(piece) for piece, _ in json.loads(tokenizer.to_str())["model"]["vocab"]]


def with_pieces(tokenizer: Tokenizer, pieces: Sequence[tuple[str, float]]) -> Tokenizer:
    """Returns a copy of a tokenizer with further pieces, which get the next ids.

    Args:
        tokenizer: A unigram tokenizer; it stays unchanged.
        pieces: Each piece ("▁" at the start of a word) and its log probability in the unigram model.

    Raises:
        ValueError: If a piece is empty, known or repeated, or a log probability is not finite.
    """
    state = json.loads(tokenizer.to_str())
    have = {piece for piece, _ in state["model"]["vocab"]}
    for row, (piece, score) in enumerate(pieces):
        if not piece or piece in have:
            raise ValueError(f"pieces: expected a non-empty text that is not a piece yet, got {piece!r} in row {row}")
        if not math.isfinite(score):
            raise ValueError(f"pieces: expected a finite log probability, got {score} in row {row}")
        have.add(piece)
    state["model"]["vocab"] += [[piece, score] for piece, score in pieces]
    return Tokenizer.from_str(json.dumps(state))


def charsmap_of(tokenizer: Tokenizer) -> Charsmap | None:
    """Returns the character map of a tokenizer made by :func:`unigram_tokenizer`, or None."""
    normalizer = tokenizer.normalizer
    parts = json.loads(normalizer.__getstate__()).get("normalizers", []) if normalizer is not None else []
    for part in parts:
        if part["type"] == "Precompiled":
            return Charsmap(base64.b64decode(part["precompiled_charsmap"]))
    return None
