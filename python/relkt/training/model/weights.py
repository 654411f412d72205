"""Weights of a saved model."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from relkt.encoders import MuseEncoder
from relkt.encoders.projection import take_projection


def load_weights(model: SentenceTransformer, folder: Path) -> None:
    """Give a model the weights of one saved by it, with the vocabulary and the projection that it got since."""
    # These classes are relkt's and sentence-transformers' own, so running them is nothing new; other models keep the
    # trust they were loaded with.
    known = all(isinstance(module, MuseEncoder | Dense | Normalize) for module in model)
    trusted = known or bool(getattr(model, "trust_remote_code", False))
    saved = SentenceTransformer(str(folder), device="cpu", trust_remote_code=trusted)
    take_projection(model, saved)
    for mine, theirs in zip(model, saved, strict=True):
        if isinstance(mine, MuseEncoder) and isinstance(theirs, MuseEncoder) and mine.vocab_size != theirs.vocab_size:
            mine.take_vocabulary(theirs)
    model.load_state_dict(saved.state_dict())
