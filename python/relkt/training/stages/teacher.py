"""The teacher stage: triplets with negatives that the model itself mines."""

from __future__ import annotations

import logging

import numpy as np
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.mining import mine
from relkt.training.config import TeacherConfig
from relkt.training.distributed.encoding import encode_passages, encode_queries
from relkt.training.distributed.processes import from_rank_0
from relkt.training.examples import Rows
from relkt.training.model.precision import original_forward
from relkt.training.progress import Progress
from relkt.training.stages.prepared import Prepared
from relkt.training.stages.stage import MicroBatch, TrainingStage
from relkt.training.stages.triplets import TripletStageLoss, TripletTargets, triplet_batch

logger = logging.getLogger(__name__)


class Teacher(TrainingStage):
    """Triplets with hard and semi-hard negatives, mined with the current model at the start of each epoch.

    Args:
        model: The encoder.
        prepared: Inputs of the run.
        progress: Receives the activity "mining".
    """

    def __init__(self, model: SentenceTransformer, prepared: Prepared, progress: Progress) -> None:
        self._model = model
        self._training_set = training_set = prepared.training_set()
        self._config: TeacherConfig = prepared.config.teacher
        self._encode_batch_size = prepared.config.encode_batch_size
        self._progress = progress
        self.loss = TripletStageLoss(model, self._config)
        self.max_examples = len(training_set.pairs) * (self._config.num_hard + self._config.num_semi_hard)
        self.examples_per_step = self._config.batch_size

    @override
    def examples(self, epoch: int) -> Rows:
        """Mines triplets ``(question row, positive row, negative row)``.

        Each positive has up to ``num_hard`` negatives that score above it, and up to ``num_semi_hard`` that score below
        it by less than the margin. If a question has several positives, each gets its own negatives. Blocked candidates
        (:meth:`TrainingSet.blocked`) are not negatives.
        """
        self._progress.activity("mining")
        training_set, config = self._training_set, self._config
        texts = list(dict.fromkeys(q.text for q in training_set.queries))
        row_of = {text: row for row, text in enumerate(texts)}
        with original_forward(self._model):
            embedded = encode_queries(self._model, texts, batch_size=self._encode_batch_size)
            passages = encode_passages(
                self._model, list(training_set.candidates.texts), batch_size=self._encode_batch_size
            )
        queries, positives = training_set.pairs[:, 0], training_set.pairs[:, 1]
        mined = from_rank_0(
            lambda: mine(
                embedded[[row_of[training_set.queries[q].text] for q in queries.tolist()]],
                passages,
                positives,
                num_hard=config.num_hard,
                num_semi_hard=config.num_semi_hard,
                margin=config.margin,
                exclude=[training_set.blocked(q) for q in queries.tolist()],
            )
        )
        negatives = np.concatenate([mined.hard_indices, mined.semi_hard_indices], axis=1)
        pair, column = np.nonzero(negatives >= 0)
        triplets = np.stack([queries[pair], positives[pair], negatives[pair, column]], axis=1).astype(np.int64)
        num_hard = int((column < config.num_hard).sum())
        logger.info("epoch %d: %d hard and %d semi-hard negatives", epoch + 1, num_hard, len(triplets) - num_hard)
        if len(triplets) == 0:
            logger.info(
                "every positive scores at least the margin (%g) above all negatives: ending the teacher stage",
                config.margin,
            )
        self._progress.activity("training")
        return triplets

    @override
    def batch(self, examples: Rows) -> MicroBatch[TripletTargets]:
        """The texts of some triplets."""
        return triplet_batch(self._training_set, examples)
