"""Training of cross-lingual retrievers in stages. Importing this package loads no torch."""

from typing import TYPE_CHECKING

from relkt._lazy import lazy_attach
from relkt.training.config import (
    PRESETS,
    ContrastiveConfig,
    DistillationConfig,
    Precision,
    Schedule,
    Stage,
    StageConfig,
    TeacherConfig,
    TrainConfig,
    TransferConfig,
    VocabularyConfig,
    WarmupConfig,
)
from relkt.training.progress import DevScore, Progress

if TYPE_CHECKING:
    from relkt.training.model.dev_evaluator import DevEvaluator
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
        "relkt.training.model.dev_evaluator": ["DevEvaluator"],
        "relkt.training.remine": ["RemineCallback"],
        "relkt.training.run": ["train"],
    },
)
