"""Checks that re-mining works with a trainer, its model and its settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import TrainingArguments

from relkt.training.remine.texts import numbers_in

_HASHED_SAMPLER = "no_duplicates_hashed"
_HASHED_MESSAGE = (
    "batch_sampler: expected another sampler with a RemineCallback, such as NO_DUPLICATES, got NO_DUPLICATES_HASHED "
    "(precompute_hashes), which keeps the hashes of the first epoch's negatives"
)

logger = logging.getLogger(__name__)


def trained_model(given: Mapping[str, Any]) -> SentenceTransformer:
    """The model in the keyword arguments of a trainer's callbacks.

    Raises:
        TypeError: If it is not a SentenceTransformer, or its weights are sharded.
    """
    model = given.get("model")
    if not isinstance(model, SentenceTransformer):
        raise TypeError(f"model: expected the trainer to train a SentenceTransformer, got {type(model).__name__}")
    # DeepSpeed marks its parameters; FSDP converts parameters to DTensors.
    if any(hasattr(weights, "ds_id") or hasattr(weights, "device_mesh") for weights in model.parameters()):
        raise TypeError("model: expected whole weights in each process, got sharded ones (FSDP or DeepSpeed ZeRO-3)")
    return model


def check_arguments(args: TrainingArguments) -> None:
    """Rejects settings with which the trainer would keep using old negatives.

    Raises:
        ValueError: If the batch sampler or the workers would keep old negatives.
    """
    if args.dataloader_num_workers > 0 and args.dataloader_persistent_workers:
        raise ValueError(
            "dataloader_persistent_workers: expected False with a RemineCallback, got True: workers that outlive "
            "an epoch keep its negatives"
        )
    if str(getattr(getattr(args, "batch_sampler", ""), "value", "")) == _HASHED_SAMPLER:
        raise ValueError(_HASHED_MESSAGE)


def check_samplers(dataloader: Any) -> None:
    """Rejects batch samplers that :func:`check_arguments` cannot see, such as custom ones.

    Args:
        dataloader: The trainer's data loader.

    Raises:
        ValueError: If a sampler keeps hashes of texts.
    """
    samplers: list[Any] = [getattr(dataloader, "batch_sampler", None)]
    while samplers:
        sampler = samplers.pop()
        if getattr(sampler, "precompute_hashes", False):
            raise ValueError(_HASHED_MESSAGE)
        # A sampler may contain others: one for each of several data sets, or one that it shards between processes.
        samplers += getattr(sampler, "batch_samplers", ())
        if hasattr(sampler, "batch_sampler"):
            samplers.append(sampler.batch_sampler)


def check_columns(dataset: Any) -> None:
    """Rejects a data set that would train on numbers in place of negatives.

    Args:
        dataset: A data set of the trainer.

    Raises:
        TypeError: If a negative column shows numbers, or stores texts.
    """
    if columns := numbers_in(dataset):
        raise TypeError(
            f"train_dataset: expected the negatives of a RemineCallback's dataset in {columns}, got numbers without "
            "their lookup: do not rename negative columns, concatenate the data sets of two callbacks (pass them in a "
            "dict) or set another format; a copy with fixed negatives, Dataset.from_list(list(remine.dataset)), allows "
            "all of these"
        )


def warn_about_prompts(args: TrainingArguments, mined_with: Mapping[str, str], dataset: str | None) -> None:
    """Warns if trainer and mining use different prompts.

    Args:
        args: The trainer's arguments.
        mined_with: The prompt that mining uses for each column.
        dataset: The trainer's name for the data set, or None.
    """
    given = getattr(args, "prompts", None) or {}
    if isinstance(given, Mapping) and given:
        # As in the trainer's collator, the prompt of the data set comes before the prompt of the column.
        if dataset is not None and dataset in given:
            given = given[dataset] or {}
        elif isinstance(next(iter(given.values())), Mapping):
            given = {}
    for column, prompt in mined_with.items():
        trained = given if isinstance(given, str) else given.get(column) or ""
        if trained != prompt:
            logger.warning(
                "The trainer puts the prompt %r before the texts of %r, mining puts %r: use the same prompt in both "
                "(the trainer's arguments have prompts, mining has query_prompt and passage_prompt)",
                trained,
                column,
                prompt,
            )
