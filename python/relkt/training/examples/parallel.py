"""Parallel texts: texts in several languages with their English versions."""

from __future__ import annotations

import logging

from relkt.data.types import RetrievalData
from relkt.training.examples.text_spans import sentences
from relkt.training.examples.training_set import TrainingSet

logger = logging.getLogger(__name__)


def parallel_sentences(data: RetrievalData, languages: tuple[str, ...]) -> list[dict[str, str]]:
    """English passages and their translations, cut into sentences where possible.

    If a translation has as many sentences as the English passage, both are cut into sentences, because short texts
    align better. If not, this translation is paired with the whole passage.

    Args:
        data: The data set.
        languages: Languages of the translations.

    Returns:
        Dictionaries language -> text, English first. For each passage, there is one dictionary per sentence (even if
        the sentence has no translation), and then one for the whole passage if a translation stays whole.
    """
    found: list[dict[str, str]] = []
    for passage in data.passages:
        if passage.language != "en":
            continue
        english = sentences(passage.text)
        parts = [{"en": sentence} for sentence in english]
        whole = {"en": passage.text}
        for language in languages:
            translation = data.translations.get(language, {}).get(passage.id)
            if translation is None:
                continue
            translated = sentences(translation)
            if len(translated) == len(english):
                for part, sentence in zip(parts, translated, strict=True):
                    part[language] = sentence
            else:
                whole[language] = translation
        found += parts
        if len(whole) > 1:
            found.append(whole)
    return found


def warn_of_untranslated(training_set: TrainingSet, languages: tuple[str, ...]) -> None:
    """Warn that questions in some languages are skipped because they have no English translation."""
    questions = [q for q in training_set.queries if q.language in languages]
    skipped = sum(q.parallel not in training_set.in_english for q in questions)
    if skipped:
        logger.warning(
            "%d of %d questions in %s have no English translation; skipping them",
            skipped,
            len(questions),
            ", ".join(languages),
        )
