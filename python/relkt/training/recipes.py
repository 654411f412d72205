"""Configurations that depend on the encoder and the data at hand."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData, Split
from relkt.encoders import MuseEncoder
from relkt.training.config import DistillationConfig, Schedule, Stage, TrainConfig, VocabularyConfig

MUSE_LANGUAGES = frozenset(["ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"])
"""Languages that mUSE covers (Yang et al., ACL 2020)."""


def parallel_config(model: SentenceTransformer, data: RetrievalData) -> TrainConfig:
    """A configuration for training on parallel text alone.

    Distillation extends the encoder's English embedding space to all languages.

    For mUSE, a vocabulary stage first adds pieces for the languages that mUSE does not cover.

    Args:
        model: The encoder.
        data: Dev and test questions made of held-out pairs (:func:`hold_out_pairs`).
    """
    languages = data.select(split=Split.DEV).languages
    is_muse = any(isinstance(module, MuseEncoder) for module in model.modules())
    uncovered = tuple(language for language in languages if language not in {*MUSE_LANGUAGES, "und"})
    return TrainConfig(
        languages=languages,
        stages=(Stage.VOCABULARY, Stage.DISTILLATION) if is_muse and uncovered else (Stage.DISTILLATION,),
        vocabulary=VocabularyConfig(languages=uncovered),
        freeze_embeddings=not is_muse,
        chunk_tokens=4096,
        distillation=DistillationConfig(
            epochs=3,
            learning_rate=3e-4 if is_muse else 1e-4,
            schedule=Schedule.LINEAR,
            warmup_steps=8,
            batch_size=256,
            accumulation=4,
            tuned_shares=(1.0, 0.5),
        ),
        logging_steps=20,
    )
