"""Texts of a step to what the model takes."""

from __future__ import annotations

from functools import partial
from typing import Any

from relkt.training.distributed.processes import num_processes
from relkt.training.loop.batches import Batch
from relkt.training.loop.gradient_cache import make_chunks
from relkt.training.loop.trainer import PASSAGE_COLUMN, QUERY_COLUMN, StageTrainer
from relkt.training.stages.stage import StagePlan


def collate(trainer: StageTrainer, plan: StagePlan, batch: Batch, *, chunk_tokens: int) -> dict[str, Any]:
    """What the trainer takes of a batch.

    Args:
        trainer: The trainer, whose collator tokenizes.
        plan: Finds the texts.
        batch: Rows of the plan.
        chunk_tokens: The most tokens of a chunk; 0 for all texts of a piece at once, but for a job of several
            processes, in which each has a chunk of its own.

    Returns:
        ``{"pieces": [...]}``, as :class:`StageTrainer` describes them.
    """
    pieces: list[dict[str, Any]] = []
    for rows in batch.split():
        piece = plan.piece(rows)
        # Of either there may be none.
        columns = {QUERY_COLUMN: piece.queries, PASSAGE_COLUMN: piece.passages}
        texts_of = {column: texts for column, texts in columns.items() if texts}
        made: dict[str, Any] = {"label": piece.labels}
        if chunk_tokens == 0 and num_processes() == 1:
            for column, texts in texts_of.items():
                made |= _features(trainer, column, texts)
        else:
            made |= {"num_queries": len(piece.queries), "num_passages": len(piece.passages), "chunks": []}
            first_row = 0
            for column, texts in texts_of.items():
                features = partial(_features_alone, trainer, column)
                made["chunks"] += make_chunks(texts, features, most_tokens=chunk_tokens, first_row=first_row)
                first_row += len(texts)
        pieces.append(made)
    return {"pieces": pieces}


def _features(trainer: StageTrainer, column: str, texts: list[str]) -> dict[str, Any]:
    return trainer.data_collator([{column: text} for text in texts])


def _features_alone(trainer: StageTrainer, column: str, texts: list[str]) -> dict[str, Any]:
    """Under the names that the model knows."""
    return {name.removeprefix(column + "_"): value for name, value in _features(trainer, column, texts).items()}
