"""What a stage trains on: the shape that all stages have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from relkt.training.examples import Rows
from relkt.training.modules import StageLoss


@dataclass(frozen=True)
class Piece:
    """Texts of one forward pass.

    Args:
        queries: The questions, b of them.
        passages: The distinct passages that belong to them.
        labels: What the loss needs to know of each question, shape ``(b, c)``, int64.
    """

    queries: list[str]
    passages: list[str]
    labels: torch.Tensor


class StagePlan(Protocol):
    """What a stage trains on: the same in every process of a job, each of which calls all methods.

    Attributes:
        loss: The loss module.
        most_rows: The most rows that an epoch can have.
        rows_per_step: Rows of one optimizer step.
    """

    loss: StageLoss
    most_rows: int
    rows_per_step: int

    def rows(self, epoch: int) -> Rows:
        """The rows of an epoch, shape ``(t, c)``, int64; none at all end the stage."""

    def piece(self, rows: Rows) -> Piece:
        """The texts and labels of some rows."""
