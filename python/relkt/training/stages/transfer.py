"""The transfer stage: pulls every question towards the frozen teacher's embedding of its English version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor
from typing_extensions import override

from relkt.losses import Reduction, transfer_loss
from relkt.training.config import Stage, TransferConfig
from relkt.training.distributed.encoding import encode_passages, encode_queries
from relkt.training.examples import Rows, TrainingSet
from relkt.training.progress import Progress
from relkt.training.stages.prepared import Prepared
from relkt.training.stages.projection import project_student
from relkt.training.stages.stage import MicroBatch, StageLoss, TrainingStage, float_tensor, int_tensor


class TransferTargets(TypedDict):
    """Rows of the texts of a micro-batch and of the teacher's embeddings, int64.

    Attributes:
        passage: Row of each question's passage among the passages of the micro-batch, shape ``(b,)``.
        teacher_query: Row of ``teacher_queries`` for each question, shape ``(b,)``.
        teacher_passage: Row of ``teacher_passages`` for each question's passage, shape ``(b,)``.
        translated: Rows of the questions whose passage has a translation, shape ``(t,)``.
        translation: Row of each translation among the passages of the micro-batch, shape ``(t,)``.
    """

    passage: Tensor
    teacher_query: Tensor
    teacher_passage: Tensor
    translated: Tensor
    translation: Tensor


class Transfer(TrainingStage):
    """Pulls a question towards the teacher's embeddings of its English version and of its passage.

    The teacher is another model, or this model at the start of the stage; it embeds every English question and every
    passage once. If a question has no English version, the teacher embeds the question itself.

    Args:
        model: The student. If the teacher is another model, the student may get a projection (:func:`project_student`).
        prepared: Inputs of the run.
        progress: Receives the activity "embedding".
    """

    def __init__(self, model: SentenceTransformer, prepared: Prepared, progress: Progress) -> None:
        self._training_set = training_set = prepared.training_set(prepared.languages_of(Stage.TRANSFER))
        config = prepared.config
        stage: TransferConfig = config.transfer
        progress.activity("embedding")
        embeddings = embed_with_teacher(prepared.teacher or model, training_set, batch_size=config.encode_batch_size)
        if prepared.teacher is not None:
            candidates = training_set.candidates.texts
            project_student(model, embeddings.texts, embeddings.queries, candidates, embeddings.passages, config)
        self._teacher_row = embeddings.row_of_query
        self._translations = training_set.translations if stage.parallel_passages else {}
        self.loss = TransferStageLoss(model, stage, float_tensor(embeddings.queries), float_tensor(embeddings.passages))
        self.max_examples = len(training_set.pairs)
        self.examples_per_step = stage.batch_size

    @override
    def examples(self, epoch: int) -> Rows:
        """Pairs ``(question row, positive row)``; the same in each epoch."""
        return self._training_set.pairs

    @override
    def batch(self, examples: Rows) -> MicroBatch[TransferTargets]:
        """Questions with their passages, and translations of these passages into the questions' languages."""
        training_set = self._training_set
        queries, positives = examples[:, 0], examples[:, 1]
        distinct, in_batch = np.unique(positives, return_inverse=True)
        translations: dict[str, int] = {}
        translated: list[int] = []
        translation: list[int] = []
        for number, (query, positive) in enumerate(examples.tolist()):
            text = self._translations.get(training_set.queries[query].language, {}).get(positive)
            if text is not None:
                translated.append(number)
                translation.append(translations.setdefault(text, len(distinct) + len(translations)))
        return MicroBatch(
            queries=[training_set.queries[query].text for query in queries.tolist()],
            passages=[*(training_set.candidates.texts[row] for row in distinct.tolist()), *translations],
            targets={
                "passage": int_tensor(in_batch.reshape(-1)),
                "teacher_query": int_tensor(self._teacher_row[queries]),
                "teacher_passage": int_tensor(positives),
                "translated": int_tensor(translated),
                "translation": int_tensor(translation),
            },
            size=len(examples),
        )


class TransferStageLoss(StageLoss[TransferTargets]):
    """The transfer loss against embeddings of the frozen teacher.

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

    @override
    def loss(self, queries: Tensor, passages: Tensor, targets: TransferTargets) -> Tensor:
        teacher_query, teacher_passage = targets["teacher_query"], targets["teacher_passage"]
        loss = transfer_loss(
            queries,
            passages[targets["passage"]],
            self.teacher_queries[teacher_query],
            self.teacher_passages[teacher_passage],
            query_query=self.config.query_query,
            passage_passage=self.config.passage_passage,
            query_passage=self.config.query_passage,
            scale=self.config.scale,
            reduction=self.reduction,
        )
        translated = targets["translated"]
        if len(translated) == 0:
            return loss
        translation_loss = transfer_loss(
            queries[translated],
            passages[targets["translation"]],
            self.teacher_queries[teacher_query[translated]],
            self.teacher_passages[teacher_passage[translated]],
            query_query=0.0,
            passage_passage=self.config.passage_passage,
            query_passage=0.0,
            scale=self.config.scale,
            reduction=Reduction.SUM,
        )
        # The mean is over all questions, as in the other terms; a question without a translation adds nothing.
        return loss + translation_loss / (1 if self.reduction is Reduction.SUM else len(teacher_query))


@dataclass(frozen=True)
class TeacherEmbeddings:
    """Embeddings of the frozen teacher.

    Args:
        texts: The distinct English texts of the training questions, q of them.
        queries: The embeddings of ``texts``, shape ``(q, d)``, float32, unit rows.
        passages: The candidates' embeddings, shape ``(n, d)``, float32, unit rows.
        row_of_query: Row of ``queries`` for each training question, int64.
    """

    texts: list[str]
    queries: NDArray[np.float32]
    passages: NDArray[np.float32]
    row_of_query: Rows


def embed_with_teacher(
    teacher: SentenceTransformer, training_set: TrainingSet, *, batch_size: int
) -> TeacherEmbeddings:
    """Embed every English training question and every candidate once, with the teacher's own prompts.

    Args:
        teacher: The teacher.
        training_set: Questions and candidates. If a question has no English version, the question itself is embedded.
        batch_size: Texts encoded at once.
    """
    texts = list(dict.fromkeys(training_set.english))
    row_of = {text: row for row, text in enumerate(texts)}
    return TeacherEmbeddings(
        texts=texts,
        queries=encode_queries(teacher, texts, batch_size=batch_size),
        passages=encode_passages(teacher, list(training_set.candidates.texts), batch_size=batch_size),
        row_of_query=np.array([row_of[text] for text in training_set.english], dtype=np.int64),
    )
