"""The callback that mines at the start of each epoch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from relkt.arrays import as_count
from relkt.data import parse_member
from relkt.encoders import PASSAGE_PROMPTS, model_checksum, prompt_of
from relkt.mining import Strategy
from relkt.training.distributed.processes import from_rank_0
from relkt.training.remine.checkpoint import checkpoint_file, identity_of, load_negatives, save_negatives
from relkt.training.remine.mining import Miner, Remined
from relkt.training.remine.pairs import MiningPairs, WithoutNegatives
from relkt.training.remine.texts import NegativeTexts, name_of, parts_of
from relkt.training.remine.trainer_checks import (
    check_arguments,
    check_columns,
    check_samplers,
    trained_model,
    warn_of_prompts,
)

logger = logging.getLogger(__name__)


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
    another folder, with other pairs or conditions, or damaged), the loaded weights mine for the rest of the epoch, and
    a warning says so.

    **Several processes.** Rank 0 mines for all and sends them its negatives, so ``ddp_timeout`` must be longer than a
    mining. Models whose weights are sharded (FSDP, DeepSpeed ZeRO-3) are refused.

    **Data loading.** Worker processes work, unless they outlive an epoch (``dataloader_persistent_workers``), as do all
    batch samplers but ``NO_DUPLICATES_HASHED``, which hashes the texts of the first epoch for all of them; both are
    refused.

    **Changes of the data set.** ``remine.dataset`` keeps numbers in its columns of negatives, for which each read looks
    up the texts. What ``select``, ``sort``, ``shuffle``, ``filter``, ``train_test_split``, the removal or addition of
    columns and ``map`` to new columns make of it does so too, also as one of several in a dict. All else does not:

    - ``map`` that returns a column of negatives, ``flatten_indices`` and ``batch`` make a data set that cannot be read
      (a TypeError says so).
    - ``save_to_disk`` (TypeError) and ``to_iterable_dataset`` (NotImplementedError) fail.
    - ``to_list``, ``to_dict`` and ``to_pandas`` give the numbers.
    - ``with_format(None)``, a renamed column of negatives and the concatenated data sets of two callbacks show the
      numbers. A training on such a data set is refused.

    All of it can be done with a copy that has the negatives of the moment for good:
    ``Dataset.from_list(list(remine.dataset))``. So should evaluation data be: the half of a ``train_test_split`` has
    other negatives in each epoch, and losses that cannot be compared. A warning says so at the first evaluation.

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
        margin: Width of the semi-hard window, only with ``num_semi_hard``. Default 0.1.
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
        margin: float | None = None,
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
        self._every = as_count("every", every, "of at least 1", least=1)
        self._show_progress_bar = show_progress_bar
        self._query_prompt, self._passage_prompt = query_prompt, passage_prompt
        self._pairs = MiningPairs.read(
            pairs,
            corpus,
            anchor_column=anchor_column,
            positive_column=positive_column,
            document_column=document_column,
            exclude_column=exclude_column,
        )
        self._miner = Miner(
            self._pairs,
            {
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
                "seed": seed,
            },
            threads=threads,
            batch_size=batch_size,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
        )
        self.columns = tuple(f"negative_{place + 1}" for place in range(self._miner.places))
        columns = [self._pairs.anchor, self._pairs.positive]
        if taken := set(columns) & set(self.columns):
            raise ValueError(f"pairs: expected another name for the column {taken.pop()!r}, which negatives have")
        self._lookup = NegativeTexts(self._pairs.distinct.passages, self.columns)
        self._epoch: int | None = None
        self._told_of_evaluation = False

        self.last, rows = self._miner.mine(model, 0, self._lookup.rows, show=bool(show_progress_bar))
        kept = self._pairs.rows_with_negatives(np.flatnonzero((rows < 0).all(axis=1)), policy)
        self._lookup.rows = rows
        settings = [asdict(self._miner.conditions), self._every, query_prompt, passage_prompt, columns]
        self._identity = identity_of(self._pairs, kept, settings)
        chosen = pairs.select_columns(columns)
        if len(kept) < len(pairs):
            chosen = chosen.select(kept)
        self.dataset = self._lookup.added_to(chosen, self._pairs.query_of[kept])

    @override
    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Refuses settings with which the trainer would go on with old negatives.

        Raises:
            ValueError: If the batch sampler or the workers would.
        """
        check_arguments(args)

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Checks the trainer's settings, model and data set.

        Raises:
            TypeError: If the model is none that this can mine with, or the data set has numbers in the place of
                negatives.
            ValueError: If the batch sampler or the workers would go on with old negatives.
        """
        check_arguments(args)
        model = trained_model(kwargs)
        self._epoch, self._told_of_evaluation = None, False
        dataloader = kwargs.get("train_dataloader")
        check_samplers(dataloader)
        parts = parts_of(dataloader)
        for part in parts:
            check_columns(part)
        names = dict.fromkeys(name_of(part) for part in parts if self._lookup.is_in(part))
        for name in names or [None]:
            warn_of_prompts(args, self._prompts(model), name)
        if not names:
            logger.warning(
                "The trainer's train_dataset does not look up the negatives of this RemineCallback: pass its .dataset, "
                "or what select, sort or shuffle make of it, as train_dataset"
            )

    @override
    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mines for the epoch, or goes on with the negatives of the checkpoint inside one."""
        model = trained_model(kwargs)
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

        def find() -> tuple[Remined | None, NDArray[np.int64]]:
            before = self._lookup.rows
            if resumed:
                path = checkpoint_file(args, state)
                restored = load_negatives(path, identity=self._identity, weights=model_checksum(model))
                if restored is None:
                    logger.warning(
                        "Going on without the negatives of the checkpoint (%s is missing, damaged or of another "
                        "training): they are mined with the loaded weights",
                        path,
                    )
                else:
                    self._miner.forget()
                    if not (due and started == epoch):
                        return None, restored
                    before = restored  # a new epoch: what the anchors that lose all their negatives keep
            return self._miner.mine(model, epoch, before, show=show)

        found, rows, identity = from_rank_0(lambda: (*find(), self._identity))
        if identity != self._identity:
            raise RuntimeError("the processes' RemineCallbacks were made of different pairs, models or conditions")
        self._lookup.rows = rows
        if found is None:
            logger.info("Epoch %d goes on with the negatives of its checkpoint", epoch + 1)
            return
        self.last = found
        entry = {f"remine_{name}": value for name, value in asdict(found).items()}
        state.log_history.append({**entry, "epoch": started, "step": state.global_step})
        logger.info("Negatives of epoch %d: %s", epoch + 1, found)
        if (found.filled or found.kept) and state.is_local_process_zero:
            anchors = int(self._miner.used.sum())
            logger.warning(
                "Epoch %d: %d of %d places of negatives repeat another of the same anchor; %d of %d anchors have none "
                "and keep those they had",
                epoch + 1,
                found.filled,
                anchors * self._miner.places,
                found.kept,
                anchors,
            )

    @override
    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tells, once in a training, of evaluation data whose negatives are others in each epoch."""
        if self._told_of_evaluation or not state.is_local_process_zero:
            return
        if any(self._lookup.is_in(part) for part in parts_of(kwargs.get("eval_dataloader"))):
            self._told_of_evaluation = True
            logger.warning(
                "The trainer's eval_dataset looks up the negatives of this RemineCallback, so its losses in different "
                "epochs are of different negatives: pass Dataset.from_list(list(dataset)) in its place"
            )

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Puts the negatives in use into the checkpoint."""
        path = checkpoint_file(args, state)
        if state.is_world_process_zero and path.parent.is_dir():
            weights = model_checksum(trained_model(kwargs))
            save_negatives(path, self._lookup.rows, identity=self._identity, weights=weights)

    def _prompts(self, model: SentenceTransformer) -> dict[str, str]:
        """What mining puts before the texts of each column."""
        query, passage = self._query_prompt, self._passage_prompt
        if query is None:
            query = prompt_of(model, "query")
        if passage is None:
            passage = prompt_of(model, *PASSAGE_PROMPTS)
        return {self._pairs.anchor: query} | dict.fromkeys((self._pairs.positive, *self.columns), passage)
