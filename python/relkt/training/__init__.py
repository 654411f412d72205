"""Training: warm-up, teacher, contrastive and transfer. Nothing heavy is imported until :func:`train` is used."""

from typing import TYPE_CHECKING

from relkt._lazy import lazy_attach
from relkt.training.config import PRESETS, Precision, TrainConfig
from relkt.training.progress import DevScore, Progress
from relkt.training.stage_config import (
    ContrastiveConfig,
    DistillationConfig,
    Schedule,
    Stage,
    StageConfig,
    TeacherConfig,
    TransferConfig,
    VocabularyConfig,
    WarmupConfig,
)

if TYPE_CHECKING:
    from relkt.training.evaluator import DevEvaluator
    from relkt.training.remine import RemineCallback
    from relkt.training.run import train


__all__ = [
    "PRESETS",
    "ContrastiveConfig",
    "DevEvaluator",
    "DevScore",
    "DistillationConfig",
    "Precision",
    "Progress",
    "RemineCallback",
    "Schedule",
    "Stage",
    "StageConfig",
    "TeacherConfig",
    "TrainConfig",
    "TransferConfig",
    "VocabularyConfig",
    "WarmupConfig",
    "train",
]

__getattr__, __dir__ = lazy_attach(
    __name__,
    {
        "relkt.training.evaluator": ["DevEvaluator"],
        "relkt.training.remine": ["RemineCallback"],
        "relkt.training.run": ["train"],
    },
)
