"""Configuration of a training run: frozen, validated, read from TOML and written to it. Loads no torch."""

from __future__ import annotations

import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

from relkt.data.types import Level
from relkt.errors import ArgumentError
from relkt.storage import atomic_write
from relkt.training.config.fields import check_types, expect, from_dict, names_of, plain
from relkt.training.config.stage_configs import (
    ContrastiveConfig,
    DistillationConfig,
    Stage,
    StageConfig,
    TeacherConfig,
    TransferConfig,
    VocabularyConfig,
    WarmupConfig,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = ("best-muse", "best-transformer", "paper-xquad", "paper-mlqa", "paper-xorqa", "demo")
"""Names of the presets, see :meth:`TrainConfig.preset`."""


class Precision(str, Enum):
    """Number format of the forward pass; weights and optimizer state are always float32."""

    AUTO = "auto"
    """bfloat16 on a GPU or processor with instructions for it; float32 otherwise."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    """With loss scaling; needs a GPU."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Configuration of :func:`relkt.training.train`.

    Args:
        languages: The training languages, ISO 639-1 codes; empty for all languages of the data set. Questions in other
            languages are only evaluated.
        parallel_languages: Languages whose texts the vocabulary, contrastive and distillation stages use as
            translations of English texts, without their labels. These languages do not count as trained.
        level: Level of positives and negatives: single passages, or documents (their passages joined, as the authors
            did for XQuAD). The contrastive stage always contrasts passages; only its dev evaluations use this level.
        stages: The stages to run, in order. Default: the three of the paper.
        seed: Seed of all random choices. On CPU, runs with the same seed and number of threads are reproducible.
        precision: Number format of the forward pass in training.
        freeze_embeddings: True to exclude the encoder's token embeddings (but not position embeddings) from training.
            This is faster, and keeps the embeddings of tokens that do not occur in the training languages consistent.
        encode_batch_size: Texts encoded at once for mining and evaluation.
        chunk_tokens: Maximum number of tokens of a forward pass in training, padding included; 0 for no limit. The
            questions and the passages of a step (with ``accumulation``, of a micro-batch) are sorted by length and
            split into chunks, which avoids padding. The gradient still covers the whole step. A text that is longer
            than the limit is a chunk by itself.
        gradient_cache: True to keep the activations of only ``chunk_tokens`` tokens in memory, not those of the
            whole step. The other chunks are encoded again once the loss is known (Gao et al., RepL4NLP 2021), which
            takes a third more time. Then only the memory for the embeddings limits the size of a step.
        logging_steps: Number of steps between two training lines in ``metrics.jsonl``; evaluations add further lines.
        vocabulary: The vocabulary stage, before all others.
        warmup: The first stage of the paper.
        teacher: The second stage of the paper.
        contrastive: The contrastive stage, after the teacher.
        distillation: The distillation stage, before the transfer.
        transfer: The last stage.

    Raises:
        ValueError: If a value is out of range; the message has the field, the expected values and the value given.
        TypeError: If a value has the wrong type. :meth:`from_dict` and :meth:`from_toml` raise a ValueError instead,
            because their values come from outside the program.
    """

    languages: tuple[str, ...] = ()
    parallel_languages: tuple[str, ...] = ()
    level: Level = Level.PASSAGE
    stages: tuple[Stage, ...] = (Stage.WARMUP, Stage.TEACHER, Stage.TRANSFER)
    seed: int = 42
    precision: Precision = Precision.AUTO
    freeze_embeddings: bool = False
    encode_batch_size: int = 64
    chunk_tokens: int = 0
    gradient_cache: bool = False
    logging_steps: int = 50
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)

    def __post_init__(self) -> None:
        check_types(self)
        expect(self, "languages", len(set(self.languages)) == len(self.languages), "each language once")
        parallel = self.parallel_languages
        expect(self, "parallel_languages", len(set(parallel)) == len(parallel), "each language once")
        expect(self, "parallel_languages", not parallel or bool(self.languages), "none where languages is empty (all)")
        labelled = {*self.languages, "en"}
        expect(self, "parallel_languages", labelled.isdisjoint(parallel), "neither en nor one of languages")
        using = (Stage.VOCABULARY, Stage.CONTRASTIVE, Stage.DISTILLATION)
        used = any(stage in self.stages for stage in using)
        expect(self, "parallel_languages", used or not parallel, f"none without a stage of {', '.join(using)}")
        expect(self, "level", self.level is not Level.BEST_PASSAGE, "passage or document")
        in_order = tuple(stage for stage in Stage if stage in self.stages)
        expect(self, "stages", len(self.stages) > 0 and self.stages == in_order, f"some of {names_of(Stage)}, in order")
        expect(self, "seed", 0 <= self.seed < 2**32, "an integer from 0 to 4294967295")
        for name in ("encode_batch_size", "logging_steps"):
            expect(self, name, getattr(self, name) >= 1, "an integer of at least 1")
        expect(self, "chunk_tokens", self.chunk_tokens >= 0, "an integer of at least 0")
        needs_chunks = "false, or chunk_tokens above 0 to go with it"
        expect(self, "gradient_cache", self.chunk_tokens > 0 or not self.gradient_cache, needs_chunks)

    def stage(self, stage: Stage) -> StageConfig:
        """The configuration of a stage that takes steps, i.e. any but the vocabulary stage."""
        return {
            Stage.WARMUP: self.warmup,
            Stage.TEACHER: self.teacher,
            Stage.CONTRASTIVE: self.contrastive,
            Stage.DISTILLATION: self.distillation,
            Stage.TRANSFER: self.transfer,
        }[stage]

    @property
    def uses_translations(self) -> bool:
        """True if the stages use translations of passages when the data set has them."""
        return (
            Stage.VOCABULARY in self.stages
            or (Stage.CONTRASTIVE in self.stages and self.contrastive.parallel_passages)
            or (Stage.DISTILLATION in self.stages and self.distillation.segment_share > 0)
            or (Stage.TRANSFER in self.stages and self.transfer.parallel_passages)
        )

    @classmethod
    def preset(cls, name: str) -> TrainConfig:
        """A configuration that is part of relkt: ``best-muse``, ``best-transformer``, ``paper-xquad``, ``paper-mlqa``,
        ``paper-xorqa`` or ``demo``.

        Raises:
            ValueError: If there is no preset of that name.
        """
        if name not in PRESETS:
            raise ArgumentError("preset", f"one of {', '.join(PRESETS)}", repr(name))
        text = resources.files("relkt.training.config").joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")
        return cls.from_dict(tomllib.loads(text))

    @classmethod
    def from_toml(cls, path: str | Path) -> TrainConfig:
        """Read a configuration; a missing key gets its default.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is not TOML, has an unknown key, or has a value of the wrong type or out of range.
        """
        path = Path(path)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a TOML file: {error}") from error
        try:
            return cls.from_dict(table)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> TrainConfig:
        """Make a configuration from plain values, as from :meth:`to_dict`.

        Raises:
            ValueError: If ``table`` has an unknown key, or a value of the wrong type or out of range.
        """
        return from_dict(cls, table)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: enums by value, tuples as lists, stages as nested dictionaries."""
        return typing.cast(dict[str, Any], plain(self))

    def to_toml(self, path: str | Path) -> None:
        """Write every field to a file; :meth:`from_toml` reads an equal configuration from it."""
        atomic_write(path, self.dumps())

    def dumps(self) -> str:
        """The text that :meth:`to_toml` writes."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())
