"""The vocabulary stage: new pieces for mUSE, learned from parallel texts. It takes no optimizer steps."""

from __future__ import annotations

import logging

from sentence_transformers import SentenceTransformer

from relkt.data.parallel import ParallelText
from relkt.data.types import RetrievalData, Split
from relkt.encoders import MuseEncoder, extend_vocabulary
from relkt.training.config import VocabularyConfig
from relkt.training.examples.parallel import parallel_sentences

MAX_PAIRS = 20_000
"""Maximum number of pairs of a language for learning pieces, because word alignment holds all pairs in memory."""

logger = logging.getLogger(__name__)


def check_vocabulary(
    model: SentenceTransformer, data: RetrievalData, languages: tuple[str, ...], parallel: ParallelText | None = None
) -> None:
    """Check that a model's vocabulary can be extended from a data set and parallel text.

    Raises:
        ValueError: If the model is not mUSE, or the data set has no parallel text in a language.
    """
    find_muse(model)
    if not languages:
        raise ValueError("vocabulary: expected a language other than English to learn pieces for, got none")
    for language, pairs in parallel_texts(data, languages, parallel).items():
        if not pairs:
            raise ValueError(
                f"data: data set {data.name!r} has no training question or passage in {language} that also exists in "
                "English, and there is no parallel text for it; expected at least one for the vocabulary stage"
            )


def extend(
    model: SentenceTransformer,
    data: RetrievalData,
    languages: tuple[str, ...],
    config: VocabularyConfig,
    parallel: ParallelText | None = None,
) -> None:
    """Add pieces for some languages to the model's vocabulary."""
    texts = parallel_texts(data, languages, parallel)
    found = extend_vocabulary(find_muse(model), texts, num_pieces=config.num_pieces)
    counts = ", ".join(f"{language} {count}" for language, count in found.per_language.items())
    logger.info("vocabulary: %d new pieces (%s)", len(found.pieces), counts)


def find_muse(model: SentenceTransformer) -> MuseEncoder:
    """The mUSE encoder of a model.

    Raises:
        ValueError: If the model has another encoder.
    """
    encoders = [module for module in model.modules() if isinstance(module, MuseEncoder)]
    if len(encoders) != 1:
        raise ValueError("stages: the vocabulary stage expected mUSE, got a model with another encoder")
    return encoders[0]


def parallel_texts(
    data: RetrievalData, languages: tuple[str, ...], parallel: ParallelText | None = None
) -> dict[str, list[tuple[str, str]]]:
    """Training questions, passages and parallel text in some languages, paired with their English versions.

    Args:
        data: The data set.
        languages: The languages.
        parallel: Parallel text; the first :data:`MAX_PAIRS` pairs of each language are used.

    Returns:
        Language -> pairs (text, English version): the questions, the passages cut into sentences
        (:func:`parallel_sentences`), then the parallel text.
    """
    train = data.select(split=Split.TRAIN)
    english = {q.parallel: q.text for q in train.queries if q.language == "en"}
    passages = parallel_sentences(data, languages)
    of_language = {} if parallel is None else parallel.by_language()
    return {
        language: [
            *(
                (question.text, english[question.parallel])
                for question in train.queries
                if question.language == language and question.parallel in english
            ),
            *((texts[language], texts["en"]) for texts in passages if language in texts),
            *((pair.text, pair.english) for pair in of_language.get(language, ())[:MAX_PAIRS]),
        ]
        for language in languages
    }
