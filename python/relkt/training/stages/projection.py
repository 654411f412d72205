"""A linear projection of the student into the space of a teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from relkt.encoders.projection import append_projection, fit_projection
from relkt.training.config import TrainConfig
from relkt.training.distributed.encoding import encode_passages, encode_queries

MAX_TEXTS = 20_000
"""Maximum number of queries for fitting the projection; also the maximum number of passages."""


def project_student(
    student: SentenceTransformer,
    queries: Sequence[str],
    query_embeddings: NDArray[np.float32],
    passages: Sequence[str],
    passage_embeddings: NDArray[np.float32],
    config: TrainConfig,
) -> None:
    """Append a projection into the teacher's space to the student, if the configuration or the dimensions require it.

    At first, the projection is the least-squares map from the student's embeddings of English texts to the teacher's
    embeddings of the same texts. The map is fitted on the first :data:`MAX_TEXTS` queries and the first
    :data:`MAX_TEXTS` passages. Afterwards the projection is trained with the student.

    Args:
        student: Changed in place.
        queries: English texts that are embedded as queries, q of them.
        query_embeddings: The teacher's embeddings of ``queries``, shape ``(q, d)``, float32, unit rows.
        passages: The passages, n of them.
        passage_embeddings: The teacher's embeddings of ``passages``, shape ``(n, d)``, float32, unit rows.
        config: Configuration of the run.
    """
    same_width = student.get_embedding_dimension() == query_embeddings.shape[1]
    if same_width and not config.transfer.always_project:
        return
    source = [
        encode_queries(student, list(queries[:MAX_TEXTS]), batch_size=config.encode_batch_size),
        encode_passages(student, list(passages[:MAX_TEXTS]), batch_size=config.encode_batch_size),
    ]
    weights, bias = fit_projection(
        np.concatenate(source),
        np.concatenate([query_embeddings[:MAX_TEXTS], passage_embeddings[:MAX_TEXTS]]),
        ridge=config.transfer.projection_ridge,
    )
    append_projection(student, weights, bias)
