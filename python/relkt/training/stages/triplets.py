"""What the warm-up and the teacher have in common: triplets."""

from __future__ import annotations

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from relkt.losses import triplet_loss
from relkt.training.config import TripletConfig
from relkt.training.examples import Rows, TrainingSet
from relkt.training.stages.stage import Piece, StageLoss


class TripletStageLoss(StageLoss):
    """Triplet loss; labels are the passage rows of the positive and of the negative, shape ``(b, 2)``."""

    def __init__(self, model: SentenceTransformer, config: TripletConfig) -> None:
        super().__init__(model, config.reduction)
        self.margin = config.margin

    def loss(self, queries: Tensor, passages: Tensor, labels: Tensor) -> Tensor:
        positive, negative = labels.unbind(dim=1)
        return triplet_loss(queries, passages[positive], passages[negative], self.margin, self.reduction)


def triplet_piece(examples: TrainingSet, rows: Rows) -> Piece:
    distinct, in_batch = np.unique(rows[:, 1:], return_inverse=True)
    return Piece(
        queries=[examples.queries[q].text for q in rows[:, 0].tolist()],
        passages=[examples.candidates.texts[p] for p in distinct.tolist()],
        labels=torch.from_numpy(in_batch.reshape(-1, 2)),
    )
