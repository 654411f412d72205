"""Negatives mined in the teacher stage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from relkt.data.types import Level, RetrievalData
from relkt.encoders import encode_passages, encode_queries
from relkt.training import Progress, TrainConfig
from relkt.training.stages import Prepared, Teacher

MakePrepared = Callable[..., Prepared]


@pytest.mark.parametrize("level", [Level.PASSAGE, Level.DOCUMENT])
def test_mined_triplets_are_hard_or_semi_hard_and_allowed(
    level: Level, tiny_model: SentenceTransformer, tiny_data: RetrievalData, prepared_of: MakePrepared
) -> None:
    config = TrainConfig.from_dict(
        {"level": level.value, "teacher": {"num_hard": 2, "num_semi_hard": 3, "margin": 0.05}}
    )
    prepared = prepared_of(tiny_data, config)
    training_set = prepared.training_set()
    triplets = Teacher(tiny_model, prepared, Progress()).examples(epoch=0)
    queries = encode_queries(tiny_model, [q.text for q in training_set.queries])
    passages = encode_passages(tiny_model, list(training_set.candidates.texts))
    scores = queries.astype(np.float64) @ passages.T.astype(np.float64)

    expected = []
    for query, positive in training_set.pairs.tolist():
        s_p = scores[query, positive]
        allowed = [n for n in range(len(passages)) if n not in training_set.blocked(query)]
        best_first = sorted(allowed, key=lambda n: -scores[query, n])
        hard = [n for n in best_first if scores[query, n] > s_p][:2]
        semi = [n for n in best_first if s_p - 0.05 < scores[query, n] < s_p][:3]
        expected += [(query, positive, n) for n in hard + semi]
    assert {tuple(row) for row in triplets.tolist()} == set(expected)
    assert len(triplets) == len(expected) > 0


def test_each_epoch_mines_with_the_current_model(
    tiny_model: SentenceTransformer,
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    prepared_of: MakePrepared,
) -> None:
    teacher = Teacher(tiny_model, prepared_of(tiny_data), Progress())
    before = teacher.examples(epoch=0)
    tiny_model.load_state_dict(model_of(seed=1).state_dict())
    assert not np.array_equal(before, teacher.examples(epoch=1))
