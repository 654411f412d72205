"""The distillation stage: extends the teacher's English embedding space to every language."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from typing_extensions import override

from relkt.data.parallel import ParallelText
from relkt.data.types import Level, sort_languages
from relkt.losses import Reduction, alignment_loss, contrastive_loss, score_distillation_loss
from relkt.training.config import DistillationConfig, Stage
from relkt.training.distributed.encoding import encode_passages, encode_queries
from relkt.training.examples import Rows, TrainingSet
from relkt.training.examples.parallel import parallel_sentences, warn_of_untranslated
from relkt.training.examples.parallel_pairs import draw_pairs
from relkt.training.progress import Progress
from relkt.training.stages.prepared import Prepared
from relkt.training.stages.projection import project_student
from relkt.training.stages.stage import Features, MicroBatch, StageLoss, TrainingStage, int_tensor

# These numbers are part of the seeds, so that the stage's draws differ from other draws with the same seed.
_DISTILLATION_DRAWS = 5
_PAIR_DRAWS = 6

# Kinds of texts.
_QUESTION, _SENTENCE, _PASSAGE, _PAIR = range(4)

MAX_ANCHORS = 2048
"""Maximum number of English texts from the parallel text for which scores are compared, besides the passages."""


class DistillationTargets(TypedDict):
    """Rows of the teacher embeddings and positives of a micro-batch, int64.

    Attributes:
        text: Row of ``teacher_texts`` with the target of each question or sentence, shape ``(b,)``.
        passage: Row of ``teacher_passages`` with the target of each passage, shape ``(u,)``.
        labelled: Rows of the questions with a positive, shape ``(l,)``.
        positive: Row of ``teacher_passages`` with each labelled question's positive, shape ``(l,)``.
        excluded: Pairs (index into ``labelled``, row of ``teacher_passages``) of a question and a passage that is not
            its negative, shape ``(e, 2)``.
    """

    text: Tensor
    passage: Tensor
    labelled: Tensor
    positive: Tensor
    excluded: Tensor


class Distillation(TrainingStage):
    """Pulls every text towards the teacher's embedding of its English version.

    The teacher is another model, or this model at the start of the stage; it embeds the English texts once. The
    student's texts are the training questions in the training languages, in English and in ``parallel_languages``;
    sentences of the passages and their translations (:func:`parallel_sentences`); translations from parallel text; and
    passages. The target of a passage is the teacher's embedding of the passage itself.

    An example stands for a text. It consists of the text's kind, its number within the kind and, for a sentence, the
    number of its language.

    Args:
        model: The student. If no other teacher is given, the student at the start of the stage is the teacher.
        prepared: Inputs of the run.
        progress: Receives the activity "embedding".
    """

    def __init__(self, model: SentenceTransformer, prepared: Prepared, progress: Progress) -> None:
        config = prepared.config
        self._stage: DistillationConfig = config.distillation
        self._seed = config.seed
        labelled = prepared.languages_of(Stage.DISTILLATION)
        self._labelled_languages = frozenset(labelled)
        languages = sort_languages({*labelled, *config.parallel_languages})
        self._training_set = prepared.training_set(languages, Level.PASSAGE) if prepared.has_questions else None
        self._questions = _translated_questions(self._training_set, config.parallel_languages)
        self._sentences = parallel_sentences(prepared.training_data, languages)
        self._passages = prepared.training_data.candidates(Level.PASSAGE).texts
        self._draws = self._draw_pairs(prepared.parallel)

        progress.activity("embedding")
        english = self._english_texts(prepared.parallel)
        teacher = prepared.teacher or model
        texts = encode_queries(teacher, english, batch_size=config.encode_batch_size)
        passages = encode_passages(teacher, list(self._passages), batch_size=config.encode_batch_size)
        if prepared.teacher is not None:
            project_student(model, english, texts, self._passages, passages, config)
        anchors = self._anchors(len(english))
        self.loss = DistillationStageLoss(
            model,
            self._stage,
            torch.from_numpy(texts),
            torch.from_numpy(passages),
            torch.from_numpy(texts[anchors]),
        )
        self._num_sentences = round(self._stage.segment_share * len(self._sentences))
        self._num_passages = round(self._stage.passage_share * len(self._passages))
        num_questions = sum(min(self._stage.languages_per_question, len(pairs)) for pairs in self._questions)
        num_pairs = max((len(rows) for rows in self._draws), default=0)
        self.max_examples = num_questions + self._num_sentences + self._num_passages + num_pairs
        self.examples_per_step = self._stage.batch_size

    def _draw_pairs(self, parallel: ParallelText | None) -> list[Rows]:
        """For each epoch, the rows of the pairs drawn from the parallel text."""
        stage = self._stage
        if parallel is None or not stage.parallel_pairs:
            return []
        self._pairs = parallel.pairs
        return [
            draw_pairs(
                parallel,
                stage.parallel_pairs,
                stage.parallel_exponent,
                np.random.default_rng([self._seed, _PAIR_DRAWS, epoch]),
            )
            for epoch in range(stage.epochs)
        ]

    def _english_texts(self, parallel: ParallelText | None) -> list[str]:
        """The distinct English questions, the English sentences, then the distinct English texts of the pairs drawn.

        Also stores where each kind of text starts in this list, and the rows of the English texts of the questions and
        the pairs.
        """
        english = () if self._training_set is None else self._training_set.english
        questions = list(dict.fromkeys(english))
        row_of = {text: row for row, text in enumerate(questions)}
        self._target_of_query = [row_of[text] for text in english]
        self._first_sentence = len(questions)
        self._first_pair = self._first_sentence + len(self._sentences)
        drawn = np.unique(np.concatenate(self._draws)) if self._draws else np.empty(0, np.int64)
        of_pairs = list(dict.fromkeys(self._pairs[row].english for row in drawn.tolist())) if parallel else []
        row_of = {text: self._first_pair + row for row, text in enumerate(of_pairs)}
        self._target_of_pair = {row: row_of[self._pairs[row].english] for row in drawn.tolist()}
        return [*questions, *(sentence["en"] for sentence in self._sentences), *of_pairs]

    def _anchors(self, num_texts: int) -> Rows:
        """Rows of the pairs' English texts for which scores are compared."""
        rng = np.random.default_rng([self._seed, _PAIR_DRAWS])
        rows = rng.permutation(np.arange(self._first_pair, num_texts))[:MAX_ANCHORS]
        return np.sort(rows).astype(np.int64)

    @override
    def examples(self, epoch: int) -> Rows:
        """Draws an epoch's texts: each question in some languages, sentences in one language each, passages, pairs."""
        rng = np.random.default_rng([self._seed, _DISTILLATION_DRAWS, epoch])
        examples = [
            (_QUESTION, pair, 0)
            for pairs in self._questions
            for pair in rng.permutation(pairs)[: self._stage.languages_per_question].tolist()
        ]
        for sentence in rng.permutation(len(self._sentences))[: self._num_sentences].tolist():
            examples.append((_SENTENCE, sentence, int(rng.integers(len(self._sentences[sentence])))))
        for passage in rng.permutation(len(self._passages))[: self._num_passages].tolist():
            examples.append((_PASSAGE, passage, 0))
        if self._draws:
            examples += [(_PAIR, pair, 0) for pair in self._draws[epoch].tolist()]
        return np.array(examples, dtype=np.int64).reshape(-1, 3)

    @override
    def batch(self, examples: Rows) -> MicroBatch[DistillationTargets]:
        """Questions, sentences and pairs become queries. Targets include a positive for each labelled question."""
        queries: list[str] = []
        text: list[int] = []
        passage: list[int] = []
        labelled: list[int] = []
        positives: list[int] = []
        excluded: list[tuple[int, int]] = []
        for kind, number, language in examples.tolist():
            if kind == _PASSAGE:
                passage.append(number)
            elif kind == _SENTENCE:
                queries.append(list(self._sentences[number].values())[language])
                text.append(self._first_sentence + number)
            elif kind == _PAIR:
                queries.append(self._pairs[number].text)
                text.append(self._target_of_pair[number])
            else:
                training_set = self._training_set
                assert training_set is not None  # the example is a question
                query, positive = training_set.pairs[number].tolist()
                question = training_set.queries[query]
                if question.language in self._labelled_languages:
                    excluded += [(len(labelled), row) for row in sorted(training_set.copies(query) - {positive})]
                    labelled.append(len(queries))
                    positives.append(positive)
                queries.append(question.text)
                text.append(self._target_of_query[query])
        return MicroBatch(
            queries=queries,
            passages=[self._passages[row] for row in passage],
            targets={
                "text": int_tensor(text),
                "passage": int_tensor(passage),
                "labelled": int_tensor(labelled),
                "positive": int_tensor(positives),
                "excluded": int_tensor(excluded).reshape(-1, 2),
            },
            size=len(examples),
        )


