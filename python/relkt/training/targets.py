"""What the student of the transfer is drawn to: the frozen teacher's embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from relkt.encoders.projection import append_projection, fit_projection
from relkt.training.config import TrainConfig
from relkt.training.encoding import encode_passages, encode_queries
from relkt.training.examples import Rows, TrainingSet


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
