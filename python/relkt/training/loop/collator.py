"""Collation: the texts of a batch as model inputs."""

from __future__ import annotations

from functools import partial
from typing import Any

from relkt.training.distributed.processes import num_processes
from relkt.training.loop.batches import Batch
from relkt.training.loop.gradient_cache import make_chunks
from relkt.training.loop.trainer import PASSAGE_COLUMN, QUERY_COLUMN, StageTrainer
from relkt.training.stages import TrainingStage


def collate(trainer: StageTrainer, stage: TrainingStage, batch: Batch, *, chunk_tokens: int) -> dict[str, Any]:
    """Model inputs of a batch.

    Args:
        trainer: The trainer; its collator tokenizes.
        stage: Provides the texts.
        batch: Examples of the stage.
        chunk_tokens: Upper bound on the tokens of a chunk. With 0, the texts of a micro-batch are not split into
            chunks, except that the processes of a job share them.

    Returns:
        ``{"micro_batches": [...]}``, as described for :class:`StageTrainer`.
    """
    micro_batches: list[dict[str, Any]] = []
    for examples in batch.split():
        found = stage.batch(examples)
        columns = {QUERY_COLUMN: found.queries, PASSAGE_COLUMN: found.passages}
        texts_of = {column: texts for column, texts in columns.items() if texts}  # queries or passages may be missing
        inputs: dict[str, Any] = {"label": found.targets, "size": found.size}
        if chunk_tokens == 0 and num_processes() == 1:
            for column, texts in texts_of.items():
                inputs |= _features(trainer, column, texts)
        else:
            inputs |= {"num_queries": len(found.queries), "num_passages": len(found.passages), "chunks": []}
            first_row = 0
            for column, texts in texts_of.items():
                features = partial(_model_features, trainer, column)
                inputs["chunks"] += make_chunks(texts, features, max_tokens=chunk_tokens, first_row=first_row)
                first_row += len(texts)
        micro_batches.append(inputs)
    return {"micro_batches": micro_batches}


def _features(trainer: StageTrainer, column: str, texts: list[str]) -> dict[str, Any]:
    return trainer.data_collator([{column: text} for text in texts])


def _model_features(trainer: StageTrainer, column: str, texts: list[str]) -> dict[str, Any]:
    """Features under the model's names, without the column's prefix."""
    return {name.removeprefix(column + "_"): value for name, value in _features(trainer, column, texts).items()}
