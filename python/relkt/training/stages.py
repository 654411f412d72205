"""The stages: which rows an epoch has, what a batch of them is, and the loss."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.data.types import Level, RetrievalData, sort_languages
from relkt.mining import mine
from relkt.training.bm25 import bm25_negatives, random_negatives
from relkt.training.config import TrainConfig
from relkt.training.distillation import Distillation
from relkt.training.encoding import encode_passages, encode_queries
from relkt.training.examples import Rows, TrainingSet
from relkt.training.modules import FOLLOWS, ContrastiveStageLoss, StageLoss, TransferStageLoss, TripletStageLoss
from relkt.training.plans import Piece, StagePlan
from relkt.training.precision import original_forward
from relkt.training.processes import from_rank_0
from relkt.training.progress import Progress
from relkt.training.spans import draw_span
from relkt.training.stage_config import ContrastiveConfig, Stage, TeacherConfig, TransferConfig, WarmupConfig
from relkt.training.targets import embed_targets, project_student

# Keep the contrastive stage's draws apart from others of the same seed.
_CONTRASTIVE_DRAWS = 3
_TRANSFER_DRAWS = 4

logger = logging.getLogger(__name__)


class Warmup(StagePlan):
    """Warm-up: triplets with BM25 negatives, then with random ones where the configuration says so.

    Args:
        model: The encoder.
        examples: Questions and candidates.
        config: The run.
    """

    def __init__(self, model: SentenceTransformer, examples: TrainingSet, config: TrainConfig) -> None:
        self._examples = examples
        self._config: WarmupConfig = config.warmup
        self._seed = config.seed
        examples.check_negatives()
        self._bm25 = from_rank_0(
            lambda: bm25_negatives(examples, num_negatives=self._config.num_negatives, seed=config.seed)
        )
        self.loss: StageLoss = TripletStageLoss(model, self._config)
        self.most_rows = len(self._bm25)
        self.rows_per_step = self._config.batch_size

    def rows(self, epoch: int) -> Rows:
        """Triplets (question row, positive row, negative row)."""
        if self._config.bm25_epochs and epoch >= self._config.bm25_epochs:
            return random_negatives(
                self._examples, num_negatives=self._config.num_negatives, seed=self._seed, epoch=epoch
            )
        return self._bm25

    def piece(self, rows: Rows) -> Piece:
        """Questions with the passages of their triplets."""
        return _triplet_piece(self._examples, rows)


class Teacher(StagePlan):
    """Teacher: triplets with hard and semi-hard negatives, mined with the model at the start of each epoch.

    Args:
        model: The encoder.
        examples: Questions and candidates.
        config: The run.
        progress: Told when mining begins.
    """

    def __init__(
        self, model: SentenceTransformer, examples: TrainingSet, config: TrainConfig, progress: Progress
    ) -> None:
        self._model = model
        self._examples = examples
        self._config: TeacherConfig = config.teacher
        self._batch_size = config.encode_batch_size
        self._progress = progress
        self.loss: StageLoss = TripletStageLoss(model, self._config)
        self.most_rows = len(examples.pairs) * (self._config.num_hard + self._config.num_semi_hard)
        self.rows_per_step = self._config.batch_size

    def rows(self, epoch: int) -> Rows:
        """Triplets (question row, positive row, negative row) that the model gets wrong, or nearly so.

        A positive has up to ``num_hard`` negatives that score above it and up to ``num_semi_hard`` that score less
        than the margin below it; a question with several positives is mined once for each of them. No negative is
        blocked for its question (:meth:`TrainingSet.blocked`).
        """
        self._progress.activity("mining")
        examples, config = self._examples, self._config
        texts = list(dict.fromkeys(q.text for q in examples.queries))
        row_of = {text: row for row, text in enumerate(texts)}
        with original_forward(self._model):
            embedded = encode_queries(self._model, texts, batch_size=self._batch_size)
            passages = encode_passages(self._model, list(examples.candidates.texts), batch_size=self._batch_size)
        queries, positives = examples.pairs[:, 0], examples.pairs[:, 1]
        mined = from_rank_0(
            lambda: mine(
                embedded[[row_of[examples.queries[q].text] for q in queries.tolist()]],
                passages,
                positives,
                num_hard=config.num_hard,
                num_semi_hard=config.num_semi_hard,
                margin=config.margin,
                exclude=[examples.blocked(q) for q in queries.tolist()],
            )
        )
        negatives = np.concatenate([mined.hard_indices, mined.semi_hard_indices], axis=1)
        pair, column = np.nonzero(negatives >= 0)
        rows = np.stack([queries[pair], positives[pair], negatives[pair, column]], axis=1).astype(np.int64)
        num_hard = int((column < config.num_hard).sum())
        logger.info("epoch %d: %d hard and %d semi-hard negatives", epoch + 1, num_hard, len(rows) - num_hard)
        if len(rows) == 0:
            logger.info(
                "every positive is at least the margin (%g) above all negatives: the teacher stage ends", config.margin
            )
        self._progress.activity("training")
        return rows

    def piece(self, rows: Rows) -> Piece:
        """Questions with the passages of their triplets."""
        return _triplet_piece(self._examples, rows)


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


class Transfer(StagePlan):
    """Transfer: a question in any language is drawn to where the teacher puts it in English, and to its passage.

    The teacher is the model as it is when this is made, or another one; it embeds every English question and every
    passage once. A question that the data set does not have in English has its own text embedded.

    Args:
        model: The encoder: the student. With another teacher it may get a projection (:func:`project_student`).
        examples: Questions and candidates.
        config: The run.
        progress: Told when the teacher embeds.
        teacher: The teacher; None for the model as it is.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        examples: TrainingSet,
        config: TrainConfig,
        progress: Progress,
        teacher: SentenceTransformer | None = None,
    ) -> None:
        self._examples = examples
        stage: TransferConfig = config.transfer
        progress.activity("embedding")
        targets = embed_targets(teacher or model, examples, batch_size=config.encode_batch_size)
        if teacher is not None:
            project_student(model, targets, examples, config)
        self._teacher_row = targets.row_of_query
        self._translations = examples.translations if stage.parallel_passages else None
        self.loss: StageLoss = TransferStageLoss(model, stage, _tensor(targets.queries), _tensor(targets.passages))
        self.most_rows = len(examples.pairs)
        self.rows_per_step = stage.batch_size

    @override
    def rows(self, epoch: int) -> Rows:
        """Pairs (question row, positive row): the same each epoch."""
        return self._examples.pairs

    def piece(self, rows: Rows) -> Piece:
        """Questions with their passages, and these in the questions' languages; the teacher's row of each."""
        queries, positives = rows[:, 0], rows[:, 1]
        distinct, in_batch = np.unique(positives, return_inverse=True)
        labels = [in_batch.reshape(-1), self._teacher_row[queries], positives]
        translations: dict[str, int] = {}
        if self._translations is not None:
            column = np.full(len(rows), -1, dtype=np.int64)
            for number, (query, positive) in enumerate(rows.tolist()):
                text = self._translations.get(self._examples.queries[query].language, {}).get(positive)
                if text is not None:
                    column[number] = translations.setdefault(text, len(distinct) + len(translations))
            labels.append(column)
        return Piece(
            queries=[self._examples.queries[q].text for q in queries.tolist()],
            passages=[*(self._examples.candidates.texts[p] for p in distinct.tolist()), *translations],
            labels=torch.from_numpy(np.stack(labels, axis=1)),
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


def make_stage(
    stage: Stage,
    model: SentenceTransformer,
    examples: TrainingSet,
    config: TrainConfig,
    progress: Progress,
    teacher: SentenceTransformer | None = None,
) -> StagePlan:
    """The plan of a stage; the teacher is that of the transfer, where it is another model."""
    if stage is Stage.WARMUP:
        return Warmup(model, examples, config)
    if stage is Stage.TEACHER:
        return Teacher(model, examples, config, progress)
    if stage is Stage.CONTRASTIVE:
        return Contrastive(model, examples, config)
    if stage is Stage.DISTILLATION:
        return Distillation(model, examples.data, examples.languages, config, progress)
    if stage is Stage.TRANSFER:
        return Transfer(model, examples, config, progress, teacher)
    raise ValueError(f"stage: expected one that takes steps, got {stage.value}")


def _triplet_piece(examples: TrainingSet, rows: Rows) -> Piece:
    distinct, in_batch = np.unique(rows[:, 1:], return_inverse=True)
    return Piece(
        queries=[examples.queries[q].text for q in rows[:, 0].tolist()],
        passages=[examples.candidates.texts[p] for p in distinct.tolist()],
        labels=torch.from_numpy(in_batch.reshape(-1, 2)),
    )


def _tensor(rows: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
