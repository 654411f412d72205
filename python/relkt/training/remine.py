"""Negatives mined anew between the epochs of a sentence-transformers training."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import distributed
from torch.utils.data import ConcatDataset
from tqdm.auto import tqdm  # type: ignore[import-untyped]
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from relkt.data import parse_member
from relkt.data.pairs import Candidacy, PairSet, PairSetBuilder
from relkt.encoders import encode_passages, encode_queries, model_checksum
from relkt.mining import MinedNegatives, Strategy, mine
from relkt.mining.conditions import Conditions
from relkt.training.precision import original_forward
from relkt.training.trainer import PASSAGE_PROMPTS, prompt_of

CHECKPOINT_FILE = "relkt_negatives.npz"
"""In a trainer's checkpoint: the negatives that were in use when it was made."""

_HASHED_SAMPLER = "no_duplicates_hashed"

logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_Rows = NDArray[np.int64]


class WithoutNegatives(str, Enum):
    """What becomes of an anchor for which there is not one negative when a :class:`RemineCallback` is made."""

    LEAVE_OUT = "leave-out"
    """Its pairs are not in the data set; a warning counts them."""
    ERROR = "error"
    """A ValueError."""


@dataclass(frozen=True)
class Remined:
    """What one mining found; in ``trainer.state.log_history`` with ``remine_`` before each name.

    Attributes:
        negatives: Distinct negatives, summed over the anchors.
        score: Their mean cosine with their anchor.
        positive_score: The mean cosine of the anchors with their (lowest) positive.
        changed: Share of the negatives that were not among those of the same anchor before; 1 the first time.
        filled: Places of the columns that repeat a negative of the same anchor, as there are too few of them.
        kept: Anchors without any negative this time, which keep those they had.
        seconds: Time for embedding and mining; 0 where the weights were still those of the last mining.
    """

    negatives: int
    score: float
    positive_score: float
    changed: float
    filled: int
    kept: int
    seconds: float