class DistillationStageLoss(StageLoss[DistillationTargets]):
    """Distances to the teacher's embeddings, divergence of scores, and InfoNCE of the labelled questions.

    Args:
        model: The student.
        config: Weights and temperature.
        teacher_texts: The teacher's embeddings of the English questions and sentences, shape ``(t, d)``, float32.
        teacher_passages: The teacher's embeddings of the passages, shape ``(n, d)``, float32.
        anchors: The teacher's embeddings of further English texts for which scores are compared, shape ``(a, d)``,
            float32.
    """

    teacher_texts: Tensor
    teacher_passages: Tensor
    scored: Tensor

    def __init__(
        self,
        model: SentenceTransformer,
        config: DistillationConfig,
        teacher_texts: Tensor,
        teacher_passages: Tensor,
        anchors: Tensor | None = None,
    ) -> None:
        super().__init__(model, Reduction.MEAN)
        self.config = config
        self.register_buffer("teacher_texts", teacher_texts, persistent=False)
        self.register_buffer("teacher_passages", teacher_passages, persistent=False)
        scored = teacher_passages if anchors is None or not len(anchors) else torch.cat([teacher_passages, anchors])
        self.register_buffer("scored", scored, persistent=False)

    @override
    def forward(self, sentence_features: Iterable[Features], targets: DistillationTargets) -> Tensor:
        """The loss of a micro-batch, which may have no questions or no passages."""
        return self._loss(torch.cat([self.encode(features) for features in sentence_features]), targets)

    @override
    def loss(self, queries: Tensor, passages: Tensor, targets: DistillationTargets) -> Tensor:
        return self._loss(torch.cat([queries, passages]), targets)

    def _loss(self, texts: Tensor, targets: DistillationTargets) -> Tensor:
        """The loss of all texts; passages come last."""
        config, labelled = self.config, targets["labelled"]
        wanted = torch.cat([self.teacher_texts[targets["text"]], self.teacher_passages[targets["passage"]]])
        loss = config.embedding_weight * alignment_loss(texts, wanted)
        num_queries = len(targets["text"])
        if config.score_weight and num_queries and len(self.scored):
            divergence = score_distillation_loss(
                texts[:num_queries], wanted[:num_queries], self.scored, temperature=config.temperature
            )
            loss = loss + config.score_weight * divergence * (num_queries / len(texts))
        if config.label_weight and len(labelled):
            excluded = torch.zeros(len(labelled), len(self.teacher_passages), dtype=torch.bool, device=texts.device)
            excluded[targets["excluded"].unbind(dim=1)] = True
            contrast = contrastive_loss(
                texts[labelled],
                self.teacher_passages,
                targets["positive"],
                temperature=config.temperature,
                excluded=excluded,
            )
            loss = loss + config.label_weight * contrast * (len(labelled) / len(texts))
        return loss


def _translated_questions(training_set: TrainingSet | None, parallel_languages: tuple[str, ...]) -> list[list[int]]:
    """Returns the questions, each as rows of ``training_set.pairs``, one row per language.

    Rows in parallel languages are omitted if the question has no English version.
    """
    if training_set is None:
        return []
    warn_of_untranslated(training_set, parallel_languages)
    translations: dict[tuple[int, str], list[int]] = {}
    for pair, (query, positive) in enumerate(training_set.pairs.tolist()):
        question = training_set.queries[query]
        if question.language in parallel_languages and question.parallel not in training_set.in_english:
            continue
        translations.setdefault((positive, question.parallel), []).append(pair)
    return list(translations.values())
