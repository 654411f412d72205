"""The distillation stage: the English space of the model as it was, for every language."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from typing_extensions import override

from relkt.data.types import Level, RetrievalData, sort_languages
from relkt.losses import Reduction, alignment_loss, contrastive_loss, score_distillation_loss
from relkt.training.config import DistillationConfig, TrainConfig
from relkt.training.distributed.encoding import encode_passages, encode_queries
from relkt.training.examples import Rows, TrainingSet
from relkt.training.examples.text_spans import sentences
from relkt.training.progress import Progress
from relkt.training.stages.stage import NO_ROW, Features, Piece, StageLoss, StagePlan, rows_as_mask

# Keeps the stage's draws apart from others of the same seed.
_DISTILLATION_DRAWS = 5

_QUESTION, _SEGMENT, _PASSAGE = range(3)

logger = logging.getLogger(__name__)


class Distillation(StagePlan):
    """Distillation: every text goes where the teacher has its English version.

    The teacher is the model as it is when this is made; it embeds the English texts once. Texts are the training
    questions in the languages trained, in English and in ``parallel_languages``, and segments: sentences of the
    passages and of their translations where they have as many, whole passages where not. Passages themselves stay where
    the teacher has them.

    A row is a text: its kind, its number among those of the kind, and for a segment the number of its language.

    Args:
        model: The encoder, teacher and then student.
        data: The data set.
        languages: The languages whose labels are used.
        config: The run.
        progress: Told when the teacher embeds.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        data: RetrievalData,
        languages: tuple[str, ...],
        config: TrainConfig,
        progress: Progress,
    ) -> None:
        self._stage: DistillationConfig = config.distillation
        self._seed = config.seed
        self._labelled = frozenset(languages)
        everything = sort_languages({*languages, *config.parallel_languages})
        self._examples = examples = TrainingSet(data, languages=everything, level=Level.PASSAGE)
        # A question with its translations: rows of the pairs.
        translations: dict[tuple[int, str], list[int]] = {}
        alone = 0
        for pair, (query, positive) in enumerate(examples.pairs.tolist()):
            question = examples.queries[query]
            if question.language in config.parallel_languages and question.parallel not in examples.in_english:
                alone += 1
                continue
            translations.setdefault((positive, question.parallel), []).append(pair)
        if alone:
            logger.warning(
                "%d questions in %s have no English translation to follow; they are left out",
                alone,
                ", ".join(config.parallel_languages),
            )
        self._questions = list(translations.values())
        self._segments = parallel_segments(data, everything)

        progress.activity("embedding")
        questions = list(dict.fromkeys(examples.english))
        row_of = {text: row for row, text in enumerate(questions)}
        self._target_of_query = [row_of[text] for text in examples.english]
        english = [*questions, *(segment["en"] for segment in self._segments)]
        self._first_segment = len(questions)
        passages = list(examples.candidates.texts)
        self.loss: StageLoss = DistillationStageLoss(
            model,
            self._stage,
            torch.from_numpy(encode_queries(model, english, batch_size=config.encode_batch_size)),
            torch.from_numpy(encode_passages(model, passages, batch_size=config.encode_batch_size)),
        )
        self._num_segments = round(self._stage.segment_share * len(self._segments))
        self._num_passages = round(self._stage.passage_share * len(passages))
        texts = sum(min(self._stage.languages_per_question, len(pairs)) for pairs in self._questions)
        self.most_rows = texts + self._num_segments + self._num_passages
        self.rows_per_step = self._stage.batch_size

    @override
    def rows(self, epoch: int) -> Rows:
        """Texts of an epoch: each question in some languages, some segments in one, some passages; drawn anew."""
        rng = np.random.default_rng([self._seed, _DISTILLATION_DRAWS, epoch])
        rows = [
            (_QUESTION, pair, 0)
            for pairs in self._questions
            for pair in rng.permutation(pairs)[: self._stage.languages_per_question].tolist()
        ]
        for segment in rng.permutation(len(self._segments))[: self._num_segments].tolist():
            rows.append((_SEGMENT, segment, int(rng.integers(len(self._segments[segment])))))
        for passage in rng.permutation(len(self._examples.candidates.texts))[: self._num_passages].tolist():
            rows.append((_PASSAGE, passage, 0))
        return np.array(rows, dtype=np.int64).reshape(-1, 3)

    def piece(self, rows: Rows) -> Piece:
        """Questions and segments, then passages; of each its row among the targets, and its positive if it has one."""
        queries: list[str] = []
        passages: list[str] = []
        of_queries: list[list[int]] = []
        of_passages: list[list[int]] = []
        for kind, number, language in rows.tolist():
            if kind == _QUESTION:
                query, positive = self._examples.pairs[number].tolist()
                question = self._examples.queries[query]
                label = [UNLABELLED]
                if question.language in self._labelled:
                    label = [positive, *sorted(self._examples.copies(query) - {positive})]
                queries.append(question.text)
                of_queries.append([self._target_of_query[query], *label])
            elif kind == _SEGMENT:
                queries.append(list(self._segments[number].values())[language])
                of_queries.append([self._first_segment + number, UNLABELLED])
            else:
                passages.append(self._examples.candidates.texts[number])
                of_passages.append([number, HELD])
        labels = [*of_queries, *of_passages]
        width = max(map(len, labels))
        padded = [label + [NO_ROW] * (width - len(label)) for label in labels]
        return Piece(queries, passages, torch.tensor(padded, dtype=torch.int64))