class NegativeTexts:
    """A data set's transform: puts the texts of the current negatives in the place of the numbers of their queries.

    Copies of a data set share it, so all of them show the same negatives. A process that was handed the data set has
    the negatives of that moment.

    Args:
        texts: The passages.
        columns: The columns of negatives, in order of rank.
    """

    def __init__(self, texts: Sequence[str], columns: Sequence[str]) -> None:
        # Arrow rather than a list: one object, which processes share after a fork as long as nobody writes to it.
        self._texts = pa.array(texts, pa.large_string())
        self._columns = {name: rank for rank, name in enumerate(columns)}
        self.rows: _Rows = np.empty((0, len(columns)), dtype=np.int64)

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The batch with texts in the columns of negatives that it has."""
        for name in self._columns.keys() & batch.keys():
            rows = self.rows[np.asarray(batch[name], dtype=np.int64), self._columns[name]]
            batch[name] = self._texts.take(pa.array(rows)).to_pylist()
        return batch

    def __deepcopy__(self, memo: dict[int, Any]) -> NegativeTexts:
        # datasets copies a data set for each column it removes and each format it sets.
        return self


class RemineCallback(TrainerCallback):
    """Mines negatives with the model as it is at the start of each epoch, for the examples of that epoch.

    ```python
    remine = relkt.RemineCallback(pairs, model, num_negatives=3, relative_margin=0.05)
    trainer = SentenceTransformerTrainer(
        model, args, train_dataset=remine.dataset, loss=MultipleNegativesRankingLoss(model), callbacks=[remine]
    )
    ```

    ``remine.dataset`` has a row for each pair, with the pair's two columns and ``negative_1`` to ``negative_n``, whose
    texts are looked up when a row is read. Candidates are the distinct positives and the texts of ``corpus``. Never
    negatives of an anchor are its positives (those of all rows with the same anchor), a text equal to the anchor and,
    with ``document_column``, the passages of its positives' documents. The conditions are those of
    :func:`relkt.mine` and hold exactly: an anchor has fewer than n negatives only if there are no more, and its own
    are then repeated in turn. The pairs of one with none at all when the callback is made are left out of the data set
    (or an error, see ``without_negatives``); one that loses all its negatives in a later epoch keeps those it had. A
    warning counts them.

    Mining takes place when the callback is made, so that the data set is complete from the start, and at the start
    of every epoch (of the first only if the weights are others by then). It runs without mixed precision, in
    evaluation mode, and leaves the model's mode and all random states as they were. With the same negatives, a training
    with this callback is the training without it, bit for bit. What was found is logged, and is in
    ``trainer.state.log_history`` (see :class:`Remined`).

    **Going on from a checkpoint.** Each checkpoint holds the negatives in use. A training that goes on from one in
    its ``output_dir`` has the same negatives in the rest of the epoch, and the same from there on where the trainer
    itself is repeatable: it ends with the same weights, bit for bit. Where they are not found (a checkpoint of
    another folder, or with other pairs or conditions), the loaded weights mine for the rest of the epoch, and a warning
    says so.

    **Several processes.** Rank 0 mines for all and sends them its negatives, so ``ddp_timeout`` must be longer than a
    mining. Models whose weights are sharded (FSDP, DeepSpeed ZeRO-3) are refused.

    **Data loading.** Worker processes work, unless they outlive an epoch (``dataloader_persistent_workers``), as do all
    batch samplers but ``NO_DUPLICATES_HASHED``, which hashes the texts of the first epoch for all of them; both are
    refused. ``remine.dataset`` may be selected from, sorted, or be one of several in a dict; ``map`` and
    ``save_to_disk`` would take the negatives of the moment.

    Args:
        pairs: Anchors and positives, in two columns of texts; other columns are not trained on.
        model: The model that will be trained.
        num_negatives: As for :func:`relkt.mine`, and so are all conditions. Default 3, or 0 if ``num_hard`` or
            ``num_semi_hard`` is given.
        strategy: "top" or "random".
        range_min: Ranks passed over.
        range_max: The last rank that counts.
        min_score: The lowest cosine.
        max_score: The highest cosine.
        absolute_margin: Distance from the lowest positive's score.
        relative_margin: The same as a share of that score.
        num_hard: Hard negatives; their columns come after those of ``num_negatives``.
        num_semi_hard: Semi-hard negatives; their columns come last.
        margin: Width of the semi-hard window.
        max_positive_similarity: Near-duplicates of a positive, above this cosine, are no negatives.
        seed: Of strategy "random"; epoch e (from 0) draws with ``seed + e``.
        threads: Threads of the search.
        corpus: Further candidates: texts, or a data set with the columns ``positive_column`` and, where given,
            ``document_column``.
        anchor_column: Default: the first column of ``pairs``.
        positive_column: Default: the second.
        document_column: A column of texts or integers that says which document a positive is from.
        exclude_column: A column with a list of texts for each pair that are no negatives of its anchor.
        every: Mine at the start of every so many epochs.
        batch_size: Texts embedded at once. Default 32.
        query_prompt: Put before anchors; default: the model's prompt for queries. Give the trainer the same in its
            ``prompts``: a warning tells where they differ.
        passage_prompt: The same for all other texts.
        without_negatives: Whether an anchor without any negative is an error or left out; see
            :class:`WithoutNegatives`. Default "leave-out".
        show_progress_bar: Default: as the trainer's ``disable_tqdm`` says, and none when the callback is made.

    Attributes:
        dataset: What to train on.
        columns: Names of the columns of negatives.
        last: What the last mining found.

    Raises:
        TypeError: If ``pairs``, ``model`` or another argument has the wrong type.
        ValueError: If a column is missing, a text is blank (with its row), a condition is out of its range, or no
            anchor has a negative.
    """

    def __init__(
        self,
        pairs: Dataset,
        model: SentenceTransformer,
        *,
        num_negatives: int | None = None,
        strategy: Strategy | str = "top",
        range_min: int = 0,
        range_max: int | None = None,
        min_score: float | None = None,
        max_score: float | None = None,
        absolute_margin: float | None = None,
        relative_margin: float | None = None,
        num_hard: int = 0,
        num_semi_hard: int = 0,
        margin: float = 0.1,
        max_positive_similarity: float | None = None,
        seed: int = 0,
        threads: int | None = None,
        corpus: Sequence[str] | Dataset | None = None,
        anchor_column: str | None = None,
        positive_column: str | None = None,
        document_column: str | None = None,
        exclude_column: str | None = None,
        every: int = 1,
        batch_size: int = 32,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        without_negatives: WithoutNegatives | str = WithoutNegatives.LEAVE_OUT,
        show_progress_bar: bool | None = None,
    ) -> None:
        if not isinstance(pairs, Dataset):
            raise TypeError(f"pairs: expected a datasets.Dataset, got {type(pairs).__name__}")
        if not isinstance(model, SentenceTransformer):
            raise TypeError(f"model: expected a SentenceTransformer, got {type(model).__name__}")
        policy = parse_member(WithoutNegatives, without_negatives, "without_negatives")
        self._every = _at_least_one("every", every)
        self._batch_size = _at_least_one("batch_size", batch_size)
        self._query_prompt, self._passage_prompt = query_prompt, passage_prompt
        for name, prompt in (("query_prompt", query_prompt), ("passage_prompt", passage_prompt)):
            if prompt is not None and not isinstance(prompt, str):
                raise TypeError(f"{name}: expected a text or None, got {prompt!r}")
        self._show_progress_bar = show_progress_bar
        self._conditions: dict[str, Any] = {
            "num_negatives": num_negatives,
            "strategy": strategy,
            "range_min": range_min,
            "range_max": range_max,
            "min_score": min_score,
            "max_score": max_score,
            "absolute_margin": absolute_margin,
            "relative_margin": relative_margin,
            "num_hard": num_hard,
            "num_semi_hard": num_semi_hard,
            "margin": margin,
            "max_positive_similarity": max_positive_similarity,
        }
        self._seed = seed
        self._threads = threads

        self._anchor, self._positive = _columns(pairs, anchor_column, positive_column)
        self._pairs, query_of = self._collect(pairs, corpus, document_column)
        checked = Conditions.checked(**self._conditions, seed=seed, passages=len(self._pairs.passages))
        places = checked.num_negatives + checked.num_hard + checked.num_semi_hard
        self.columns = tuple(f"negative_{place + 1}" for place in range(places))
        if taken := {self._anchor, self._positive} & set(self.columns):
            raise ValueError(f"pairs: expected another name for the column {taken.pop()!r}, which negatives have")
        self._candidacy = self._exclusions(pairs, exclude_column, query_of)
        self._lookup = NegativeTexts(self._pairs.passages, self.columns)
        self._mined_with: tuple[str, int] | None = None
        self._epoch: int | None = None

        self.last, rows = self._mine(model, 0, show=bool(show_progress_bar))
        missing = np.flatnonzero((rows < 0).all(axis=1))
        kept = self._rows_with_negatives(query_of, missing, policy)
        self._use(rows)
        self._identity = self._checksum(kept)
        self.dataset = self._build(pairs, kept, query_of)

    # The trainer's events

    @override
    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Refuses settings with which the trainer would go on with old negatives.

        Raises:
            ValueError: If the batch sampler or the workers would.
        """
        self._check_arguments(args)

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Checks the trainer's settings, model and data set."""
        self._check_arguments(args)
        model = _trained(kwargs)
        self._epoch = None
        self._warn_of_prompts(args, model)
        dataset = getattr(kwargs.get("train_dataloader"), "dataset", None)
        parts = dataset.datasets if isinstance(dataset, ConcatDataset) else [dataset]
        if not any(self._is_looked_up_by(part) for part in parts):
            logger.warning(
                "The trainer's train_dataset does not look up the negatives of this RemineCallback: pass its .dataset, "
                "or what select, sort or shuffle make of it, as train_dataset"
            )

    @override
    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mines for the epoch, or goes on with the negatives of the checkpoint inside one."""
        model = _trained(kwargs)
        started = state.epoch or 0.0
        resumed = self._epoch is None and state.global_step > 0
        # The trainer's count is only read at the start: it stands still in an epoch that is broken off.
        self._epoch = epoch = int(started) if self._epoch is None else self._epoch + 1
        due = epoch % self._every == 0
        if not due and not resumed:
            return
        show = not args.disable_tqdm and state.is_local_process_zero
        if self._show_progress_bar is not None:
            show = self._show_progress_bar and state.is_local_process_zero

        def find() -> tuple[Remined | None, _Rows]:
            if resumed and not (due and started == epoch):
                path = _checkpoint_file(args, state)
                restored = self._restore(path, model)
                if restored is not None:
                    return None, restored
                logger.warning(
                    "Going on inside an epoch without its negatives (%s is missing or of another training): they are "
                    "mined with the loaded weights",
                    path,
                )
            return self._mine(model, epoch, show=show)

        found, rows, identity = _from_rank_0(lambda: (*find(), self._identity))
        if identity != self._identity:
            raise RuntimeError("the processes' RemineCallbacks were made of different pairs, models or conditions")
        self._use(rows)
        if found is None:
            logger.info("Epoch %d goes on with the negatives of its checkpoint", epoch + 1)
            return
        self.last = found
        entry = {f"remine_{name}": value for name, value in asdict(found).items()}
        state.log_history.append({**entry, "epoch": started, "step": state.global_step})
        logger.info("Negatives of epoch %d: %s", epoch + 1, found)
        if (found.filled or found.kept) and state.is_local_process_zero:
            logger.warning(
                "Epoch %d: %d of %d places of negatives repeat another of the same anchor; %d of %d anchors have none "
                "and keep those they had",
                epoch + 1,
                found.filled,
                rows.size,
                found.kept,
                len(rows),
            )

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Puts the negatives in use into the checkpoint."""
        path = _checkpoint_file(args, state)
        if not state.is_world_process_zero or not path.parent.is_dir():
            return
        partial_path = path.with_name(f"{path.name}.partial")
        with partial_path.open("wb") as file:
            np.savez(file, rows=self._lookup.rows, identity=self._identity, weights=model_checksum(_trained(kwargs)))
        partial_path.replace(path)

    # Mining

    def _mine(self, model: SentenceTransformer, epoch: int, *, show: bool) -> tuple[Remined, _Rows]:
        """What was found, and the row of each negative; -1 where an anchor has none, now or before."""
        weights = model_checksum(model)
        seed = (self._seed + epoch) % 2**64
        before = self._lookup.rows
        if self._mined_with == (weights, seed):
            return replace(self.last, seconds=0.0), before
        start = time.perf_counter()
        mined = self._mine_with(model, seed, epoch, show)
        rows = np.concatenate([mined.indices, mined.hard_indices, mined.semi_hard_indices], axis=1)
        scores = np.concatenate([mined.scores, mined.hard_scores, mined.semi_hard_scores], axis=1)
        rows = _without_repeats(rows)
        found = rows >= 0
        counts = found.sum(axis=1)
        changed = found.copy() if not len(before) else found & ~(rows[:, :, None] == before[:, None, :]).any(axis=2)
        total = int(counts.sum())
        remined = Remined(
            negatives=total,
            score=_mean(scores[found]),
            positive_score=_mean(mined.positive_scores),
            changed=round(float(changed.sum()) / total, 4) if total else 0.0,
            filled=int((rows.shape[1] - counts[counts > 0]).sum()),
            kept=int(((counts == 0) & (before[:, 0] >= 0)).sum()) if len(before) else 0,
            seconds=round(time.perf_counter() - start, 3),
        )
        rows = _fill(rows)
        if len(before):
            rows = np.where(counts[:, None] > 0, rows, before)
        self._mined_with = (weights, seed)
        return remined, rows

    def _mine_with(self, model: SentenceTransformer, seed: int, epoch: int, show: bool) -> MinedNegatives:
        pairs, candidacy = self._pairs, self._candidacy
        texts = len(pairs.queries) + len(pairs.passages)
        described = f"epoch {epoch + 1}"
        with _untouched(model), original_forward(model):
            with tqdm(total=texts, desc=f"Embedding, {described}", unit="text", leave=False, disable=not show) as bar:
                embed = {"batch_size": self._batch_size, "progress": bar.update}
                queries = encode_queries(model, pairs.queries, prompt=self._query_prompt, **embed)
                passages = encode_passages(model, pairs.passages, prompt=self._passage_prompt, **embed)
            with tqdm(
                total=len(queries), desc=f"Mining, {described}", unit="query", leave=False, disable=not show
            ) as bar:
                return mine(
                    queries,
                    passages,
                    candidacy.positives,
                    groups=candidacy.groups,
                    exclude=candidacy.exclude,
                    seed=seed,
                    threads=self._threads,
                    progress=bar.update,
                    **self._conditions,
                )

    def _use(self, rows: _Rows) -> None:
        self._lookup.rows = rows

    def _restore(self, path: Path, model: SentenceTransformer) -> _Rows | None:
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            if str(file["identity"]) != self._identity or str(file["weights"]) != model_checksum(model):
                return None
            rows: _Rows = file["rows"]
        self._mined_with = None
        return rows

    # What the callback is made of

    def _collect(
        self, pairs: Dataset, corpus: Sequence[str] | Dataset | None, document_column: str | None
    ) -> tuple[PairSet, _Rows]:
        builder = PairSetBuilder()
        documents = _documents("pairs", pairs, document_column)
        anchors, positives = _texts("pairs", pairs, self._anchor), _texts("pairs", pairs, self._positive)
        query_of = np.empty(len(pairs), dtype=np.int64)
        for row, (anchor, positive) in enumerate(zip(anchors, positives, strict=True)):
            where = f"pairs, row {row}"
            query = builder.add_query(anchor, where=where)
            document = None if documents is None else documents[row]
            builder.add_pair(query, builder.add_passage(positive, document=document, where=where))
            query_of[row] = query
        if isinstance(corpus, Dataset):
            documents = _documents("corpus", corpus, document_column)
            further: Sequence[Any] = _texts("corpus", corpus, self._positive)
        elif isinstance(corpus, str):
            raise TypeError("corpus: expected texts, or a datasets.Dataset of them, got one text")
        else:
            documents, further = None, [] if corpus is None else list(corpus)
        for row, text in enumerate(further):
            if not isinstance(text, str):
                raise TypeError(f"corpus, row {row}: expected a text, got {text!r}")
            builder.add_passage(
                text, document=None if documents is None else documents[row], where=f"corpus, row {row}"
            )
        return builder.build(), query_of

    def _exclusions(self, pairs: Dataset, column: str | None, query_of: _Rows) -> Candidacy:
        candidacy = self._pairs.candidacy()
        if column is None:
            return candidacy
        _check_column("pairs", pairs, column, "exclude_column")
        row_of = {text: row for row, text in enumerate(self._pairs.passages)}
        exclude = [set(rows) for rows in candidacy.exclude or [[]] * len(self._pairs.queries)]
        for row, (query, texts) in enumerate(zip(query_of.tolist(), pairs[column], strict=True)):
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise TypeError(f"pairs, row {row}: expected a list of texts in {column!r}, got {texts!r}")
            exclude[query].update(row_of[text] for text in texts if text in row_of)
        return candidacy._replace(exclude=[sorted(rows) for rows in exclude])

    def _rows_with_negatives(self, query_of: _Rows, missing: _Rows, policy: WithoutNegatives) -> _Rows:
        kept = np.flatnonzero(~np.isin(query_of, missing))
        if not len(missing):
            return kept
        row = int(np.flatnonzero(query_of == missing[0])[0])
        found = (
            f"{len(missing)} of {len(self._pairs.queries)} anchors have no negative under these conditions, the first "
            f"in row {row}: {self._pairs.queries[missing[0]]!r}"
        )
        if policy is WithoutNegatives.ERROR or not len(kept):
            raise ValueError(f"pairs: {found}; loosen the conditions, or give a corpus")
        logger.warning("%s; %d of %d pairs are left out", found, len(query_of) - len(kept), len(query_of))
        return kept

    def _build(self, pairs: Dataset, kept: _Rows, query_of: _Rows) -> Dataset:
        # Each column of negatives holds the number of the pair's query, and the transform does the rest: so a row
        # keeps its negatives wherever it is moved, and a column can be read without the others.
        numbers = pa.array(query_of[kept])
        info = pairs.info.copy()
        info.features = None
        chosen = pairs.select_columns([self._anchor, self._positive])
        if len(kept) < len(pairs):
            chosen = chosen.select(kept)
        columns = {name: pa.array(chosen[name], pa.large_string()) for name in (self._anchor, self._positive)}
        columns |= dict.fromkeys(self.columns, numbers)
        return Dataset.from_dict(columns, info=info, split=pairs.split).with_transform(self._lookup)

    def _checksum(self, kept: _Rows) -> str:
        digest = hashlib.sha256(kept.tobytes())
        prompts = [self._query_prompt, self._passage_prompt]
        names = [self._anchor, self._positive, *self.columns]
        digest.update(json.dumps([self._conditions, self._seed, self._every, prompts, names]).encode())
        digest.update(self._pairs.pairs.tobytes())
        for texts in (self._pairs.queries, self._pairs.passages):
            for text in texts:
                digest.update(f"{len(text)} {text}".encode())
        digest.update(repr(self._candidacy.exclude).encode())
        if self._candidacy.groups is not None:
            digest.update(self._candidacy.groups.tobytes())
        return digest.hexdigest()

    # Checks of the trainer

    def _check_arguments(self, args: TrainingArguments) -> None:
        if args.dataloader_num_workers > 0 and args.dataloader_persistent_workers:
            raise ValueError(
                "dataloader_persistent_workers: expected False with a RemineCallback, got True: workers that outlive "
                "an epoch keep its negatives"
            )
        if str(getattr(getattr(args, "batch_sampler", ""), "value", "")) == _HASHED_SAMPLER:
            raise ValueError(
                "batch_sampler: expected another one with a RemineCallback, such as NO_DUPLICATES, got "
                "NO_DUPLICATES_HASHED, which keeps the hashes of the first epoch's negatives"
            )

    def _warn_of_prompts(self, args: TrainingArguments, model: SentenceTransformer) -> None:
        given = getattr(args, "prompts", None) or {}
        if isinstance(given, Mapping) and any(isinstance(value, Mapping) for value in given.values()):
            return  # by the name of the data set, which nobody here knows
        own = {
            self._anchor: prompt_of(model, "query") if self._query_prompt is None else self._query_prompt,
            self._positive: prompt_of(model, *PASSAGE_PROMPTS)
            if self._passage_prompt is None
            else self._passage_prompt,
        }
        own |= dict.fromkeys(self.columns, own[self._positive])
        for column, prompt in own.items():
            trained = given if isinstance(given, str) else given.get(column) or ""
            if trained != prompt:
                logger.warning(
                    "The trainer puts the prompt %r before the texts of %r, mining puts %r: give both the same (the "
                    "trainer in its arguments' prompts, mining in query_prompt and passage_prompt)",
                    trained,
                    column,
                    prompt,
                )

    def _is_looked_up_by(self, dataset: Any) -> bool:
        transform = dataset.format["format_kwargs"].get("transform") if isinstance(dataset, Dataset) else None
        while isinstance(transform, partial):  # the trainer's own, which adds the name of the data set
            transform = transform.keywords.get("transform")
        return transform is self._lookup


