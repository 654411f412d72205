"""The interface of a training stage: its examples, batches and loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from relkt.losses import Reduction
from relkt.training.examples import Rows

Features = dict[str, Tensor]

TargetsT = TypeVar("TargetsT", bound=Mapping[str, object])


@dataclass(frozen=True)
class MicroBatch(Generic[TargetsT]):
    """Texts of one forward pass, and the tensors with which the loss compares their embeddings.

    Args:
        queries: Questions.
        passages: The distinct passages of the questions.
        targets: Named tensors; each stage has a ``TypedDict`` of its own. They are in a plain dictionary, because the
            trainer moves dictionaries of tensors to its device.
        size: Number of examples, which is the weight of the micro-batch in the mean over a batch.
    """

    queries: list[str]
    passages: list[str]
    targets: TargetsT
    size: int


class TrainingStage(Protocol):
    """Examples, batches and loss of a stage.

    All processes of a job hold the same stage and call all of its methods in the same order.

    Attributes:
        loss: The loss module.
        max_examples: Upper bound on the examples of an epoch.
        examples_per_step: Examples of one optimizer step.
    """

    loss: StageLoss[Any]
    max_examples: int
    examples_per_step: int

    def examples(self, epoch: int) -> Rows:
        """The examples of an epoch, one per row, shape ``(t, c)``, int64. An epoch without examples ends the stage."""

    def batch(self, examples: Rows) -> MicroBatch[Any]:
        """The texts and targets of some examples of an epoch."""


class StageLoss(nn.Module, Generic[TargetsT]):
    """Loss of a stage: encodes the texts of a micro-batch, then calls a pure function of :mod:`relkt.losses`.

    A passage that several questions share is encoded once; for each of these questions, ``targets`` hold the row of the
    passage.

    Args:
        model: The encoder that is trained.
        reduction: Reduction over a batch.
    """

    def __init__(self, model: SentenceTransformer, reduction: Reduction) -> None:
        super().__init__()
        self.model = model
        self.reduction = reduction

    def forward(self, sentence_features: Iterable[Features], targets: TargetsT) -> Tensor:
        """The loss of a micro-batch.

        Args:
            sentence_features: Features of the questions, then of the passages.
            targets: As in :class:`MicroBatch`.

        Returns:
            A scalar.
        """
        queries, passages = (self.encode(features) for features in sentence_features)
        return self.loss(queries, passages, targets)

    def encode(self, features: Features) -> Tensor:
        """Embeddings in float32, shape ``(b, d)``, for any precision of the forward pass.

        Float32 is needed for the differences of nearly equal cosines.
        """
        embeddings: Tensor = self.model(features)["sentence_embedding"]
        return embeddings.float()

    def loss(self, queries: Tensor, passages: Tensor, targets: TargetsT) -> Tensor:
        """The loss of embedded questions, shape ``(b, d)``, and passages, shape ``(u, d)``."""
        raise NotImplementedError


def int_tensor(values: Any) -> Tensor:
    """Integers as an int64 tensor; an empty list has shape ``(0,)``."""
    return torch.from_numpy(np.array(values, dtype=np.int64))


def float_tensor(values: NDArray[Any]) -> Tensor:
    """A float32 tensor with its own, contiguous memory layout."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
