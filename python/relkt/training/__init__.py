"""Training: warm-up, teacher, contrastive and transfer. Nothing heavy is imported until :func:`train` is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

# These need torch and sentence-transformers, so they are imported when first used (PEP 562).
_LAZY = {
    "DevEvaluator": "relkt.training.evaluator",
    "RemineCallback": "relkt.training.remine",
    "train": "relkt.training.run",
}

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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'relkt.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
