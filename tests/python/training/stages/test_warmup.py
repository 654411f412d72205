"""The warm-up stage and its triplets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData
from relkt.encoders import encode_passages, encode_queries
from relkt.losses import Reduction, triplet_loss
from relkt.training import Progress, TrainConfig
from relkt.training.stages import Prepared, Warmup

MakePrepared = Callable[..., Prepared]


def test_random_negatives_follow_the_bm25_epochs(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, prepared_of: MakePrepared
) -> None:
    config = TrainConfig.from_dict({"warmup": {"bm25_epochs": 2}})
    warmup = Warmup(tiny_model, prepared_of(tiny_data, config), Progress())
    epochs = [warmup.examples(epoch) for epoch in range(4)]
    assert all(examples.shape == (warmup.max_examples, 3) for examples in epochs)
    assert np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])
    assert not np.array_equal(epochs[2], epochs[3])
    assert np.array_equal(epochs[0][:, :2], epochs[3][:, :2])


def test_data_without_any_possible_negative_is_refused(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, prepared_of: MakePrepared
) -> None:
    one_document = RetrievalData(
        "one",
        tuple(p for p in tiny_data.passages if p.document == "d0"),
        tuple(q for q in tiny_data.queries if q.id.startswith("q0")),
        {k: v for k, v in tiny_data.qrels.items() if k.startswith("q0")},
    )
    with pytest.raises(ValueError, match="expected candidates of other documents as negatives at level passage"):
        Warmup(tiny_model, prepared_of(one_document), Progress())


def test_passages_of_a_batch_are_encoded_once(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, prepared_of: MakePrepared
) -> None:
    prepared = prepared_of(tiny_data)
    warmup = Warmup(tiny_model, prepared, Progress())
    triplets = warmup.examples(0)[:9]
    batch = warmup.batch(triplets)
    assert batch.size == 9
    assert len(set(batch.passages)) == len(batch.passages) < 18
    pairs = zip(batch.targets["positive"].tolist(), batch.targets["negative"].tolist(), strict=True)
    texts = [[batch.passages[row] for row in pair] for pair in pairs]
    candidates = prepared.training_set().candidates.texts
    assert texts == [[candidates[p], candidates[n]] for _, p, n in triplets.tolist()]


@pytest.mark.parametrize("reduction", list(Reduction))
def test_the_loss_module_calls_the_pure_function(
    reduction: Reduction, tiny_model: SentenceTransformer, tiny_data: RetrievalData, prepared_of: MakePrepared
) -> None:
    config = TrainConfig.from_dict({"warmup": {"reduction": reduction.value, "margin": 0.5}})
    warmup = Warmup(tiny_model, prepared_of(tiny_data, config), Progress())
    batch = warmup.batch(warmup.examples(0)[::7])
    tiny_model.eval()
    features = [tiny_model.preprocess(texts) for texts in (batch.queries, batch.passages)]
    with torch.no_grad():
        loss = warmup.loss(features, batch.targets)
    queries = torch.from_numpy(encode_queries(tiny_model, batch.queries))
    passages = torch.from_numpy(encode_passages(tiny_model, batch.passages))
    positive, negative = (passages[batch.targets[name]] for name in ("positive", "negative"))
    assert loss.item() == pytest.approx(triplet_loss(queries, positive, negative, 0.5, reduction).item(), rel=1e-5)
