"""Loss modules for the trainer: run the encoder, then call the pure function of :mod:`relkt.losses`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from relkt.losses import Reduction, alignment_loss, contrastive_loss, transfer_loss, triplet_loss
from relkt.training.stage_config import ContrastiveConfig, TransferConfig, TripletConfig

Features = dict[str, Tensor]

FOLLOWS = -2
"""Label of a question that follows its English version, in the contrastive stage."""

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


class TripletStageLoss(StageLoss):
    """Triplet loss; labels are the passage rows of the positive and of the negative, shape ``(b, 2)``."""

    def __init__(self, model: SentenceTransformer, config: TripletConfig) -> None:
        super().__init__(model, config.reduction)
        self.margin = config.margin

    def loss(self, queries: Tensor, passages: Tensor, labels: Tensor) -> Tensor:
        positive, negative = labels.unbind(dim=1)
        return triplet_loss(queries, passages[positive], passages[negative], self.margin, self.reduction)


class ContrastiveStageLoss(StageLoss):
    """InfoNCE over the passages of a batch and, where they have a weight, over its whole documents.

    The passages encoded are p passages and then the documents. Labels are p, the row of the positive passage, the row
    of its document, and the rows that are neither for the question (-1 where there are fewer), shape ``(b, 3 + x)``.

    A question without labels has :data:`FOLLOWS` for the row of the positive, and in the place of its document's the
    row of the English question that it follows; one that is only followed has -1 for both.
    """

    def __init__(self, model: SentenceTransformer, config: ContrastiveConfig) -> None:
        super().__init__(model, Reduction.MEAN)
        self.temperature = config.temperature
        self.document_weight = config.document_weight
        self.transfer_weight = config.transfer_weight

    def loss(self, queries: Tensor, passages: Tensor, labels: Tensor) -> Tensor:
        follows = labels[:, 1] == FOLLOWS
        labelled = labels[:, 1] >= 0
        loss = self._contrast(queries[labelled], passages, labels[labelled])
        if bool(follows.any()):
            english = queries[labels[follows, 2]]
            loss = loss + self.transfer_weight * alignment_loss(queries[follows], english, self.reduction)
        return loss

    def _contrast(self, queries: Tensor, passages: Tensor, labels: Tensor) -> Tensor:
        num_passages, positive, document = int(labels[0, 0]), labels[:, 1], labels[:, 2]
        excluded = rows_as_mask(labels[:, 3:], len(passages))
        loss = contrastive_loss(
            queries,
            passages[:num_passages],
            positive,
            temperature=self.temperature,
            excluded=excluded[:, :num_passages],
            reduction=self.reduction,
        )
        if self.document_weight == 0:
            return loss
        return loss + self.document_weight * contrastive_loss(
            queries,
            passages[num_passages:],
            document - num_passages,
            temperature=self.temperature,
            excluded=excluded[:, num_passages:],
            reduction=self.reduction,
        )


class TransferStageLoss(StageLoss):
    """The transfer loss against embeddings of the frozen teacher.

    Labels are the row of the passage in the batch, the row of the question in ``teacher_queries`` and the row of the
    passage in ``teacher_passages``, shape ``(b, 3)``; and, where translations of passages are drawn to the passages,
    the row of the translation in the batch, or -1 if there is none, shape ``(b, 4)``.

    Args:
        model: The student.
        config: Weights and reduction.
        teacher_queries: The teacher's embeddings of the questions in English, shape ``(q, d)``, float32.
        teacher_passages: The teacher's embeddings of the candidates, shape ``(n, d)``, float32.
    """

    teacher_queries: Tensor
    teacher_passages: Tensor

    def __init__(
        self, model: SentenceTransformer, config: TransferConfig, teacher_queries: Tensor, teacher_passages: Tensor
    ) -> None:
        super().__init__(model, config.reduction)
        self.config = config
        self.register_buffer("teacher_queries", teacher_queries.to(torch.float32), persistent=False)
        self.register_buffer("teacher_passages", teacher_passages.to(torch.float32), persistent=False)

    def loss(self, queries: Tensor, passages: Tensor, labels: Tensor) -> Tensor:
        in_batch, query, passage = labels[:, :3].unbind(dim=1)
        loss = transfer_loss(
            queries,
            passages[in_batch],
            self.teacher_queries[query],
            self.teacher_passages[passage],
            query_query=self.config.query_query,
            passage_passage=self.config.passage_passage,
            query_passage=self.config.query_passage,
            scale=self.config.scale,
            reduction=self.reduction,
        )
        translated = labels[:, 3] >= 0 if labels.shape[1] > 3 else torch.zeros(len(labels), dtype=torch.bool)
        if not bool(translated.any()):
            return loss
        of_translations = transfer_loss(
            queries[translated],
            passages[labels[translated, 3]],
            self.teacher_queries[query[translated]],
            self.teacher_passages[passage[translated]],
            query_query=0.0,
            passage_passage=self.config.passage_passage,
            query_passage=0.0,
            scale=self.config.scale,
            reduction=Reduction.SUM,
        )
        # Over all rows of the batch, as the other terms: a row without a translation adds nothing.
        return loss + of_translations / (1 if self.reduction is Reduction.SUM else len(labels))