UNLABELLED, HELD = -1, -2
"""Labels of a text that has no label, and of a passage."""


class DistillationStageLoss(StageLoss):
    """Distances and scores of the student's texts against those of the teacher's.

    Labels are the row of the text's target (of ``teacher_texts``, or of ``teacher_passages`` for a passage), and the
    row of its positive, :data:`UNLABELLED` or :data:`HELD`; after a positive, the rows of passages that are no
    negatives (:data:`NO_ROW` where there are fewer), shape ``(b, 2 + x)``: those of the questions, then those of the
    passages.

    Args:
        model: The student.
        config: Weights and temperature.
        teacher_texts: The teacher's embeddings of the English questions and segments, shape ``(t, d)``, float32.
        teacher_passages: The teacher's embeddings of the passages, shape ``(n, d)``, float32.
    """

    teacher_texts: Tensor
    teacher_passages: Tensor

    def __init__(
        self, model: SentenceTransformer, config: DistillationConfig, teacher_texts: Tensor, teacher_passages: Tensor
    ) -> None:
        super().__init__(model, Reduction.MEAN)
        self.config = config
        self.register_buffer("teacher_texts", teacher_texts, persistent=False)
        self.register_buffer("teacher_passages", teacher_passages, persistent=False)

    @override
    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """The loss of a batch, of which there may be questions only, or passages only."""
        embedded = torch.cat([self.model(features)["sentence_embedding"].float() for features in sentence_features])
        return self.loss(embedded, embedded[:0], labels)

    def loss(self, queries: Tensor, passages: Tensor, labels: Tensor) -> Tensor:
        texts = torch.cat([queries, passages])
        target, positive = labels[:, 0], labels[:, 1]
        config, held = self.config, positive == HELD
        wanted = texts.new_empty(texts.shape)
        wanted[~held], wanted[held] = self.teacher_texts[target[~held]], self.teacher_passages[target[held]]
        loss = config.embedding_weight * alignment_loss(texts, wanted)
        scored, labelled = (~held).nonzero().flatten(), (positive >= 0).nonzero().flatten()
        if config.score_weight and len(scored):
            scores = score_distillation_loss(
                texts[scored], wanted[scored], self.teacher_passages, temperature=config.temperature
            )
            loss = loss + config.score_weight * scores * (len(scored) / len(texts))
        if config.label_weight and len(labelled):
            contrast = contrastive_loss(
                texts[labelled],
                self.teacher_passages,
                positive[labelled],
                temperature=config.temperature,
                excluded=rows_as_mask(labels[labelled, 2:], len(self.teacher_passages)),
            )
            loss = loss + config.label_weight * contrast * (len(labelled) / len(texts))
        return loss


def parallel_segments(data: RetrievalData, languages: tuple[str, ...]) -> list[dict[str, str]]:
    """Parts of passages, each with its translations.

    Args:
        data: The data set; its English passages are cut.
        languages: The languages of the translations.

    Returns:
        For each part, language -> text, English first. Parts are the sentences of a passage, in the languages that have
        as many; and the passage as a whole, in the languages that have not.
    """
    found: list[dict[str, str]] = []
    for passage in data.passages:
        if passage.language != "en":
            continue
        ours = sentences(passage.text)
        parts = [{"en": sentence} for sentence in ours]
        whole = {"en": passage.text}
        for language in languages:
            translation = data.translations.get(language, {}).get(passage.id)
            if translation is None:
                continue
            theirs = sentences(translation)
            if len(theirs) == len(ours):
                for part, sentence in zip(parts, theirs, strict=True):
                    part[language] = sentence
            else:
                whole[language] = translation
        found += parts
        if len(whole) > 1:
            found.append(whole)
    return found
