"""The warm-up stage: triplets with BM25 negatives."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.training.config import WarmupConfig
from relkt.training.distributed.processes import from_rank_0
from relkt.training.examples import Rows
from relkt.training.examples.negatives import bm25_negatives, random_negatives
from relkt.training.progress import Progress
from relkt.training.stages.prepared import Prepared
from relkt.training.stages.stage import MicroBatch, TrainingStage
from relkt.training.stages.triplets import TripletStageLoss, TripletTargets, triplet_batch


class Warmup(TrainingStage):
    """Triplets with BM25 negatives in the first ``bm25_epochs`` epochs, and with random negatives in later epochs.

    Args:
        model: The encoder.
        prepared: Inputs of the run.
        progress: Not used.
    """

    def __init__(self, model: SentenceTransformer, prepared: Prepared, progress: Progress) -> None:  # noqa: ARG002
        self._training_set = training_set = prepared.training_set()
        self._config: WarmupConfig = prepared.config.warmup
        self._seed = prepared.config.seed
        training_set.check_negatives()
        self._bm25 = from_rank_0(
            lambda: bm25_negatives(training_set, num_negatives=self._config.num_negatives, seed=self._seed)
        )
        self.loss = TripletStageLoss(model, self._config)
        self.max_examples = len(self._bm25)
        self.examples_per_step = self._config.batch_size

    @override
    def examples(self, epoch: int) -> Rows:
        """Triplets ``(question row, positive row, negative row)``."""
        config = self._config
        if config.bm25_epochs and epoch >= config.bm25_epochs:
            return random_negatives(
                self._training_set, num_negatives=config.num_negatives, seed=self._seed, epoch=epoch
            )
        return self._bm25

    @override
    def batch(self, examples: Rows) -> MicroBatch[TripletTargets]:
        """The texts of some triplets."""
        return triplet_batch(self._training_set, examples)
