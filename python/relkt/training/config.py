"""Configuration of a training run: frozen, validated when made, written to and read from TOML. Loads no torch."""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from relkt.data.types import Level
from relkt.losses import Reduction

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = ("best-muse", "best-transformer", "paper-xquad", "paper-mlqa", "paper-xorqa", "demo")
"""The names that :meth:`TrainConfig.preset` knows."""


class Stage(str, Enum):
    """A stage of the recipe; they run in this order."""

    VOCABULARY = "vocabulary"
    """New pieces for mUSE. Not part of the paper's recipe."""
    WARMUP = "warmup"
    TEACHER = "teacher"
    CONTRASTIVE = "contrastive"
    """Not part of the paper's recipe."""
    DISTILLATION = "distillation"
    """Not part of the paper's recipe."""
    TRANSFER = "transfer"


class Schedule(str, Enum):
    """How the learning rate changes over a stage, after its warm-up steps."""

    CONSTANT = "constant"
    LINEAR = "linear"
    """Falls in a straight line to 0 at the end of the last epoch."""
    COSINE = "cosine"
    """Falls along half a cosine to 0 at the end of the last epoch."""


class Precision(str, Enum):
    """The number format of the forward pass; weights and optimizer state are always float32."""

    AUTO = "auto"
    """bfloat16 on a GPU or processor with instructions for it, otherwise float32."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    """With loss scaling; needs a GPU."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What the stages have in common.

    Args:
        epochs: The most passes over the stage's examples; early stopping may end it before.
        learning_rate: Of Adam.
        batch_size: Examples of one optimizer step. The last batch of an epoch may be smaller; none is dropped.
        accumulation: Pieces a batch is cut into to save memory; the gradient is that of the whole batch.
        weight_decay: Decoupled weight decay (AdamW); 0 is plain Adam.
        adam_epsilon: Adam's epsilon; 1e-7 is the default of Keras, which the authors used.
        max_grad_norm: Gradients are scaled down to this norm; 0 leaves them as they are.
        warmup_steps: Steps over which the learning rate rises in a straight line from 0.
        schedule: What the learning rate does after that.
        halve_lr_every: Halve the learning rate at the 1st, the ``n + 1``-th, the ``2 n + 1``-th ... evaluation in a row
            that does not improve dev P@1; 1 at each, 0 never.
        evaluations_per_epoch: Dev evaluations an epoch, evenly spaced, the last one at its end. Each is followed by a
            checkpoint, so this is also what a killed run may have to do again.
        patience: Stop after this many evaluations in a row without a better dev P@1; 0 never stops early.
        min_epochs: Never stop early before this many epochs are finished.
    """

    epochs: int = 10
    learning_rate: float = 1e-5
    batch_size: int = 16
    accumulation: int = 1
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-7
    max_grad_norm: float = 0.0
    warmup_steps: int = 0
    schedule: Schedule = Schedule.CONSTANT
    halve_lr_every: int = 0
    evaluations_per_epoch: int = 1
    patience: int = 3
    min_epochs: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("epochs", "batch_size", "accumulation", "evaluations_per_epoch"):
            _expect(self, name, getattr(self, name) >= 1, "an integer of at least 1")
        for name in ("warmup_steps", "halve_lr_every", "patience", "min_epochs"):
            _expect(self, name, getattr(self, name) >= 0, "an integer of at least 0")
        for name in ("learning_rate", "adam_epsilon"):
            _expect(self, name, getattr(self, name) > 0, "a number above 0")
        for name in ("weight_decay", "max_grad_norm"):
            _expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
        _expect(self, "min_epochs", self.min_epochs <= self.epochs, f"at most epochs ({self.epochs})")
        _expect(self, "accumulation", self.accumulation <= self.batch_size, f"at most batch_size ({self.batch_size})")


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
    """The vocabulary stage, which is ours: mUSE learns words of languages that it falls into letters.

    No labels are used and no gradient is taken: :func:`relkt.encoders.extend_vocabulary` learns pieces from the
    training questions and the passages' translations, and their embeddings from the English versions.

    Args:
        num_pieces: Pieces learned for each language, its single characters and those that mUSE has among them.
        languages: The languages; empty for all that are trained and all of ``parallel_languages``, but English.
    """

    num_pieces: int = 8000
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_types(self)
        _expect(self, "num_pieces", self.num_pieces >= 1, "an integer of at least 1")
        once = len(set(self.languages)) == len(self.languages)
        _expect(self, "languages", once and "en" not in self.languages, "each language once, and not en")


@dataclass(frozen=True, kw_only=True)
class TripletConfig(StageConfig):
    """What the two stages with a triplet loss have in common.

    Args:
        margin: Margin of the triplet loss on cosine distance, in (0, 2].
        reduction: Over the batch; the authors sum.
    """

    margin: float = 0.24
    reduction: Reduction = Reduction.SUM

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "margin", 0 < self.margin <= 2, "a number in (0, 2]")


@dataclass(frozen=True, kw_only=True)
class WarmupConfig(TripletConfig):
    """The first stage: BM25 negatives (paper section 2.1).

    Args:
        num_negatives: Triplets a question: its BM25 ranks 1 to this.
        bm25_epochs: Epochs with BM25 negatives, after which random ones take their place (as the authors' script
            does); 0 keeps BM25 for the whole stage.
    """

    num_negatives: int = 3
    bm25_epochs: int = 0
    halve_lr_every: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "num_negatives", self.num_negatives >= 1, "an integer of at least 1")
        _expect(self, "bm25_epochs", self.bm25_epochs >= 0, "an integer of at least 0")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(TripletConfig):
    """The second stage: negatives mined with the current model at the start of each epoch (paper section 2.1).

    Args:
        num_hard: The most hard negatives a question: those scoring above its positive.
        num_semi_hard: The most semi-hard negatives a question: those scoring less than ``margin`` below it.
    """

    num_hard: int = 1
    num_semi_hard: int = 1
    halve_lr_every: int = 1
    evaluations_per_epoch: int = 4
    patience: int = 20
    epochs: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_hard", "num_semi_hard"):
            _expect(self, name, getattr(self, name) >= 0, "an integer of at least 0")
        _expect(self, "num_hard", self.num_hard + self.num_semi_hard >= 1, "num_hard + num_semi_hard of at least 1")


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(StageConfig):
    """The contrastive stage, which is ours: a question against all passages of a batch of documents (InfoNCE).

    A batch holds some documents with all their passages, so that the passages hardest to tell from a question's own,
    those of the same document, are among its negatives. Beside the questions, pseudo-questions are anchors: spans cut
    from the passages, and from their translations. An epoch has each question in each language at least once: it
    goes through the documents as often as that takes.

    Args:
        batch_size: *Documents* of one optimizer step; the batches of an epoch differ in size by at most one.
        temperature: What cosines are divided by.
        languages_per_question: Translations of one question in a batch.
        pseudo_questions: Spans cut from each passage of a batch, each from the passage or one of its translations into
            the languages trained and those of ``parallel_languages``, drawn at random.
        parallel_passages: Whether spans are cut from translations of passages too, where the data set has them.
        include_english: Also train on the English questions of the data set where English is not among the languages
            trained.
        document_weight: Weight of the same loss with whole documents (their passages joined) in the place of passages,
            beside that with passages, which weighs 1; 0 embeds no document.
        transfer_weight: Weight of the transfer of questions in ``parallel_languages``, of which a batch has each
            question in one; 0 leaves them out.
        tuned_shares: After the last step, the weights w that the stage started from and the best ones v are averaged,
            ``w + share * (v - w)``, with the share that gives the best dev P@1, the first one of equals (WiSE-FT,
            Wortsman et al., CVPR 2022). Each in (0, 1]; 1 is the stage's own result.
    """

    temperature: float = 0.05
    languages_per_question: int = 2
    pseudo_questions: int = 4
    parallel_passages: bool = True
    include_english: bool = True
    document_weight: float = 0.0
    transfer_weight: float = 1.0
    tuned_shares: tuple[float, ...] = (1.0,)
    batch_size: int = 12
    learning_rate: float = 3e-4
    patience: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "accumulation", self.accumulation == 1, "1, as a batch is contrasted as a whole")
        _expect(self, "temperature", self.temperature > 0, "a number above 0")
        _expect(self, "languages_per_question", self.languages_per_question >= 1, "an integer of at least 1")
        _expect(self, "pseudo_questions", self.pseudo_questions >= 0, "an integer of at least 0")
        for name in ("document_weight", "transfer_weight"):
            _expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
        _check_shares(self)


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(StageConfig):
    """The distillation stage, which is ours: the English space of the model as the stage starts, for every language.

    The frozen start embeds English texts and the passages once: v of a text's English version, and the passages P. A
    text in any language with the unit embedding u costs ``embedding_weight * |u - v|**2``, ``score_weight`` times the
    Kullback-Leibler divergence of ``softmax(u P / t)`` from ``softmax(v P / t)`` over *all* passages, and, if it is a
    question with a label, ``label_weight`` times InfoNCE of its passage against all others. That is the paper's
    transfer (section 2.2) with the ranking in the place of most of the distance, and with the sentences of translated
    passages as further texts. As each text has its own loss, ``accumulation`` saves memory at no cost.

    Args:
        batch_size: Texts of one optimizer step.
        temperature: What cosines are divided by.
        embedding_weight: Weight of the squared distance.
        score_weight: Weight of the divergence of the scores.
        label_weight: Weight of InfoNCE, for questions in the languages trained and in English.
        languages_per_question: Languages, drawn at random, in which an epoch has each question.
        segment_share: Share of the passages' sentences that an epoch has, each in one language, in [0, 1].
        passage_share: Share of the passages that an epoch has; they are held where they are. In [0, 1].
        tuned_shares: As for :class:`ContrastiveConfig`.
    """

    temperature: float = 0.02
    embedding_weight: float = 5.0
    score_weight: float = 1.0
    label_weight: float = 0.5
    languages_per_question: int = 2
    segment_share: float = 0.36
    passage_share: float = 0.15
    tuned_shares: tuple[float, ...] = (1.0,)
    batch_size: int = 448
    accumulation: int = 8
    learning_rate: float = 1e-4
    patience: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "temperature", self.temperature > 0, "a number above 0")
        for name in ("embedding_weight", "score_weight", "label_weight"):
            _expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
        weights = self.embedding_weight + self.score_weight + self.label_weight
        _expect(self, "embedding_weight", weights > 0, "a weight above 0 for at least one term")
        _expect(self, "languages_per_question", self.languages_per_question >= 1, "an integer of at least 1")
        for name in ("segment_share", "passage_share"):
            _expect(self, name, 0 <= getattr(self, name) <= 1, "a number in [0, 1]")
        _check_shares(self)


@dataclass(frozen=True, kw_only=True)
class TransferConfig(StageConfig):
    """The paper's third stage: the language knowledge transfer (paper section 2.2).

    Args:
        query_query: Weight of MSE(student question, teacher English question).
        passage_passage: Weight of MSE(student passage, teacher passage).
        query_passage: Weight of MSE(student question, teacher passage).
        scale: Factor of all three.
        reduction: Over the batch; the authors average.
        include_english: Also transfer on the English questions of the data set where English is not among the
            languages trained; it holds English in place. The authors do not.
        parallel_passages: Whether the student's embedding of a passage's translation into the language of a question is
            drawn to the teacher's of the passage too, where the data set has one, with the weight of passage_passage.
            The authors have no such term.
        always_project: With another model as the teacher, put a learned projection behind the student even if it has as
            many dimensions as the teacher. If it has not, there is one in any case.
        projection_ridge: How strongly the weights that the projection starts with are shrunk; relative to the variance
            of the student's embeddings (see :func:`relkt.encoders.projection.fit_projection`).
    """

    query_query: float = 0.001
    passage_passage: float = 1.0
    query_passage: float = 0.01
    scale: float = 1000.0
    reduction: Reduction = Reduction.MEAN
    include_english: bool = True
    parallel_passages: bool = False
    always_project: bool = False
    projection_ridge: float = 0.3
    learning_rate: float = 1e-3
    halve_lr_every: int = 1
    evaluations_per_epoch: int = 4
    patience: int = 20
    epochs: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("query_query", "passage_passage", "query_passage"):
            _expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
        for name in ("scale", "projection_ridge"):
            _expect(self, name, getattr(self, name) > 0, "a number above 0")
        _expect(
            self,
            "query_query",
            self.query_query + self.passage_passage + self.query_passage > 0,
            "a weight above 0 for at least one of query_query, passage_passage and query_passage",
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Configuration of :func:`relkt.training.train`.

    Args:
        languages: The languages trained, ISO 639-1 codes; empty for all of the data set. Questions in other languages
            are only evaluated.
        parallel_languages: Languages whose texts are used only as translations of English ones, never their labels: by
            the vocabulary, the contrastive and the distillation stage. They count as not trained.
        level: What a positive and a negative is: single passages, or documents (their passages joined, as the authors
            did for XQuAD). The contrastive stage always contrasts passages; for it, this is the level of the dev
            evaluations.
        stages: The stages to run, in their order; default the three of the paper.
        seed: Of every random choice. Runs with the same seed are repeatable on CPU with the same number of threads.
        precision: Number format of the forward pass while training.
        freeze_embeddings: Leave the encoder's table of token embeddings (not those of positions) as it is: faster, and
            it keeps tokens that the training languages lack in place.
        encode_batch_size: Texts encoded at once for mining and evaluation.
        chunk_tokens: The most tokens of one forward pass of training, padding included; 0 for no limit. The questions
            and the passages of a step (of a piece, with ``accumulation``) are sorted by length and cut into such
            chunks, so that little is padded; the gradient is that of the whole step. A longer text is a chunk by
            itself.
        gradient_cache: Whether to keep the activations of ``chunk_tokens`` tokens only in memory, instead of those of
            the whole step: the other chunks are run a second time once the loss is known (Gao et al., RepL4NLP 2021).
            So a step may be as large as its embeddings allow, for a third more time.
        logging_steps: A training line in ``metrics.jsonl`` each so many steps (and at each evaluation).
        vocabulary: The vocabulary stage, before all others.
        warmup: The first stage of the paper.
        teacher: The second stage.
        contrastive: The contrastive stage, after the teacher.
        distillation: The distillation stage, before the transfer.
        transfer: The last stage.

    Raises:
        ValueError: If a value is out of range; the message names the field, what was expected, and what came.
        TypeError: If a value has the wrong type; :meth:`from_dict` and :meth:`from_toml`, whose values come from
            outside the program, raise ValueError for it.
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
        _check_types(self)
        _expect(self, "languages", len(set(self.languages)) == len(self.languages), "each language once")
        parallel = self.parallel_languages
        _expect(self, "parallel_languages", len(set(parallel)) == len(parallel), "each language once")
        _expect(self, "parallel_languages", not parallel or bool(self.languages), "none where languages is empty (all)")
        labelled = {*self.languages, "en"}
        _expect(self, "parallel_languages", labelled.isdisjoint(parallel), "neither en nor one of languages")
        using = (Stage.VOCABULARY, Stage.CONTRASTIVE, Stage.DISTILLATION)
        used = any(stage in self.stages for stage in using)
        _expect(self, "parallel_languages", used or not parallel, f"none without a stage of {', '.join(using)}")
        _expect(self, "level", self.level is not Level.BEST_PASSAGE, "passage or document")
        in_order = tuple(stage for stage in Stage if stage in self.stages)
        _expect(self, "stages", len(self.stages) > 0 and self.stages == in_order, f"some of {_names(Stage)}, in order")
        _expect(self, "seed", 0 <= self.seed < 2**32, "an integer from 0 to 4294967295")
        for name in ("encode_batch_size", "logging_steps"):
            _expect(self, name, getattr(self, name) >= 1, "an integer of at least 1")
        _expect(self, "chunk_tokens", self.chunk_tokens >= 0, "an integer of at least 0")
        needs_chunks = "false, or chunk_tokens above 0 to go with it"
        _expect(self, "gradient_cache", self.chunk_tokens > 0 or not self.gradient_cache, needs_chunks)

    def stage(self, stage: Stage) -> StageConfig:
        """The configuration of one stage; the vocabulary stage, which takes no steps, has none of this kind."""
        return {
            Stage.WARMUP: self.warmup,
            Stage.TEACHER: self.teacher,
            Stage.CONTRASTIVE: self.contrastive,
            Stage.DISTILLATION: self.distillation,
            Stage.TRANSFER: self.transfer,
        }[stage]

    @property
    def uses_translations(self) -> bool:
        """Whether translations of passages are trained on, where the data set has them."""
        return (
            Stage.VOCABULARY in self.stages
            or (Stage.CONTRASTIVE in self.stages and self.contrastive.parallel_passages)
            or (Stage.DISTILLATION in self.stages and self.distillation.segment_share > 0)
            or (Stage.TRANSFER in self.stages and self.transfer.parallel_passages)
        )

    @classmethod
    def preset(cls, name: str) -> TrainConfig:
        """A configuration shipped with relkt: ``best-muse``, ``best-transformer``, ``paper-xquad``, ``paper-mlqa``,
        ``paper-xorqa`` or ``demo``.

        Raises:
            ValueError: If there is no preset of that name.
        """
        if name not in PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
        text = resources.files("relkt.training").joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")
        return cls.from_dict(tomllib.loads(text))

    @classmethod
    def from_toml(cls, path: str | Path) -> TrainConfig:
        """Read a configuration; what the file leaves out has its default.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not TOML, names an unknown key, or holds a value of the wrong type or out of range.
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
        """A configuration from plain values, as :meth:`to_dict` gives them.

        Raises:
            ValueError: If it names an unknown key, or holds a value of the wrong type or out of range.
        """
        return _from_dict(cls, table)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: enums by value, tuples as lists, stages as nested dictionaries."""
        return typing.cast(dict[str, Any], _plain(self))

    def to_toml(self, path: str | Path) -> None:
        """Write every field to a file that :meth:`from_toml` reads back to an equal configuration."""
        Path(path).write_text(self.dumps(), encoding="utf-8")

    def dumps(self) -> str:
        """The text that :meth:`to_toml` writes."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())


