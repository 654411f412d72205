"""The stages, a file each: which rows an epoch has, what a batch of them is, and the loss."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer

from relkt.training.config import Stage, TrainConfig
from relkt.training.examples import TrainingSet
from relkt.training.progress import Progress
from relkt.training.stages.contrastive import Contrastive
from relkt.training.stages.distillation import Distillation
from relkt.training.stages.stage import StagePlan
from relkt.training.stages.teacher import Teacher
from relkt.training.stages.transfer import Transfer
from relkt.training.stages.warmup import Warmup


def make_stage(
    stage: Stage,
    model: SentenceTransformer,
    examples: TrainingSet,
    config: TrainConfig,
    progress: Progress,
    teacher: SentenceTransformer | None = None,
) -> StagePlan:
    """The plan of a stage; the teacher is that of the transfer, where it is another model."""
    if stage is Stage.WARMUP:
        return Warmup(model, examples, config)
    if stage is Stage.TEACHER:
        return Teacher(model, examples, config, progress)
    if stage is Stage.CONTRASTIVE:
        return Contrastive(model, examples, config)
    if stage is Stage.DISTILLATION:
        return Distillation(model, examples.data, examples.languages, config, progress)
    if stage is Stage.TRANSFER:
        return Transfer(model, examples, config, progress, teacher)
    raise ValueError(f"stage: expected one that takes steps, got {stage.value}")
