"""Inputs that the stages of a run share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from relkt.data.types import Level, RetrievalData
from relkt.training import ContrastiveConfig, Stage, TrainConfig, VocabularyConfig
from relkt.training.stages import Prepared

MakePrepared = Callable[..., Prepared]


def test_each_training_set_is_made_once(tiny_data: RetrievalData, prepared_of: MakePrepared) -> None:
    prepared = prepared_of(tiny_data, languages=("en", "de"))
    default = prepared.training_set()
    assert prepared.training_set(("en", "de"), Level.PASSAGE) is default
    assert prepared.training_set(level=Level.DOCUMENT).level is Level.DOCUMENT
    assert prepared.training_set(("th",)).languages == ("th",)
    assert prepared.evaluator is prepared.evaluator


@pytest.mark.parametrize("include", [True, False])
def test_english_is_added_where_the_stage_includes_it(
    include: bool, tiny_data: RetrievalData, prepared_of: MakePrepared
) -> None:
    config = TrainConfig(contrastive=ContrastiveConfig(include_english=include))
    prepared = prepared_of(tiny_data, config, languages=("de",))
    assert prepared.languages_of(Stage.CONTRASTIVE) == (("en", "de") if include else ("de",))
    assert prepared.languages_of(Stage.DISTILLATION) == ("en", "de")
    assert prepared.languages_of(Stage.TEACHER) == ("de",)
    queries = tuple(q for q in tiny_data.queries if q.language != "en")
    without = replace(tiny_data, queries=queries, qrels={q.id: tiny_data.qrels[q.id] for q in queries})
    assert prepared_of(without, config, languages=("de",)).languages_of(Stage.DISTILLATION) == ("de",)


def test_the_vocabulary_is_learned_for_all_languages_but_english(
    tiny_data: RetrievalData, prepared_of: MakePrepared
) -> None:
    config = TrainConfig(languages=("en", "de"), parallel_languages=("th",), stages=(Stage.VOCABULARY, Stage.TEACHER))
    assert prepared_of(tiny_data, config, languages=("en", "de")).vocabulary_languages == ("de", "th")
    config = replace(config, vocabulary=VocabularyConfig(languages=("th",)))
    assert prepared_of(tiny_data, config, languages=("en", "de")).vocabulary_languages == ("th",)
