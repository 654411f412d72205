"""Targets of the transfer stage, with the model itself as the teacher."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData
from relkt.encoders import encode_passages, encode_queries
from relkt.training import Progress
from relkt.training.stages import Prepared, Transfer

MakePrepared = Callable[..., Prepared]


@pytest.mark.parametrize("parallel", [True, False])
def test_targets_are_the_teachers_embeddings_of_the_english_questions(
    parallel: bool,
    tiny_model: SentenceTransformer,
    data_of: Callable[..., RetrievalData],
    prepared_of: MakePrepared,
) -> None:
    data = data_of(parallel=parallel)
    prepared = prepared_of(data)
    training_set = prepared.training_set()
    transfer = Transfer(tiny_model, prepared, Progress())
    batch = transfer.batch(transfer.examples(0)[[5, 1, 4, 0]])
    questions = [training_set.queries[q] for q in (5, 1, 4, 0)]
    assert batch.queries == [q.text for q in questions]

    english = {q.parallel: q.text for q in data.queries if q.language == "en"}
    targets = [english[q.parallel] if parallel else q.text for q in questions]
    loss = transfer.loss
    got = loss.teacher_queries[batch.targets["teacher_query"]].numpy()
    assert np.allclose(got, encode_queries(tiny_model, targets), atol=1e-6)

    positives = [training_set.candidates.texts[training_set.positives(q)[0]] for q in (5, 1, 4, 0)]
    assert [batch.passages[row] for row in batch.targets["passage"].tolist()] == positives
    got = loss.teacher_passages[batch.targets["teacher_passage"]].numpy()
    assert np.allclose(got, encode_passages(tiny_model, positives), atol=1e-6)


def test_the_teacher_is_frozen(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, prepared_of: MakePrepared
) -> None:
    transfer = Transfer(tiny_model, prepared_of(tiny_data), Progress())
    before = transfer.loss.teacher_queries.clone()
    with torch.no_grad():
        for weights in tiny_model.parameters():
            weights.mul_(1.5)
    assert torch.equal(transfer.loss.teacher_queries, before)
    assert not transfer.loss.teacher_queries.requires_grad
