"""The contrastive stage: questions, and spans of passages, against all passages of the documents of a batch."""

from __future__ import annotations

import logging

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from typing_extensions import override

from relkt.data.types import Level, RetrievalData, sort_languages
from relkt.losses import Reduction, alignment_loss, contrastive_loss
from relkt.training.config import ContrastiveConfig, TrainConfig
from relkt.training.examples import Rows, TrainingSet
from relkt.training.examples.text_spans import draw_span
from relkt.training.stages.stage import Piece, StageLoss, StagePlan, rows_as_mask

# Keep the stage's draws apart from others of the same seed.
_CONTRASTIVE_DRAWS = 3
_TRANSFER_DRAWS = 4

FOLLOWS = -2
"""Label of a question that follows its English version, in the contrastive stage."""

logger = logging.getLogger(__name__)


class Contrastive(StagePlan):
    """Contrastive: questions, and spans of passages, against all passages of the documents of a batch.

    A row is a whole batch: the number of the epoch, of the round through the documents, and the batch's documents (-1
    where there are fewer than in another). What is drawn for a document depends on these numbers and the seed only.

    Args:
        model: The encoder.
        examples: Questions and candidates; of the latter, the passages are contrasted whatever the level.
        config: The run.
    """

    def __init__(self, model: SentenceTransformer, examples: TrainingSet, config: TrainConfig) -> None:
        stage: ContrastiveConfig = config.contrastive
        examples.check_negatives()
        data = examples.data
        self._examples = examples = TrainingSet(data, languages=examples.languages, level=Level.PASSAGE)
        self._stage = stage
        self._seed = config.seed
        documents = data.candidates(Level.DOCUMENT)
        self._document_texts = documents.texts
        # Both count documents in order of their first passage, so a group's number is its document's row.
        num_documents = len(documents.ids)
        self._passages: list[list[int]] = [[] for _ in range(num_documents)]
        for row, document in enumerate(examples.groups.tolist()):
            self._passages[document].append(row)
        # A question with its translations: their rows among the examples' pairs.
        translations: dict[tuple[int, int, str], list[int]] = {}
        for number, (query, positive) in enumerate(examples.pairs.tolist()):
            key = int(examples.groups[positive]), positive, examples.queries[query].parallel
            translations.setdefault(key, []).append(number)
        self._questions: list[list[list[int]]] = [[] for _ in range(num_documents)]
        for (document, _, _), pairs in translations.items():
            self._questions[document].append(pairs)
        languages = sort_languages({*examples.languages, *config.parallel_languages}) if stage.parallel_passages else ()
        self._sources: list[list[str]] = [
            [passage.text]
            + [texts[passage.id] for code in languages if passage.id in (texts := data.translations.get(code, {}))]
            for passage in data.passages
        ]
        self._parallel = _parallel_questions(data, config, num_documents, examples)
        # A batch needs a question or a pseudo-question, so documents with neither are in none.
        self._documents = [d for d in range(num_documents) if stage.pseudo_questions or self._questions[d]]
        self._rounds = max(-(-len(pairs) // stage.languages_per_question) for pairs in translations.values())
        self._batches = -(-len(self._documents) // stage.batch_size)
        self.loss: StageLoss = ContrastiveStageLoss(model, stage)
        self.most_rows = self._rounds * self._batches
        self.rows_per_step = 1

    @override
    def rows(self, epoch: int) -> Rows:
        """Batches (epoch, round, document, document ...): in each round, each document is in one of them."""
        rng = np.random.default_rng([self._seed, _CONTRASTIVE_DRAWS, epoch])
        largest = -(-len(self._documents) // self._batches)
        rows = np.full((self.most_rows, 2 + largest), -1, dtype=np.int64)
        for number in range(self._rounds):
            for batch, documents in enumerate(np.array_split(rng.permutation(self._documents), self._batches)):
                row = rows[number * self._batches + batch]
                row[:2] = epoch, number
                row[2 : 2 + len(documents)] = documents
        return rows

    def piece(self, rows: Rows) -> Piece:
        """The questions of one batch and its pseudo-questions; its passages, and its documents if they have a weight.

        Passages of equal text are one.
        """
        (row,) = rows.tolist()
        epoch, number, documents = row[0], row[1], [document for document in row[2:] if document >= 0]
        examples, texts = self._examples, self._examples.candidates.texts
        in_batch: dict[str, int] = {}
        for document in documents:
            for passage in self._passages[document]:
                in_batch.setdefault(texts[passage], len(in_batch))
        wholes: dict[str, int] = {}
        if self._stage.document_weight:
            for document in documents:
                wholes.setdefault(self._document_texts[document], len(in_batch) + len(wholes))

        queries: list[str] = []
        labels: list[list[int]] = []

        def add(query: str, passage: int, others: tuple[int, ...]) -> None:
            rows_of = [in_batch[texts[passage]], -1]
            if wholes:
                rows_of[1] = wholes[self._document_texts[examples.groups[passage]]]
            excluded = {in_batch[texts[p]] for p in others if texts[p] in in_batch}
            if wholes:
                whole = {self._document_texts[examples.groups[p]] for p in others}
                excluded |= {wholes[text] for text in whole if text in wholes}
            queries.append(query)
            labels.append([len(in_batch), *rows_of, *sorted(excluded.difference(rows_of))])

        def follow(query: str, english: str) -> None:
            if english not in queries:
                queries.append(english)
                labels.append([len(in_batch), -1, -1])
            queries.append(query)
            labels.append([len(in_batch), FOLLOWS, queries.index(english)])

        for document in documents:
            rng = np.random.default_rng([self._seed, _CONTRASTIVE_DRAWS, epoch, document])
            for pairs in self._questions[document]:
                # The same order in every round, of which each takes the next languages.
                order = rng.permutation(pairs).tolist()
                count = min(self._stage.languages_per_question, len(order))
                for place in range(number * count, (number + 1) * count):
                    query, passage = examples.pairs[order[place % len(order)]].tolist()
                    add(examples.queries[query].text, passage, examples.positives(query))
            rng = np.random.default_rng([self._seed, _CONTRASTIVE_DRAWS, epoch, document, 1 + number])
            for passage in self._passages[document]:
                for _ in range(self._stage.pseudo_questions):
                    source = self._sources[passage][int(rng.integers(len(self._sources[passage])))]
                    add(draw_span(source, rng), passage, ())
            rng = np.random.default_rng([self._seed, _TRANSFER_DRAWS, epoch, document])
            for english, others in self._parallel[document]:
                # The same order in every round, of which each takes the next language.
                text = rng.permutation(others)[number % len(others)]
                follow(str(text), english)
        width = max(map(len, labels))
        return Piece(
            queries=queries,
            passages=[*in_batch, *wholes],
            labels=torch.tensor([label + [-1] * (width - len(label)) for label in labels], dtype=torch.int64),
        )


class ContrastiveStageLoss(StageLoss):
    """InfoNCE over the passages of a batch and, where they have a weight, over its whole documents.

    The passages encoded are p passages and then the documents. Labels are p, the row of the positive passage, the row
    of its document, and the rows that are neither for the question (-1 where there are fewer), shape ``(b, 3 + x)``.

    A question without labels has :data:`FOLLOWS` for the row of the positive, and in the place of its document's the
    row of the English question that it follows; one that is only followed has -1 for both.
    """

    def __init__(self, model: SentenceTransformer, config: ContrastiveConfig) -> None:
        super().__init__(model, Reduction.MEAN)
        self.temperature = config.temperature
        self.document_weight = config.document_weight
        self.transfer_weight = config.transfer_weight

    def loss(self, queries: Tensor, passages: Tensor, labels: Tensor) -> Tensor:
        follows = labels[:, 1] == FOLLOWS
        labelled = labels[:, 1] >= 0
        loss = self._contrast(queries[labelled], passages, labels[labelled])
        if bool(follows.any()):
            english = queries[labels[follows, 2]]
            loss = loss + self.transfer_weight * alignment_loss(queries[follows], english, self.reduction)
        return loss

    def _contrast(self, queries: Tensor, passages: Tensor, labels: Tensor) -> Tensor:
        num_passages, positive, document = int(labels[0, 0]), labels[:, 1], labels[:, 2]
        excluded = rows_as_mask(labels[:, 3:], len(passages))
        loss = contrastive_loss(
            queries,
            passages[:num_passages],
            positive,
            temperature=self.temperature,
            excluded=excluded[:, :num_passages],
            reduction=self.reduction,
        )
        if self.document_weight == 0:
            return loss
        return loss + self.document_weight * contrastive_loss(
            queries,
            passages[num_passages:],
            document - num_passages,
            temperature=self.temperature,
            excluded=excluded[:, num_passages:],
            reduction=self.reduction,
        )


def _parallel_questions(
    data: RetrievalData, config: TrainConfig, num_documents: int, examples: TrainingSet
) -> list[list[tuple[str, list[str]]]]:
    """For each document, English questions about it with their translations into the parallel languages."""
    found: list[list[tuple[str, list[str]]]] = [[] for _ in range(num_documents)]
    if not config.parallel_languages or config.contrastive.transfer_weight == 0:
        return found
    parallel = TrainingSet(data, languages=config.parallel_languages, level=Level.PASSAGE)
    if parallel.without_english:
        logger.warning(
            "%d of %d questions in %s have no English translation to follow; they are left out",
            parallel.without_english,
            len(parallel.queries),
            ", ".join(config.parallel_languages),
        )
    translations: dict[tuple[int, str], list[str]] = {}
    for query, positive in parallel.pairs.tolist():
        question = parallel.queries[query]
        if question.parallel in parallel.in_english:
            # A question with several positives stands with the document of each.
            texts = translations.setdefault((int(examples.groups[positive]), question.parallel), [])
            if question.text not in texts:
                texts.append(question.text)
    for (document, key), texts in translations.items():
        found[document].append((parallel.in_english[key], texts))
    return found
