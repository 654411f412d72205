"""Configuration of the stages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relkt.losses import Reduction
from relkt.training.config.fields import check_types, expect


class Stage(str, Enum):
    """A stage of the recipe; they run in this order."""

    VOCABULARY = "vocabulary"
    """Adds pieces to mUSE's vocabulary. Not part of the paper's recipe."""
    WARMUP = "warmup"
    TEACHER = "teacher"
    CONTRASTIVE = "contrastive"
    """Not part of the paper's recipe."""
    DISTILLATION = "distillation"
    """Not part of the paper's recipe."""
    TRANSFER = "transfer"


class Schedule(str, Enum):
    """Learning rate over a stage, after its warm-up steps."""

    CONSTANT = "constant"
    LINEAR = "linear"
    """Falls linearly to 0 at the end of the last epoch."""
    COSINE = "cosine"
    """Falls as a half cosine to 0 at the end of the last epoch."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Settings of all stages that take optimizer steps.

    Args:
        epochs: Maximum number of epochs; early stopping may end the stage sooner.
        learning_rate: Adam's learning rate.
        batch_size: Examples of one optimizer step. The last batch of an epoch may be smaller; none is dropped.
        accumulation: Number of micro-batches of a batch, to save memory; the gradient still covers the whole batch.
        weight_decay: Decoupled weight decay (AdamW); 0 is plain Adam.
        adam_epsilon: Adam's epsilon; 1e-7 is the default of Keras, which the authors used.
        max_grad_norm: Maximum norm of the gradient; a larger gradient is scaled down to it. 0 means no maximum.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        schedule: Learning rate after the warm-up steps.
        halve_lr_every: The learning rate is halved at the 1st, the ``n + 1``-th, the ``2 n + 1``-th ... consecutive
            evaluation without a better dev P@1. 1 halves it at each such evaluation, 0 never.
        evaluations_per_epoch: Dev evaluations per epoch, evenly spaced, the last at the end of the epoch. A checkpoint
            follows each, so a killed run repeats at most the steps between two evaluations.
        patience: Number of consecutive evaluations without a better dev P@1 after which the stage ends; 0 never ends it
            early.
        min_epochs: Number of epochs before which the stage never ends early.
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
        check_types(self)
        for name in ("epochs", "batch_size", "accumulation", "evaluations_per_epoch"):
            expect(self, name, getattr(self, name) >= 1, "an integer of at least 1")
        for name in ("warmup_steps", "halve_lr_every", "patience", "min_epochs"):
            expect(self, name, getattr(self, name) >= 0, "an integer of at least 0")
        for name in ("learning_rate", "adam_epsilon"):
            expect(self, name, getattr(self, name) > 0, "a number above 0")
        for name in ("weight_decay", "max_grad_norm"):
            expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
        expect(self, "min_epochs", self.min_epochs <= self.epochs, f"at most epochs ({self.epochs})")
        expect(self, "accumulation", self.accumulation <= self.batch_size, f"at most batch_size ({self.batch_size})")


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
    """The vocabulary stage, not part of the paper: adds pieces for languages that mUSE's tokenizer splits into letters.

    The stage needs no labels and takes no optimizer steps. :func:`relkt.encoders.extend_vocabulary` learns pieces from
    the training questions and the passages' translations. It learns the embeddings of these pieces from the English
    versions.

    Args:
        num_pieces: Number of pieces learned for each language, including its single characters and pieces that mUSE
            already has.
        languages: The languages; empty means the training languages and ``parallel_languages``, without English.
    """

    num_pieces: int = 8000
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        expect(self, "num_pieces", self.num_pieces >= 1, "an integer of at least 1")
        once = len(set(self.languages)) == len(self.languages)
        expect(self, "languages", once and "en" not in self.languages, "each language once, and not en")


@dataclass(frozen=True, kw_only=True)
class TripletConfig(StageConfig):
    """Settings of the two stages with a triplet loss.

    Args:
        margin: Margin of the triplet loss on cosine distance, in (0, 2].
        reduction: Reduction over the batch; the authors sum.
    """

    margin: float = 0.24
    reduction: Reduction = Reduction.SUM

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self, "margin", 0 < self.margin <= 2, "a number in (0, 2]")


@dataclass(frozen=True, kw_only=True)
class WarmupConfig(TripletConfig):
    """The first stage: BM25 negatives (paper section 2.1).

    Args:
        num_negatives: Negatives per question: the BM25 candidates of rank 1 to ``num_negatives``.
        bm25_epochs: Number of epochs with BM25 negatives; in later epochs, random negatives replace them, as in the
            authors' script. 0 uses BM25 negatives in the whole stage.
    """

    num_negatives: int = 3
    bm25_epochs: int = 0
    halve_lr_every: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self, "num_negatives", self.num_negatives >= 1, "an integer of at least 1")
        expect(self, "bm25_epochs", self.bm25_epochs >= 0, "an integer of at least 0")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(TripletConfig):
    """The second stage: negatives mined with the current model at the start of each epoch (paper section 2.1).

    Args:
        num_hard: Maximum number of hard negatives per question, which score above its positive.
        num_semi_hard: Maximum number of semi-hard negatives per question, which score less than ``margin`` below its
            positive.
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
            expect(self, name, getattr(self, name) >= 0, "an integer of at least 0")
        expect(self, "num_hard", self.num_hard + self.num_semi_hard >= 1, "num_hard + num_semi_hard of at least 1")


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(StageConfig):
    """The contrastive stage, not part of the paper: InfoNCE of a question against all passages of a batch of documents.

    A batch consists of documents with all of their passages, so a question's negatives include the passages that are
    hardest to tell from its positive: those of the same document. Anchors are the questions and pseudo-questions, i.e.
    spans cut from the passages and their translations. An epoch has each question in each language at least once; to
    this end, it repeats the documents as often as needed.

    Args:
        batch_size: *Documents* of one optimizer step; the batches of an epoch differ in size by at most one.
        temperature: Temperature that divides cosines.
        languages_per_question: Number of translations of a question in a batch.
        pseudo_questions: Number of spans cut for each passage of a batch. Each span is cut from the passage itself or
            from a random translation of it into the training languages or ``parallel_languages``.
        parallel_passages: True to cut spans also from translations of passages.
        include_english: True to train also on the English questions of the data set if English is not among the
            training languages.
        document_weight: Weight of a second loss: the same loss with whole documents (their passages joined) instead of
            passages. The loss with passages has weight 1. With 0, documents are not embedded.
        transfer_weight: Weight of the transfer of questions in ``parallel_languages``; a batch has each question in one
            of these languages. 0 excludes questions in these languages.
        tuned_shares: Shares to try after the last step, each in (0, 1]. A share averages the weights w that the stage
            started from and the best weights v: ``w + share * (v - w)``; 1 is the stage's own result. The share with
            the best dev P@1 is used, the first in a tie (WiSE-FT, Wortsman et al., CVPR 2022).
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
        expect(self, "accumulation", self.accumulation == 1, "1, because a batch is contrasted as a whole")
        expect(self, "temperature", self.temperature > 0, "a number above 0")
        expect(self, "languages_per_question", self.languages_per_question >= 1, "an integer of at least 1")
        expect(self, "pseudo_questions", self.pseudo_questions >= 0, "an integer of at least 0")
        for name in ("document_weight", "transfer_weight"):
            expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
        _check_shares(self)


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(StageConfig):
    """The distillation stage, not part of the paper: extends the model's own English space to every language.

    The model at the start of the stage is the teacher. It embeds the English version of each text as v, and the
    passages as P. The student embeds a text in any language as the unit vector u. The text's loss is the sum of
    ``embedding_weight * |u - v|**2``, of ``score_weight`` times the Kullback-Leibler divergence of
    ``softmax(u P / t)`` from ``softmax(v P / t)`` over *all* passages, and, for a labelled question, of
    ``label_weight`` times InfoNCE of its passage against all others. Here t is the ``temperature``. This is the paper's
    transfer (section 2.2) with two changes: the ranking replaces most of the distance, and sentences of translated
    passages are further texts. Each text has its own loss, so ``accumulation`` saves memory at no cost.

    With parallel text (``relkt.train(..., parallel=...)``), its translations are trained in the same way, towards the
    teacher's embeddings of their English texts. P then also holds up to 2,048 of these English texts.

    Args:
        batch_size: Texts of one optimizer step.
        temperature: Temperature that divides cosines.
        embedding_weight: Weight of the squared distance.
        score_weight: Weight of the divergence of the scores.
        label_weight: Weight of InfoNCE, for questions in the training languages and in English.
        languages_per_question: Number of random languages in which an epoch has each question.
        segment_share: Share of the passages' sentences that an epoch has, in [0, 1]; each sentence is in one language.
        passage_share: Share of the passages that an epoch has, in [0, 1]; their targets are the teacher's embeddings of
            these passages.
        parallel_pairs: Maximum number of pairs of parallel text in an epoch.
        parallel_exponent: The share of a language with n pairs is proportional to n ** ``parallel_exponent``: 1 keeps
            the sizes, 0 gives every language the same share. In [0, 1].
        tuned_shares: As for :class:`ContrastiveConfig`.
    """

    temperature: float = 0.02
    embedding_weight: float = 5.0
    score_weight: float = 1.0
    label_weight: float = 0.5
    languages_per_question: int = 2
    segment_share: float = 0.36
    passage_share: float = 0.15
    parallel_pairs: int = 20_000
    parallel_exponent: float = 0.5
    tuned_shares: tuple[float, ...] = (1.0,)
    batch_size: int = 448
    accumulation: int = 8
    learning_rate: float = 1e-4
    patience: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self, "temperature", self.temperature > 0, "a number above 0")
        for name in ("embedding_weight", "score_weight", "label_weight"):
            expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
        weights = self.embedding_weight + self.score_weight + self.label_weight
        expect(self, "embedding_weight", weights > 0, "a weight above 0 for at least one term")
        expect(self, "languages_per_question", self.languages_per_question >= 1, "an integer of at least 1")
        expect(self, "parallel_pairs", self.parallel_pairs >= 0, "an integer of at least 0")
        for name in ("segment_share", "passage_share", "parallel_exponent"):
            expect(self, name, 0 <= getattr(self, name) <= 1, "a number in [0, 1]")
        _check_shares(self)


@dataclass(frozen=True, kw_only=True)
class TransferConfig(StageConfig):
    """The paper's third stage: the language knowledge transfer (paper section 2.2).

    Args:
        query_query: Weight of MSE(student question, teacher English question).
        passage_passage: Weight of MSE(student passage, teacher passage).
        query_passage: Weight of MSE(student question, teacher passage).
        scale: Factor of all three terms.
        reduction: Reduction over the batch; the authors average.
        include_english: True to train also on the English questions of the data set if English is not among the
            training languages, to keep their embeddings stable. The authors do not.
        parallel_passages: True to pull also the translation of a passage in the question's language, if it exists,
            towards the teacher's embedding of the passage, with the weight ``passage_passage``. The authors have no
            such term.
        always_project: True to append a trained projection to the student whenever the teacher is another model. False
            to append it only if student and teacher differ in the number of dimensions.
        projection_ridge: Ridge of the least-squares fit that initializes the projection, relative to the variance of
            the student's embeddings (see :func:`relkt.encoders.projection.fit_projection`).
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
            expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
        for name in ("scale", "projection_ridge"):
            expect(self, name, getattr(self, name) > 0, "a number above 0")
        expect(
            self,
            "query_query",
            self.query_query + self.passage_passage + self.query_passage > 0,
            "a weight above 0 for at least one of query_query, passage_passage and query_passage",
        )


def _check_shares(config: ContrastiveConfig | DistillationConfig) -> None:
    shares = config.tuned_shares
    expect(config, "tuned_shares", len(shares) > 0 and all(0 < s <= 1 for s in shares), "numbers in (0, 1]")
    expect(config, "tuned_shares", len(set(shares)) == len(shares), "each share once")