def _trained(kwargs: Mapping[str, Any]) -> SentenceTransformer:
    model = kwargs.get("model")
    if not isinstance(model, SentenceTransformer):
        raise TypeError(f"model: expected the trainer to train a SentenceTransformer, got {type(model).__name__}")
    # DeepSpeed marks its parameters, FSDP makes DTensors of them.
    if any(hasattr(weights, "ds_id") or hasattr(weights, "device_mesh") for weights in model.parameters()):
        raise TypeError("model: expected whole weights in each process, got sharded ones (FSDP or DeepSpeed ZeRO-3)")
    return model


def _from_rank_0(find: Callable[[], _T]) -> _T:
    """What rank 0 finds, in every process; also its failure, so that none waits for it."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return find()
    outcome: list[Any] = [None]
    failure: Exception | None = None
    if distributed.get_rank() == 0:
        try:
            outcome = [(find(), None)]
        except Exception as error:
            failure = error
            outcome = [(None, f"{type(error).__name__}: {error}")]
    distributed.broadcast_object_list(outcome, src=0)
    if failure is not None:
        raise failure
    found, message = outcome[0]
    if message is not None:
        raise RuntimeError(f"mining failed in rank 0: {message}")
    return found  # type: ignore[no-any-return]


@contextmanager
def _untouched(model: SentenceTransformer) -> Iterator[None]:
    """Afterwards every module is in the mode it was in, and every random state is what it was."""
    modes = [(module, module.training) for module in model.modules()]
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    device = model.device
    with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)


def _checkpoint_file(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / CHECKPOINT_FILE


def _without_repeats(rows: _Rows) -> _Rows:
    """Each row's negatives once, the first places filled first; -1 in those that are left."""
    rows = rows.astype(np.int64)
    for place in range(1, rows.shape[1]):
        rows[(rows[:, :place] == rows[:, place : place + 1]).any(axis=1), place] = -1
    order = np.argsort(rows < 0, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


def _fill(rows: _Rows) -> _Rows:
    """The places that are left, filled with the row's own negatives in turn."""
    counts = np.maximum((rows >= 0).sum(axis=1, keepdims=True), 1)
    return np.take_along_axis(rows, np.arange(rows.shape[1])[None, :] % counts, axis=1)


def _mean(scores: NDArray[np.float32]) -> float:
    return round(float(scores.mean(dtype=np.float64)), 6) if scores.size else float("nan")


def _at_least_one(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {value}")
    return value


def _columns(pairs: Dataset, anchor: str | None, positive: str | None) -> tuple[str, str]:
    names = pairs.column_names
    if len(names) < 2:
        raise ValueError(f"pairs: expected two columns of texts at least, got {names}")
    if not len(pairs):
        raise ValueError("pairs: expected at least one row, got none")
    anchor, positive = anchor or names[0], positive or names[1]
    for argument, column in (("anchor_column", anchor), ("positive_column", positive)):
        _check_column("pairs", pairs, column, argument)
    if anchor == positive:
        raise ValueError(f"anchor_column, positive_column: expected two columns, got {anchor!r} for both")
    return anchor, positive


def _check_column(name: str, dataset: Dataset, column: str, argument: str) -> None:
    if column not in dataset.column_names:
        raise ValueError(f"{argument}: expected a column of {name} ({', '.join(dataset.column_names)}), got {column!r}")


def _texts(name: str, dataset: Dataset, column: str) -> list[str]:
    _check_column(name, dataset, column, "positive_column")
    texts = list(dataset[column])
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}, row {row}: expected a text in {column!r}, got {text!r}")
    return texts


def _documents(name: str, dataset: Dataset, column: str | None) -> list[str | None] | None:
    if column is None:
        return None
    _check_column(name, dataset, column, "document_column")
    documents: list[str | None] = []
    for row, document in enumerate(dataset[column]):
        if document is not None and (isinstance(document, bool) or not isinstance(document, str | int)):
            raise TypeError(f"{name}, row {row}: expected a text or an integer in {column!r}, got {document!r}")
        documents.append(None if document is None else str(document))
    return documents
