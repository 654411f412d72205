"""The training stages. Each file defines the examples, the batches and the loss of one stage."""

from __future__ import annotations

from collections.abc import Callable

from sentence_transformers import SentenceTransformer

from relkt.training.config import Stage
from relkt.training.progress import Progress
from relkt.training.stages.contrastive import Contrastive
from relkt.training.stages.distillation import Distillation
from relkt.training.stages.prepared import Prepared
from relkt.training.stages.stage import MicroBatch, StageLoss, TrainingStage
from relkt.training.stages.teacher import Teacher
from relkt.training.stages.transfer import Transfer
from relkt.training.stages.warmup import Warmup

STAGES: dict[Stage, Callable[[SentenceTransformer, Prepared, Progress], TrainingStage]] = {
    Stage.WARMUP: Warmup,
    Stage.TEACHER: Teacher,
    Stage.CONTRASTIVE: Contrastive,
    Stage.DISTILLATION: Distillation,
    Stage.TRANSFER: Transfer,
}
"""The stages that take optimizer steps; the vocabulary stage does not."""

__all__ = [
    "STAGES",
    "Contrastive",
    "Distillation",
    "MicroBatch",
    "Prepared",
    "StageLoss",
    "Teacher",
    "TrainingStage",
    "Transfer",
    "Warmup",
]
