"""Configuration of a training run. Loads no torch."""

from relkt.training.config.stage_configs import (
    ContrastiveConfig,
    DistillationConfig,
    Schedule,
    Stage,
    StageConfig,
    TeacherConfig,
    TransferConfig,
    TripletConfig,
    VocabularyConfig,
    WarmupConfig,
)
from relkt.training.config.train_config import PRESETS, Precision, TrainConfig

__all__ = [
    "PRESETS",
    "ContrastiveConfig",
    "DistillationConfig",
    "Precision",
    "Schedule",
    "Stage",
    "StageConfig",
    "TeacherConfig",
    "TrainConfig",
    "TransferConfig",
    "TripletConfig",
    "VocabularyConfig",
    "WarmupConfig",
]
