"""Whether a trainer, its model and its settings are such that re-mining works."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import TrainingArguments

from relkt.training.remine.texts import numbers_in

_HASHED_SAMPLER = "no_duplicates_hashed"
_HASHED_MESSAGE = (
    "batch_sampler: expected another one with a RemineCallback, such as NO_DUPLICATES, got NO_DUPLICATES_HASHED "
    "(precompute_hashes), which keeps the hashes of the first epoch's negatives"
)

logger = logging.getLogger(__name__)


def trained_model(given: Mapping[str, Any]) -> SentenceTransformer:
    """The model among what a trainer gives its callbacks.

    Raises:
        TypeError: If it is no SentenceTransformer, or its weights are sharded.
    """
    model = given.get("model")
    if not isinstance(model, SentenceTransformer):
        raise TypeError(f"model: expected the trainer to train a SentenceTransformer, got {type(model).__name__}")
    # DeepSpeed marks its parameters, FSDP makes DTensors of them.
    if any(hasattr(weights, "ds_id") or hasattr(weights, "device_mesh") for weights in model.parameters()):
        raise TypeError("model: expected whole weights in each process, got sharded ones (FSDP or DeepSpeed ZeRO-3)")
    return model


def check_arguments(args: TrainingArguments) -> None:
    """Refuses settings with which the trainer would go on with old negatives.

    Raises:
        ValueError: If the batch sampler or the workers would.
    """
    if args.dataloader_num_workers > 0 and args.dataloader_persistent_workers:
        raise ValueError(
            "dataloader_persistent_workers: expected False with a RemineCallback, got True: workers that outlive "
            "an epoch keep its negatives"
        )
    if str(getattr(getattr(args, "batch_sampler", ""), "value", "")) == _HASHED_SAMPLER:
        raise ValueError(_HASHED_MESSAGE)


def check_samplers(dataloader: Any) -> None:
    """The same as :func:`check_arguments` for the batch samplers in use, however they were made.

    Args:
        dataloader: The trainer's.

    Raises:
        ValueError: If one keeps hashes of texts.
    """
    samplers: list[Any] = [getattr(dataloader, "batch_sampler", None)]
    while samplers:
        sampler = samplers.pop()
        if getattr(sampler, "precompute_hashes", False):
            raise ValueError(_HASHED_MESSAGE)
        # Those of several data sets; that of which another process has the rest.
        samplers += getattr(sampler, "batch_samplers", ())
        if hasattr(sampler, "batch_sampler"):
            samplers.append(sampler.batch_sampler)


def check_columns(dataset: Any) -> None:
    """Refuses a data set that would train on numbers in the place of negatives.

    Args:
        dataset: One of those trained on.

    Raises:
        TypeError: If it has such columns, or texts where the numbers should be.
    """
    if columns := numbers_in(dataset):
        raise TypeError(
            f"train_dataset: expected the negatives of a RemineCallback's dataset in {columns}, got their numbers, "
            "which nothing looks up any more: columns of negatives cannot be renamed, nor the data sets of two "
            "callbacks concatenated (pass them in a dict), nor another format set; a copy whose negatives stay as they "
            "are, Dataset.from_list(list(remine.dataset)), can be all that"
        )


def warn_of_prompts(args: TrainingArguments, mined_with: Mapping[str, str], dataset: str | None) -> None:
    """Warns where the trainer puts other prompts before texts than mining does.

    Args:
        args: The trainer's.
        mined_with: The prompt of each column.
        dataset: The trainer's name for the data set, if it has one.
    """
    given = getattr(args, "prompts", None) or {}
    if isinstance(given, Mapping) and given:
        # As the trainer's collator does: by data set, else by column.
        if dataset is not None and dataset in given:
            given = given[dataset] or {}
        elif isinstance(next(iter(given.values())), Mapping):
            given = {}
    for column, prompt in mined_with.items():
        trained = given if isinstance(given, str) else given.get(column) or ""
        if trained != prompt:
            logger.warning(
                "The trainer puts the prompt %r before the texts of %r, mining puts %r: give both the same (the "
                "trainer in its arguments' prompts, mining in query_prompt and passage_prompt)",
                trained,
                column,
                prompt,
            )
