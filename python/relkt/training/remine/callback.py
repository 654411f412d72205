"""A trainer callback that mines at the start of each epoch."""

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
from typing_extensions import Unpack, override

from relkt.arrays import as_count
from relkt.data import parse_member
from relkt.encoders import PASSAGE_PROMPTS, model_checksum, prompt_of
from relkt.mining.conditions import ConditionArgs, shows_conditions
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
    warn_about_prompts,
)

logger = logging.getLogger(__name__)


class RemineCallback(TrainerCallback):
    """Mines new negatives with the current model at the start of each epoch.

    ```python
    remine = relkt.RemineCallback(pairs, model, num_negatives=3, relative_margin=0.05)
    trainer = SentenceTransformerTrainer(
        model, args, train_dataset=remine.dataset, loss=MultipleNegativesRankingLoss(model), callbacks=[remine]
    )
    ```

    ``remine.dataset`` has one row per pair, with the pair's two columns and ``negative_1`` to ``negative_n``, whose
    texts are looked up when a row is read. The candidates for an anchor are the distinct positives of all pairs and the
    texts of ``corpus``, except the anchor's own positives (in all rows with the same anchor), texts equal to the anchor
    and, with ``document_column``, all passages from the documents of its positives. The conditions are those of
    :func:`relkt.mine` and hold exactly: an anchor has fewer than n negatives only if no more exist. Its negatives are
    then repeated in turn. If an anchor has no negative when the callback is made, its pairs are left out of the data
    set, or an error is raised (see ``without_negatives``). An anchor that loses all its negatives in a later epoch
    keeps its previous ones. A warning reports how many anchors and negatives are affected.

    Mining runs when the callback is made, so that the data set is complete from the start, and again at the start of
    every epoch. At the start of the first epoch, it runs only if the weights have changed since. It runs without mixed
    precision and in evaluation mode, and restores the model's mode and all random states. Training with this callback
    equals training on the same negatives without it, bit for bit. Results are logged and stored in
    ``trainer.state.log_history`` (see :class:`Remined`).

    **Resuming from a checkpoint.** Each checkpoint holds the current negatives. A training that resumes from a
    checkpoint in its ``output_dir`` uses these negatives for the rest of the epoch. If the trainer itself is
    deterministic, the resumed training ends with the same weights as an uninterrupted one, bit for bit. If the saved
    negatives cannot be used (the checkpoint is in another folder, has other pairs or conditions, or is damaged), the
    model with the loaded weights mines negatives for the rest of the epoch, and a warning says so.

    **Several processes.** Rank 0 mines and broadcasts its negatives, so ``ddp_timeout`` must be longer than one mining
    takes. Models with sharded weights (FSDP, DeepSpeed ZeRO-3) are rejected.

    **Data loading.** Worker processes that outlive an epoch (``dataloader_persistent_workers``) are rejected, and so is
    the batch sampler ``NO_DUPLICATES_HASHED``, which keeps the hashes of the first epoch's texts. All other batch
    samplers and worker settings are supported.

    **Changing the data set.** The negative columns of ``remine.dataset`` hold numbers; each read looks up the current
    texts. Data sets made by ``select``, ``sort``, ``shuffle``, ``filter``, ``train_test_split``, by removing or adding
    columns, and by ``map`` to new columns keep this behaviour, even if the data set is one of several in a dict. Other
    operations do not:

    - ``flatten_indices``, ``batch`` and a ``map`` that returns a negative column make a data set that cannot be read
      (reading raises a TypeError).
    - ``save_to_disk`` (TypeError) and ``to_iterable_dataset`` (NotImplementedError) fail.
    - ``to_list``, ``to_dict`` and ``to_pandas`` return the numbers.
    - After ``with_format(None)``, after a negative column is renamed, and after data sets of two callbacks are
      concatenated, reading shows the numbers; training on such a data set is rejected.

    All of these operations work on a copy that holds the current negatives as plain texts:
    ``Dataset.from_list(list(remine.dataset))``. Use such a copy for evaluation data as well. One half of a
    ``train_test_split`` would have other negatives in each epoch, so its losses could not be compared between epochs;
    a warning says so at the first evaluation.

    Args:
        pairs: Anchors and positives, in two columns of texts; other columns are ignored in training.
        model: The model to be trained.
        conditions: Conditions of :func:`relkt.mine`, e.g. ``num_negatives`` or ``relative_margin``, with the same
            defaults. The columns of ``num_negatives`` come first, then those of ``num_hard`` and ``num_semi_hard``. In
            epoch e (from 0), strategy "random" draws with ``seed + e``.
        threads: Number of threads of the search.
        corpus: Additional candidates: texts, or a data set with the columns ``positive_column`` and, if given,
            ``document_column``.
        anchor_column: Default: the first column of ``pairs``.
        positive_column: Default: the second column of ``pairs``.
        document_column: Column of strings or integers that identify the document of a positive.
        exclude_column: Column with a list of texts for each pair; these texts are never negatives of the pair's anchor.
        every: Number of epochs between minings. Default: 1.
        batch_size: Number of texts to embed at a time. Default: 32.
        query_prompt: Text to put before anchors. Default: the model's prompt for queries. Pass the same prompt to the
            trainer in its ``prompts``; a warning reports differences.
        passage_prompt: Text to put before all other texts. Default: the model's prompt for passages.
        without_negatives: Leave out anchors without negatives, or raise an error; see :class:`WithoutNegatives`.
            Default: "leave-out".
        show_progress_bar: Default: the opposite of the trainer's ``disable_tqdm``; no bar when the callback is made.

    Attributes:
        dataset: The data set to train on.
        columns: Names of the negative columns.
        last: Result of the last mining.

    Raises:
        TypeError: If ``pairs``, ``model`` or another argument has the wrong type, or a condition is unknown.
        ValueError: If a column is missing, a text is blank (the message names its row), a condition is out of range, or
            no anchor has a negative.
    """

    @shows_conditions
    def __init__(
        self,
        pairs: Dataset,
        model: SentenceTransformer,
        *,
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
        **conditions: Unpack[ConditionArgs],
    ) -> None:
        _check_types(pairs, model)
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
            conditions,
            threads=threads,
            batch_size=batch_size,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
        )
        self.columns = tuple(f"negative_{place + 1}" for place in range(self._miner.places))
        columns = [self._pairs.anchor, self._pairs.positive]
        if taken := set(columns) & set(self.columns):
            raise ValueError(
                f"pairs: expected another name for the column {taken.pop()!r}, a name of a negative column"
            )
        self._lookup = NegativeTexts(self._pairs.distinct.passages, self.columns)
        self._epoch: int | None = None
        self._warned_about_evaluation = False

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
        """Rejects settings with which the trainer would keep using old negatives.

        Raises:
            ValueError: If the batch sampler or the workers would keep old negatives.
        """
        check_arguments(args)

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Checks the trainer's settings, model and data set.

        Raises:
            TypeError: If mining cannot use the model, or the data set has numbers in place of negatives.
            ValueError: If the batch sampler or the workers would keep old negatives.
        """
        check_arguments(args)
        model = trained_model(kwargs)
        self._epoch, self._warned_about_evaluation = None, False
        dataloader = kwargs.get("train_dataloader")
        check_samplers(dataloader)
        parts = parts_of(dataloader)
        for part in parts:
            check_columns(part)
        names = dict.fromkeys(name_of(part) for part in parts if self._lookup.is_in(part))
        for name in names or [None]:
            warn_about_prompts(args, self._prompts(model), name)
        if not names:
            logger.warning(
                "The trainer's train_dataset does not look up the negatives of this RemineCallback: pass its .dataset, "
                "or a result of its select, sort or shuffle, as train_dataset"
            )

    @override
    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mines for the epoch. A training that resumes within an epoch uses the negatives of its checkpoint instead."""
        model = trained_model(kwargs)
        started = state.epoch or 0.0
        resumed = self._epoch is None and state.global_step > 0
        # The trainer's count of epochs is read only once, because it does not advance if an epoch is stopped early.
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
                        "Resuming without the negatives of the checkpoint (%s is missing, damaged or of another "
                        "training): mining with the loaded weights",
                        path,
                    )
                else:
                    self._miner.forget()
                    if not (due and started == epoch):
                        return None, restored
                    before = restored  # in a new epoch, an anchor without negatives keeps these
            return self._miner.mine(model, epoch, before, show=show)

        found, rows, identity = from_rank_0(lambda: (*find(), self._identity))
        if identity != self._identity:
            raise RuntimeError("the RemineCallbacks of the processes have different pairs, models or conditions")
        self._lookup.rows = rows
        if found is None:
            logger.info("Epoch %d resumes with the negatives of its checkpoint", epoch + 1)
            return
        self.last = found
        entry = {f"remine_{name}": value for name, value in asdict(found).items()}
        state.log_history.append({**entry, "epoch": started, "step": state.global_step})
        logger.info("Negatives of epoch %d: %s", epoch + 1, found)
        if (found.filled or found.kept) and state.is_local_process_zero:
            anchors = int(self._miner.used.sum())
            logger.warning(
                "Epoch %d: %d of %d negatives repeat another negative of the same anchor; %d of %d anchors lost all "
                "their negatives and keep the previous ones",
                epoch + 1,
                found.filled,
                anchors * self._miner.places,
                found.kept,
                anchors,
            )

    @override
    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Warns, once per training, about evaluation data whose negatives change in each epoch."""
        if self._warned_about_evaluation or not state.is_local_process_zero:
            return
        if any(self._lookup.is_in(part) for part in parts_of(kwargs.get("eval_dataloader"))):
            self._warned_about_evaluation = True
            logger.warning(
                "The trainer's eval_dataset looks up the negatives of this RemineCallback, so its losses in different "
                "epochs cannot be compared: pass Dataset.from_list(list(dataset)) instead"
            )

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Saves the current negatives in the checkpoint."""
        path = checkpoint_file(args, state)
        if state.is_world_process_zero and path.parent.is_dir():
            weights = model_checksum(trained_model(kwargs))
            save_negatives(path, self._lookup.rows, identity=self._identity, weights=weights)

    def _prompts(self, model: SentenceTransformer) -> dict[str, str]:
        """The prompt that mining puts before the texts of each column."""
        query, passage = self._query_prompt, self._passage_prompt
        if query is None:
            query = prompt_of(model, "query")
        if passage is None:
            passage = prompt_of(model, *PASSAGE_PROMPTS)
        return {self._pairs.anchor: query} | dict.fromkeys((self._pairs.positive, *self.columns), passage)


def _check_types(pairs: Any, model: Any) -> None:
    if not isinstance(pairs, Dataset):
        raise TypeError(f"pairs: expected a datasets.Dataset, got {type(pairs).__name__}")
    if not isinstance(model, SentenceTransformer):
        raise TypeError(f"model: expected a SentenceTransformer, got {type(model).__name__}")
