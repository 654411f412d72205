"""The transfer stage: questions in every language follow the frozen teacher's embedding of the English question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor
from typing_extensions import override

from relkt.encoders.projection import append_projection, fit_projection
from relkt.losses import Reduction, transfer_loss
from relkt.training.config import TrainConfig, TransferConfig
from relkt.training.distributed.encoding import encode_passages, encode_queries
from relkt.training.examples import Rows, TrainingSet
from relkt.training.progress import Progress
from relkt.training.stages.stage import Piece, StageLoss, StagePlan


class Transfer(StagePlan):
    """Transfer: a question in any language is drawn to where the teacher puts it in English, and to its passage.

    The teacher is the model as it is when this is made, or another one; it embeds every English question and every
    passage once. A question that the data set does not have in English has its own text embedded.

    Args:
        model: The encoder: the student. With another teacher it may get a projection (:func:`project_student`).
        examples: Questions and candidates.
        config: The run.
        progress: Told when the teacher embeds.
        teacher: The teacher; None for the model as it is.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        examples: TrainingSet,
        config: TrainConfig,
        progress: Progress,
        teacher: SentenceTransformer | None = None,
    ) -> None:
        self._examples = examples
        stage: TransferConfig = config.transfer
        progress.activity("embedding")
        targets = embed_targets(teacher or model, examples, batch_size=config.encode_batch_size)
        if teacher is not None:
            project_student(model, targets, examples, config)
        self._teacher_row = targets.row_of_query
        self._translations = examples.translations if stage.parallel_passages else None
        self.loss: StageLoss = TransferStageLoss(model, stage, _tensor(targets.queries), _tensor(targets.passages))
        self.most_rows = len(examples.pairs)
        self.rows_per_step = stage.batch_size

    @override
    def rows(self, epoch: int) -> Rows:
        """Pairs (question row, positive row): the same each epoch."""
        return self._examples.pairs

    def piece(self, rows: Rows) -> Piece:
        """Questions with their passages, and these in the questions' languages; the teacher's row of each."""
        queries, positives = rows[:, 0], rows[:, 1]
        distinct, in_batch = np.unique(positives, return_inverse=True)
        labels = [in_batch.reshape(-1), self._teacher_row[queries], positives]
        translations: dict[str, int] = {}
        if self._translations is not None:
            column = np.full(len(rows), -1, dtype=np.int64)
            for number, (query, positive) in enumerate(rows.tolist()):
                text = self._translations.get(self._examples.queries[query].language, {}).get(positive)
                if text is not None:
                    column[number] = translations.setdefault(text, len(distinct) + len(translations))
            labels.append(column)
        return Piece(
            queries=[self._examples.queries[q].text for q in queries.tolist()],
            passages=[*(self._examples.candidates.texts[p] for p in distinct.tolist()), *translations],
            labels=torch.from_numpy(np.stack(labels, axis=1)),
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


@dataclass(frozen=True)
class TransferTargets:
    """The teacher's embeddings.

    Args:
        texts: The distinct English texts of the training questions, q of them.
        queries: (q, d) float32, unit rows: their embeddings.
        passages: (n, d) float32, unit rows: the candidates' embeddings.
        row_of_query: Row of ``queries`` of each training question, int64.
    """

    texts: list[str]
    queries: NDArray[np.float32]
    passages: NDArray[np.float32]
    row_of_query: Rows


def embed_targets(teacher: SentenceTransformer, examples: TrainingSet, *, batch_size: int) -> TransferTargets:
    """Embed every English training question and every candidate once, with the teacher's own prompts.

    Args:
        teacher: The teacher.
        examples: Questions and candidates. A question that the data set does not have in English has its own text.
        batch_size: Texts encoded at once.
    """
    texts = list(dict.fromkeys(examples.english))
    row_of = {text: row for row, text in enumerate(texts)}
    return TransferTargets(
        texts=texts,
        queries=encode_queries(teacher, texts, batch_size=batch_size),
        passages=encode_passages(teacher, list(examples.candidates.texts), batch_size=batch_size),
        row_of_query=np.array([row_of[text] for text in examples.english], dtype=np.int64),
    )


def project_student(
    student: SentenceTransformer, targets: TransferTargets, examples: TrainingSet, config: TrainConfig
) -> None:
    """Put a projection into another model's space behind the student, where the configuration or the widths ask for it.

    It starts as the least-squares map of the student's embeddings of the English training questions and the candidates
    onto the teacher's, and is trained with the rest.

    Args:
        student: Changed in place.
        targets: The teacher's embeddings.
        examples: Questions and candidates.
        config: The run.
    """
    same_width = student.get_embedding_dimension() == targets.passages.shape[1]
    if same_width and not config.transfer.always_project:
        return
    batch_size = config.encode_batch_size
    source = [
        encode_queries(student, targets.texts, batch_size=batch_size),
        encode_passages(student, list(examples.candidates.texts), batch_size=batch_size),
    ]
    weights, bias = fit_projection(
        np.concatenate(source),
        np.concatenate([targets.queries, targets.passages]),
        ridge=config.transfer.projection_ridge,
    )
    append_projection(student, weights, bias)


def _tensor(rows: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
