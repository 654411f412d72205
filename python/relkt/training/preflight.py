"""What is checked, or warned of, before a run begins."""

from __future__ import annotations

import logging

import torch
from sentence_transformers import SentenceTransformer

from relkt.encoders import num_truncated
from relkt.training.config import Precision, Stage, TrainConfig
from relkt.training.distributed.processes import num_processes, rank
from relkt.training.examples import TrainingSet

logger = logging.getLogger(__name__)


def check_device(model: SentenceTransformer, config: TrainConfig) -> None:
    """Check that a model can be trained where it is.

    Raises:
        ValueError: If the precision needs a GPU that the model is not on, or that lacks it; if the model is on another
            GPU than the first, in a job of one process; or if its weights are not float32.
    """
    if config.precision is Precision.FLOAT16 and model.device.type != "cuda":
        raise ValueError(f"precision: expected float32, bfloat16 or auto for a model on {model.device}, got float16")
    if config.precision is Precision.BFLOAT16 and model.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError("precision: expected float32, float16 or auto, as this GPU has no bfloat16, got bfloat16")
    if num_processes() == 1 and model.device.type == "cuda" and (model.device.index or 0) != 0:
        raise ValueError(
            f"model: expected on the CPU or the first GPU, where the trainer works, got on {model.device}; choose a "
            "GPU with the environment variable CUDA_VISIBLE_DEVICES"
        )
    for name, weights in model.named_parameters():
        if weights.is_floating_point() and weights.dtype is not torch.float32:
            raise ValueError(
                f"model: expected weights of float32, got {str(weights.dtype).removeprefix('torch.')} in {name}; load "
                "it in float32 or call model.float(), and choose the number format of the forward pass with precision"
            )


def check_teacher(teacher: SentenceTransformer | None, model: SentenceTransformer) -> None:
    """Check that a teacher is another encoder, which the model can follow.

    Raises:
        TypeError: If it is no SentenceTransformer.
        ValueError: If it is the model itself, or the model's embeddings are cut.
    """
    if teacher is None:
        return
    if not isinstance(teacher, SentenceTransformer):
        raise TypeError(f"teacher: expected a SentenceTransformer, as relkt.load_encoder gives it, got {teacher!r}")
    if teacher is model:
        raise ValueError("teacher: expected another model than the one trained, got the same; leave it out for that")
    if model.truncate_dim is not None:
        raise ValueError(f"model: expected one with whole embeddings, got truncate_dim = {model.truncate_dim}")


def check_english(examples: TrainingSet, config: TrainConfig) -> None:
    """Check that there are the English questions that some stages learn from; warn if some lack them.

    Raises:
        ValueError: If there is none.
    """
    if not {Stage.WARMUP, Stage.DISTILLATION, Stage.TRANSFER}.intersection(config.stages):
        return
    others = sum(q.language != "en" for q in examples.queries)
    if examples.without_english == 0:
        return
    if examples.without_english == others:
        raise ValueError(
            "data: expected English translations of the training questions, which warm-up, distillation and transfer "
            f"learn from, got none of {others} questions; load the data with English included "
            '(languages=[..., "en"]), or for XOR-QA put english_questions.jsonl into its folder'
        )
    if rank() > 0:
        return
    logger.warning(
        "%d of %d training questions have no English translation; they stand for themselves in warm-up, distillation "
        "and transfer",
        examples.without_english,
        len(examples.queries),
    )


def warn_of_truncation(model: SentenceTransformer, texts: tuple[str, ...], kind: str) -> None:
    """Warn if an encoder does not see texts whole; ``kind`` says what they are."""
    if rank() == 0 and (longer := num_truncated(model, texts)):
        logger.warning(
            "%d of %d %s are longer than the encoder's max_seq_length of %d tokens: it sees only their start",
            longer,
            len(texts),
            kind,
            model.max_seq_length,
        )
