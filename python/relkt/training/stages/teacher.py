"""The teacher stage: triplets with negatives mined by the model itself."""

from __future__ import annotations

import logging

import numpy as np
from sentence_transformers import SentenceTransformer

from relkt.mining import mine
from relkt.training.config import TeacherConfig, TrainConfig
from relkt.training.distributed.encoding import encode_passages, encode_queries
from relkt.training.distributed.processes import from_rank_0
from relkt.training.examples import Rows, TrainingSet
from relkt.training.model.precision import original_forward
from relkt.training.progress import Progress
from relkt.training.stages.stage import Piece, StageLoss, StagePlan
from relkt.training.stages.triplets import TripletStageLoss, triplet_piece

logger = logging.getLogger(__name__)


class Teacher(StagePlan):
    """Teacher: triplets with hard and semi-hard negatives, mined with the model at the start of each epoch.

    Args:
        model: The encoder.
        examples: Questions and candidates.
        config: The run.
        progress: Told when mining begins.
    """

    def __init__(
        self, model: SentenceTransformer, examples: TrainingSet, config: TrainConfig, progress: Progress
    ) -> None:
        self._model = model
        self._examples = examples
        self._config: TeacherConfig = config.teacher
        self._batch_size = config.encode_batch_size
        self._progress = progress
        self.loss: StageLoss = TripletStageLoss(model, self._config)
        self.most_rows = len(examples.pairs) * (self._config.num_hard + self._config.num_semi_hard)
        self.rows_per_step = self._config.batch_size

    def rows(self, epoch: int) -> Rows:
        """Triplets (question row, positive row, negative row) that the model gets wrong, or nearly so.

        A positive has up to ``num_hard`` negatives that score above it and up to ``num_semi_hard`` that score less
        than the margin below it; a question with several positives is mined once for each of them. No negative is
        blocked for its question (:meth:`TrainingSet.blocked`).
        """
        self._progress.activity("mining")
        examples, config = self._examples, self._config
        texts = list(dict.fromkeys(q.text for q in examples.queries))
        row_of = {text: row for row, text in enumerate(texts)}
        with original_forward(self._model):
            embedded = encode_queries(self._model, texts, batch_size=self._batch_size)
            passages = encode_passages(self._model, list(examples.candidates.texts), batch_size=self._batch_size)
        queries, positives = examples.pairs[:, 0], examples.pairs[:, 1]
        mined = from_rank_0(
            lambda: mine(
                embedded[[row_of[examples.queries[q].text] for q in queries.tolist()]],
                passages,
                positives,
                num_hard=config.num_hard,
                num_semi_hard=config.num_semi_hard,
                margin=config.margin,
                exclude=[examples.blocked(q) for q in queries.tolist()],
            )
        )
        negatives = np.concatenate([mined.hard_indices, mined.semi_hard_indices], axis=1)
        pair, column = np.nonzero(negatives >= 0)
        rows = np.stack([queries[pair], positives[pair], negatives[pair, column]], axis=1).astype(np.int64)
        num_hard = int((column < config.num_hard).sum())
        logger.info("epoch %d: %d hard and %d semi-hard negatives", epoch + 1, num_hard, len(rows) - num_hard)
        if len(rows) == 0:
            logger.info(
                "every positive is at least the margin (%g) above all negatives: the teacher stage ends", config.margin
            )
        self._progress.activity("training")
        return rows

    def piece(self, rows: Rows) -> Piece:
        """Questions with the passages of their triplets."""
        return triplet_piece(self._examples, rows)
