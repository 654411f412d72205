"""Triplets of a question, its positive and a negative: shared by the warm-up and the teacher stage."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from typing_extensions import override

from relkt.losses import triplet_loss
from relkt.training.config import TripletConfig
from relkt.training.examples import Rows, TrainingSet
from relkt.training.stages.stage import MicroBatch, StageLoss


class TripletTargets(TypedDict):
    """Passages of each question, int64.

    Attributes:
        positive: Row of the positive among the passages of the micro-batch, shape ``(b,)``.
        negative: Row of the negative among the passages of the micro-batch, shape ``(b,)``.
    """

    positive: Tensor
    negative: Tensor


class TripletStageLoss(StageLoss[TripletTargets]):
    """Triplet loss.

    Args:
        model: The encoder.
        config: Margin and reduction.
    """

    def __init__(self, model: SentenceTransformer, config: TripletConfig) -> None:
        super().__init__(model, config.reduction)
        self.margin = config.margin

    @override
    def loss(self, queries: Tensor, passages: Tensor, targets: TripletTargets) -> Tensor:
        positives, negatives = passages[targets["positive"]], passages[targets["negative"]]
        return triplet_loss(queries, positives, negatives, self.margin, self.reduction)


def triplet_batch(training_set: TrainingSet, triplets: Rows) -> MicroBatch[TripletTargets]:
    """The texts of triplets ``(question row, positive row, negative row)``; each passage is included once."""
    distinct, in_batch = np.unique(triplets[:, 1:], return_inverse=True)
    positive, negative = torch.from_numpy(in_batch.reshape(-1, 2)).unbind(dim=1)
    return MicroBatch(
        queries=[training_set.queries[query].text for query in triplets[:, 0].tolist()],
        passages=[training_set.candidates.texts[passage] for passage in distinct.tolist()],
        targets={"positive": positive, "negative": negative},
        size=len(triplets),
    )
