"""The contrastive stage: InfoNCE of questions and text spans against all passages of a batch of documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypedDict

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from typing_extensions import override

from relkt.data.types import Level, sort_languages
from relkt.losses import Reduction, alignment_loss, contrastive_loss
from relkt.training.config import ContrastiveConfig, Stage
from relkt.training.examples import Rows, TrainingSet
from relkt.training.examples.parallel import warn_of_untranslated
from relkt.training.examples.text_spans import draw_span
from relkt.training.progress import Progress
from relkt.training.stages.prepared import Prepared
from relkt.training.stages.stage import MicroBatch, StageLoss, TrainingStage, int_tensor

# These numbers are part of the seeds, so that the stage's draws differ from other draws with the same seed.
_CONTRASTIVE_DRAWS = 3
_TRANSFER_DRAWS = 4


class ContrastiveTargets(TypedDict):
    """Passages and documents of the questions of a batch; rows are int64.

    Attributes:
        labelled: Rows of the questions with a positive, shape ``(l,)``.
        positive: Row of each labelled question's positive among the passages of the batch, shape ``(l,)``.
        excluded: True for passages that are not negatives of the question, shape ``(l, p)``.
        document: Row of each positive's document among the documents of the batch, shape ``(l,)``; empty if
            documents have no weight.
        excluded_documents: True for documents that are not negatives of the question, shape ``(l, d)``.
        follower: Rows of the questions in parallel languages, shape ``(f,)``.
        followed: Row of each follower's English version, shape ``(f,)``.
    """

    labelled: Tensor
    positive: Tensor
    excluded: Tensor
    document: Tensor
    excluded_documents: Tensor
    follower: Tensor
    followed: Tensor


class Contrastive(TrainingStage):
    """Contrasts questions and spans of passages with all passages of the documents of a batch.

    An epoch consists of rounds; in each round, each document is in exactly one batch. An example of this stage is a
    whole batch, identified by the number of the epoch, of the round, and of the batch in the round. Random draws for a
    document depend on the seed, the epoch and the round only.

    Args:
        model: The encoder.
        prepared: Inputs of the run. The stage contrasts passages, even if the run's level is documents.
        progress: Not used.
    """

    def __init__(self, model: SentenceTransformer, prepared: Prepared, progress: Progress) -> None:  # noqa: ARG002
        stage: ContrastiveConfig = prepared.config.contrastive
        languages = prepared.languages_of(Stage.CONTRASTIVE)
        prepared.training_set(languages).check_negatives()
        self._training_set = training_set = prepared.training_set(languages, Level.PASSAGE)
        self._stage = stage
        self._seed = prepared.config.seed
        documents = prepared.training_data.candidates(Level.DOCUMENT)
        self._document_texts = documents.texts
        # Groups and documents are both numbered in the order of their first passages, so a group's number is the row of
        # its document.
        num_documents = len(documents.ids)
        self._passages: list[list[int]] = [[] for _ in range(num_documents)]
        for row, document in enumerate(training_set.groups.tolist()):
            self._passages[document].append(row)
        self._questions = _translated_questions(training_set, num_documents)
        self._sources = _span_sources(prepared, languages)
        self._parallel = _parallel_questions(prepared, training_set, num_documents)
        # Documents without a question or a pseudo-question are in no batch.
        self._documents = [d for d in range(num_documents) if stage.pseudo_questions or self._questions[d]]
        most_languages = max(len(pairs) for questions in self._questions for pairs in questions)
        self._rounds = -(-most_languages // stage.languages_per_question)
        self._batches = -(-len(self._documents) // stage.batch_size)
        self._documents_of_epoch = lru_cache(maxsize=1)(self._draw_documents)
        self.loss = ContrastiveStageLoss(model, stage)
        self.max_examples = self._rounds * self._batches
        self.examples_per_step = 1

    @override
    def examples(self, epoch: int) -> Rows:
        """The batches of an epoch, each as the numbers ``(epoch, round, batch)``."""
        batches = [(epoch, number, batch) for number in range(self._rounds) for batch in range(self._batches)]
        return np.array(batches, dtype=np.int64)

    def documents(self, epoch: int, number: int, batch: int) -> list[int]:
        """Rows of the documents of one batch in a round."""
        return self._documents_of_epoch(epoch)[number][batch]

    def _draw_documents(self, epoch: int) -> list[list[list[int]]]:
        """The documents of each batch of each round; batches differ in size by at most one."""
        rng = np.random.default_rng([self._seed, _CONTRASTIVE_DRAWS, epoch])
        rounds = [np.array_split(rng.permutation(self._documents), self._batches) for _ in range(self._rounds)]
        return [[documents.tolist() for documents in batches] for batches in rounds]

    @override
    def batch(self, examples: Rows) -> MicroBatch[ContrastiveTargets]:
        """The texts of one batch, see :meth:`batch_of`."""
        ((epoch, number, batch),) = examples.tolist()
        return self.batch_of(epoch, number, self.documents(epoch, number, batch))

    def batch_of(self, epoch: int, number: int, documents: list[int]) -> MicroBatch[ContrastiveTargets]:
        """Questions and pseudo-questions about some documents, their passages, and the documents themselves.

        Documents are included only if ``document_weight`` is above 0. Equal texts are encoded once.

        Args:
            epoch: Number of the epoch, from 0.
            number: Number of the round, from 0.
            documents: Rows of the documents.
        """
        builder = _BatchBuilder(self._training_set, self._document_texts if self._stage.document_weight else None)
        for document in documents:
            builder.add_passages(self._passages[document])
        if self._stage.document_weight:
            builder.add_documents(documents)
        for document in documents:
            for query, passage in self._drawn_questions(epoch, number, document):
                builder.add_question(
                    self._training_set.queries[query].text, passage, self._training_set.positives(query)
                )
            rng = np.random.default_rng([self._seed, _CONTRASTIVE_DRAWS, epoch, document, 1 + number])
            for passage in self._passages[document]:
                for _ in range(self._stage.pseudo_questions):
                    source = self._sources[passage][int(rng.integers(len(self._sources[passage])))]
                    builder.add_question(draw_span(source, rng), passage, ())
            rng = np.random.default_rng([self._seed, _TRANSFER_DRAWS, epoch, document])
            for english, translations in self._parallel[document]:
                # The languages have the same order in every round of an epoch; each round takes the next one.
                translation = rng.permutation(translations)[number % len(translations)]
                builder.add_follower(str(translation), english)
        return builder.batch()

    def _drawn_questions(self, epoch: int, number: int, document: int) -> Iterator[tuple[int, int]]:
        """Pairs (question row, positive row) of the questions about a document in the languages of a round."""
        rng = np.random.default_rng([self._seed, _CONTRASTIVE_DRAWS, epoch, document])
        for pairs in self._questions[document]:
            # The languages have the same order in every round of an epoch; each round takes the next ones.
            order = rng.permutation(pairs).tolist()
            count = min(self._stage.languages_per_question, len(order))
            for place in range(number * count, (number + 1) * count):
                query, passage = self._training_set.pairs[order[place % len(order)]].tolist()
                yield query, passage


class ContrastiveStageLoss(StageLoss[ContrastiveTargets]):
    """InfoNCE over the passages of a batch and, if ``document_weight`` is above 0, over its whole documents.

    The argument ``passages`` of :meth:`loss` holds the passages of the batch, then its documents.

    Args:
        model: The encoder.
        config: Temperature and weights.
    """

    def __init__(self, model: SentenceTransformer, config: ContrastiveConfig) -> None:
        super().__init__(model, Reduction.MEAN)
        self.temperature = config.temperature
        self.document_weight = config.document_weight
        self.transfer_weight = config.transfer_weight

    @override
    def loss(self, queries: Tensor, passages: Tensor, targets: ContrastiveTargets) -> Tensor:
        labelled = queries[targets["labelled"]]
        num_passages = targets["excluded"].shape[1]
        loss = self._contrast(labelled, passages[:num_passages], targets["positive"], targets["excluded"])
        if self.document_weight:
            documents = passages[num_passages:]
            loss = loss + self.document_weight * self._contrast(
                labelled, documents, targets["document"], targets["excluded_documents"]
            )
        if len(targets["follower"]):
            english = queries[targets["followed"]]
            alignment = alignment_loss(queries[targets["follower"]], english, self.reduction)
            loss = loss + self.transfer_weight * alignment
        return loss

    def _contrast(self, queries: Tensor, passages: Tensor, positive: Tensor, excluded: Tensor) -> Tensor:
        return contrastive_loss(
            queries, passages, positive, temperature=self.temperature, excluded=excluded, reduction=self.reduction
        )


@dataclass
class _BatchBuilder:
    """Collects the texts and targets of a batch.

    Args:
        training_set: Questions and passages.
        document_texts: The text of each document; None if documents have no weight.
    """

    training_set: TrainingSet
    document_texts: tuple[str, ...] | None
    queries: list[str] = field(default_factory=list)
    passages: dict[str, int] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    labelled: list[int] = field(default_factory=list)
    positive: list[int] = field(default_factory=list)
    excluded: list[set[int]] = field(default_factory=list)
    document: list[int] = field(default_factory=list)
    excluded_documents: list[set[int]] = field(default_factory=list)
    follower: list[int] = field(default_factory=list)
    followed: list[int] = field(default_factory=list)

    def add_passages(self, rows: list[int]) -> None:
        """Add passages by their candidate rows; equal texts count once."""
        for row in rows:
            self.passages.setdefault(self.training_set.candidates.texts[row], len(self.passages))

    def add_documents(self, rows: list[int]) -> None:
        """Add whole documents; equal texts count once."""
        assert self.document_texts is not None
        for row in rows:
            self.documents.setdefault(self.document_texts[row], len(self.documents))

    def add_question(self, text: str, positive: int, others: tuple[int, ...]) -> None:
        """Adds a question.

        Args:
            text: The question.
            positive: Candidate row of one positive.
            others: Candidate rows of all positives; neither they nor their documents are negatives.
        """
        texts, groups = self.training_set.candidates.texts, self.training_set.groups
        self.labelled.append(len(self.queries))
        self.queries.append(text)
        row = self.passages[texts[positive]]
        self.positive.append(row)
        self.excluded.append({self.passages[texts[p]] for p in others if texts[p] in self.passages} - {row})
        if self.document_texts is not None:
            row = self.documents[self.document_texts[groups[positive]]]
            whole = {self.document_texts[groups[p]] for p in others}
            self.document.append(row)
            self.excluded_documents.append({self.documents[t] for t in whole if t in self.documents} - {row})

    def add_follower(self, text: str, english: str) -> None:
        """Adds a question that is pulled towards its English version, and the English version if it is missing."""
        if english not in self.queries:
            self.queries.append(english)
        self.follower.append(len(self.queries))
        self.followed.append(self.queries.index(english))
        self.queries.append(text)

    def batch(self) -> MicroBatch[ContrastiveTargets]:
        """The batch."""
        return MicroBatch(
            queries=self.queries,
            passages=[*self.passages, *self.documents],
            targets={
                "labelled": int_tensor(self.labelled),
                "positive": int_tensor(self.positive),
                "excluded": _mask(self.excluded, len(self.passages)),
                "document": int_tensor(self.document),
                "excluded_documents": _mask(self.excluded_documents, len(self.documents)),
                "follower": int_tensor(self.follower),
                "followed": int_tensor(self.followed),
            },
            size=len(self.queries),
        )


def _mask(rows: list[set[int]], width: int) -> Tensor:
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for line, columns in enumerate(rows):
        mask[line, list(columns)] = True
    return mask


def _translated_questions(training_set: TrainingSet, num_documents: int) -> list[list[list[int]]]:
    """Returns the questions of each document, each as rows of ``training_set.pairs``, one row per language."""
    translations: dict[tuple[int, int, str], list[int]] = {}
    for number, (query, positive) in enumerate(training_set.pairs.tolist()):
        key = int(training_set.groups[positive]), positive, training_set.queries[query].parallel
        translations.setdefault(key, []).append(number)
    questions: list[list[list[int]]] = [[] for _ in range(num_documents)]
    for (document, _, _), pairs in translations.items():
        questions[document].append(pairs)
    return questions


def _span_sources(prepared: Prepared, languages: tuple[str, ...]) -> list[list[str]]:
    """Returns the texts from which spans of each passage are cut: the passage and its translations."""
    config, data = prepared.config, prepared.training_data
    if not config.contrastive.parallel_passages:
        return [[passage.text] for passage in data.passages]
    translations = [
        data.translations.get(language, {}) for language in sort_languages({*languages, *config.parallel_languages})
    ]
    return [
        [passage.text, *(texts[passage.id] for texts in translations if passage.id in texts)]
        for passage in data.passages
    ]


def _parallel_questions(
    prepared: Prepared, training_set: TrainingSet, num_documents: int
) -> list[list[tuple[str, list[str]]]]:
    """The English questions about each document, with their translations into the parallel languages.

    A question with positives in several documents belongs to each of them.
    """
    found: list[list[tuple[str, list[str]]]] = [[] for _ in range(num_documents)]
    languages = prepared.config.parallel_languages
    if not languages or prepared.config.contrastive.transfer_weight == 0:
        return found
    parallel = prepared.training_set(languages, Level.PASSAGE)
    warn_of_untranslated(parallel, languages)
    translations: dict[tuple[int, str], list[str]] = {}
    for query, positive in parallel.pairs.tolist():
        question = parallel.queries[query]
        if question.parallel in parallel.in_english:
            texts = translations.setdefault((int(training_set.groups[positive]), question.parallel), [])
            if question.text not in texts:
                texts.append(question.text)
    for (document, key), texts in translations.items():
        found[document].append((parallel.in_english[key], texts))
    return found
