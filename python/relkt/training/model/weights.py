"""Copies of a model's weights, in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from relkt.encoders import MuseEncoder
from relkt.encoders.projection import take_projection


def copy_weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    """A copy of all weights, on the CPU."""
    return {name: weights.detach().to("cpu", copy=True) for name, weights in model.state_dict().items()}


def load_weights(model: SentenceTransformer, folder: Path) -> None:
    """Load weights that the model has saved, including the saved vocabulary and projection."""
    # relkt and sentence-transformers define these classes, so loading them runs no foreign code; other models keep
    # their ``trust_remote_code``.
    known = all(isinstance(module, MuseEncoder | Dense | Normalize) for module in model)
    trusted = known or bool(getattr(model, "trust_remote_code", False))
    saved = SentenceTransformer(str(folder), device="cpu", trust_remote_code=trusted)
    take_projection(model, saved)
    for module, stored in zip(model, saved, strict=True):
        if (
            isinstance(module, MuseEncoder)
            and isinstance(stored, MuseEncoder)
            and module.vocab_size != stored.vocab_size
        ):
            module.take_vocabulary(stored)
    model.load_state_dict(saved.state_dict())
