"""The warm-up stage: triplets with BM25 negatives."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer

from relkt.training.config import TrainConfig, WarmupConfig
from relkt.training.distributed.processes import from_rank_0
from relkt.training.examples import Rows, TrainingSet
from relkt.training.examples.negatives import bm25_negatives, random_negatives
from relkt.training.stages.stage import Piece, StageLoss, StagePlan
from relkt.training.stages.triplets import TripletStageLoss, triplet_piece


class Warmup(StagePlan):
    """Warm-up: triplets with BM25 negatives, then with random ones where the configuration says so.

    Args:
        model: The encoder.
        examples: Questions and candidates.
        config: The run.
    """

    def __init__(self, model: SentenceTransformer, examples: TrainingSet, config: TrainConfig) -> None:
        self._examples = examples
        self._config: WarmupConfig = config.warmup
        self._seed = config.seed
        examples.check_negatives()
        self._bm25 = from_rank_0(
            lambda: bm25_negatives(examples, num_negatives=self._config.num_negatives, seed=config.seed)
        )
        self.loss: StageLoss = TripletStageLoss(model, self._config)
        self.most_rows = len(self._bm25)
        self.rows_per_step = self._config.batch_size

    def rows(self, epoch: int) -> Rows:
        """Triplets (question row, positive row, negative row)."""
        if self._config.bm25_epochs and epoch >= self._config.bm25_epochs:
            return random_negatives(
                self._examples, num_negatives=self._config.num_negatives, seed=self._seed, epoch=epoch
            )
        return self._bm25

    def piece(self, rows: Rows) -> Piece:
        """Questions with the passages of their triplets."""
        return triplet_piece(self._examples, rows)
