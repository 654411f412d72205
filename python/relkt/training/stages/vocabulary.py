"""The vocabulary stage: which texts mUSE learns new pieces from."""

from __future__ import annotations

import logging

from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData, Split
from relkt.encoders import MuseEncoder, extend_vocabulary
from relkt.training.config import VocabularyConfig
from relkt.training.examples.text_spans import sentences

logger = logging.getLogger(__name__)


def check_vocabulary(model: SentenceTransformer, data: RetrievalData, languages: tuple[str, ...]) -> None:
    """Check that a model's vocabulary can be extended from a data set.

    Raises:
        ValueError: If the model is not mUSE, or the data set has no parallel text in a language.
    """
    muse_of(model)
    if not languages:
        raise ValueError("vocabulary: expected a language other than English to learn pieces of, got none")
    for language, pairs in parallel_texts(data, languages).items():
        if not pairs:
            raise ValueError(
                f"data: data set {data.name!r} has no training question or passage in {language} that is there in "
                "English too; expected at least one for the vocabulary stage"
            )


def extend(
    model: SentenceTransformer, data: RetrievalData, languages: tuple[str, ...], config: VocabularyConfig
) -> None:
    """Add pieces for some languages to the model's vocabulary."""
    found = extend_vocabulary(muse_of(model), parallel_texts(data, languages), num_pieces=config.num_pieces)
    counts = ", ".join(f"{language} {count}" for language, count in found.per_language.items())
    logger.info("vocabulary: %d new pieces (%s)", len(found.pieces), counts)


def muse_of(model: SentenceTransformer) -> MuseEncoder:
    """The one mUSE of a model.

    Raises:
        ValueError: If it has none.
    """
    encoders = [module for module in model.modules() if isinstance(module, MuseEncoder)]
    if len(encoders) != 1:
        raise ValueError("stages: the vocabulary stage expected mUSE, got a model with another encoder")
    return encoders[0]


def parallel_texts(data: RetrievalData, languages: tuple[str, ...]) -> dict[str, list[tuple[str, str]]]:
    """Texts of a data set in some languages, with their English versions: training questions, and passages.

    A passage is cut into sentences where it has as many in both languages, since shorter texts say more about which
    word is which.

    Args:
        data: The data set; of its questions those of the train split, of its passages the English ones that have
            translations.
        languages: The languages.

    Returns:
        Language -> pairs of a text and its English version, the questions first.
    """
    train = data.select(split=Split.TRAIN)
    english = {q.parallel: q.text for q in train.queries if q.language == "en"}
    found: dict[str, list[tuple[str, str]]] = {language: [] for language in languages}
    for question in train.queries:
        if question.language in found and question.parallel in english:
            found[question.language].append((question.text, english[question.parallel]))
    for language, pairs in found.items():
        translated = data.translations.get(language, {})
        for passage in data.passages:
            if passage.language != "en" or passage.id not in translated:
                continue
            theirs, ours = sentences(translated[passage.id]), sentences(passage.text)
            pairs += (
                zip(theirs, ours, strict=True) if len(theirs) == len(ours) else [(translated[passage.id], passage.text)]
            )
    return found
