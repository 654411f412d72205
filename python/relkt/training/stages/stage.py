"""What a stage trains on: the shape that all stages have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from relkt.losses import Reduction
from relkt.training.examples import Rows

Features = dict[str, Tensor]

NO_ROW = -1
"""Fills up labels of fewer rows."""


def rows_as_mask(rows: Tensor, num_rows: int) -> Tensor:
    """Lists of rows as a mask.

    Args:
        rows: Rows of each question, :data:`NO_ROW` where there are fewer, shape ``(b, x)``, int64.
        num_rows: How many rows there are.

    Returns:
        Shape ``(b, num_rows)``, bool.
    """
    # One column more takes what is no row.
    mask = torch.zeros(len(rows), num_rows + 1, dtype=torch.bool, device=rows.device)
    return mask.scatter(1, rows % (num_rows + 1), True)[:, :-1]


@dataclass(frozen=True)
class Piece:
    """Texts of one forward pass.

    Args:
        queries: The questions, b of them.
        passages: The distinct passages that belong to them.
        labels: What the loss needs to know of each question, shape ``(b, c)``, int64.
    """

    queries: list[str]
    passages: list[str]
    labels: torch.Tensor


class StagePlan(Protocol):
    """What a stage trains on: the same in every process of a job, each of which calls all methods.

    Attributes:
        loss: The loss module.
        most_rows: The most rows that an epoch can have.
        rows_per_step: Rows of one optimizer step.
    """

    loss: StageLoss
    most_rows: int
    rows_per_step: int

    def rows(self, epoch: int) -> Rows:
        """The rows of an epoch, shape ``(t, c)``, int64; none at all end the stage."""

    def piece(self, rows: Rows) -> Piece:
        """The texts and labels of some rows."""


class StageLoss(nn.Module):
    """Loss of a stage: questions and the *distinct* passages of a batch are encoded once each.

    A passage that is the positive or a negative of several questions of a batch goes through the encoder once; labels
    say which row of the passages belongs to which question.

    Args:
        model: The encoder that is trained.
        reduction: Of the loss over a batch.
    """

    def __init__(self, model: SentenceTransformer, reduction: Reduction) -> None:
        super().__init__()
        self.model = model
        self.reduction = reduction

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            sentence_features: Features of the questions (b) and of the distinct passages (u).
            labels: What belongs to each question, shape ``(b, c)``, int64.

        Returns:
            A scalar.
        """
        # float32 whatever the precision of the forward pass: differences of near-equal cosines need it.
        queries, passages = (self.model(features)["sentence_embedding"].float() for features in sentence_features)
        return self.loss(queries, passages, labels)

    def loss(self, queries: Tensor, passages: Tensor, labels: Tensor) -> Tensor:
        """The loss of embeddings ``(b, d)`` and ``(u, d)``."""
        raise NotImplementedError
