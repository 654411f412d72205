"""Whether a trainer, its model and its settings are such that re-mining works."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import TrainingArguments

_HASHED_SAMPLER = "no_duplicates_hashed"

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
        raise ValueError(
            "batch_sampler: expected another one with a RemineCallback, such as NO_DUPLICATES, got "
            "NO_DUPLICATES_HASHED, which keeps the hashes of the first epoch's negatives"
        )


def warn_of_prompts(args: TrainingArguments, mined_with: Mapping[str, str]) -> None:
    """Warns where the trainer puts other prompts before texts than mining does.

    Args:
        args: The trainer's.
        mined_with: The prompt of each column.
    """
    given = getattr(args, "prompts", None) or {}
    if isinstance(given, Mapping) and any(isinstance(value, Mapping) for value in given.values()):
        return  # by the name of the data set, which nobody here knows
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