_T = TypeVar("_T")


def _from_dict(cls: type[_T], table: Mapping[str, Any], prefix: str = "") -> _T:
    if not isinstance(table, Mapping):
        raise ValueError(f"{prefix.rstrip('.')}: expected a table, got {table!r}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in fields(typing.cast(Any, cls))]
    if unknown := [key for key in table if key not in names]:
        keys = ", ".join(prefix + key for key in unknown)
        raise ValueError(f"unknown key{'s' * (len(unknown) > 1)} {keys}; expected some of {', '.join(names)}")
    values = {key: _parse(hints[key], value, prefix + key) for key, value in table.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _parse(hint: Any, value: Any, name: str) -> Any:
    """Plain values to the field's types; what does not fit is left for the check in ``__post_init__``."""
    if is_dataclass(hint):
        return _from_dict(typing.cast("type[Any]", hint), value, name + ".")
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise ValueError(f"{name}: expected one of {_names(hint)}, got {value!r}") from None
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_parse(typing.get_args(hint)[0], item, name) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _check_types(config: Any) -> None:
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            object.__setattr__(config, name, value := float(value))
        if not _is_a(value, hint):
            raise TypeError(f"{_field(config, name)}: expected {_describe(hint)}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{_field(config, name)}: expected a finite number, got {value}")


def _is_a(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_a(item, typing.get_args(hint)[0]) for item in value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a tuple of {_describe(typing.get_args(hint)[0])}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"a {hint.__name__} ({_names(hint)})"
    return {int: "an integer", float: "a number", bool: "true or false", str: "a string"}.get(
        hint, f"a {getattr(hint, '__name__', hint)}"
    )


def _check_shares(config: ContrastiveConfig | DistillationConfig) -> None:
    shares = config.tuned_shares
    _expect(config, "tuned_shares", len(shares) > 0 and all(0 < s <= 1 for s in shares), "numbers in (0, 1]")
    _expect(config, "tuned_shares", len(set(shares)) == len(shares), "each share once")


def _names(enum: type[Enum]) -> str:
    return ", ".join(str(member.value) for member in enum)


def _expect(config: Any, name: str, holds: bool, expected: str) -> None:
    if not holds:
        value = getattr(config, name)
        raise ValueError(f"{_field(config, name)}: expected {expected}, got {_plain(value)!r}")


def _field(config: Any, name: str) -> str:
    prefixes: dict[type[Any], str] = {
        WarmupConfig: "warmup.",
        TeacherConfig: "teacher.",
        ContrastiveConfig: "contrastive.",
        TransferConfig: "transfer.",
    }
    return prefixes.get(type(config), "") + name
