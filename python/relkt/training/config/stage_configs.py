"""Configuration of the stages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relkt.losses import Reduction
from relkt.training.config.fields import check_types, expect


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
        check_types(self)
        expect(self, "num_pieces", self.num_pieces >= 1, "an integer of at least 1")
        once = len(set(self.languages)) == len(self.languages)
        expect(self, "languages", once and "en" not in self.languages, "each language once, and not en")


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
        expect(self, "margin", 0 < self.margin <= 2, "a number in (0, 2]")


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
        expect(self, "num_negatives", self.num_negatives >= 1, "an integer of at least 1")
        expect(self, "bm25_epochs", self.bm25_epochs >= 0, "an integer of at least 0")


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
            expect(self, name, getattr(self, name) >= 0, "an integer of at least 0")
        expect(self, "num_hard", self.num_hard + self.num_semi_hard >= 1, "num_hard + num_semi_hard of at least 1")


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
        expect(self, "accumulation", self.accumulation == 1, "1, as a batch is contrasted as a whole")
        expect(self, "temperature", self.temperature > 0, "a number above 0")
        expect(self, "languages_per_question", self.languages_per_question >= 1, "an integer of at least 1")
        expect(self, "pseudo_questions", self.pseudo_questions >= 0, "an integer of at least 0")
        for name in ("document_weight", "transfer_weight"):
            expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
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
        expect(self, "temperature", self.temperature > 0, "a number above 0")
        for name in ("embedding_weight", "score_weight", "label_weight"):
            expect(self, name, getattr(self, name) >= 0, "a number of at least 0")
        weights = self.embedding_weight + self.score_weight + self.label_weight
        expect(self, "embedding_weight", weights > 0, "a weight above 0 for at least one term")
        expect(self, "languages_per_question", self.languages_per_question >= 1, "an integer of at least 1")
        for name in ("segment_share", "passage_share"):
            expect(self, name, 0 <= getattr(self, name) <= 1, "a number in [0, 1]")
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
