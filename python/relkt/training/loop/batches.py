"""The order of a stage's examples, epoch by epoch, with a position from which a run can resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from relkt.training.examples import Rows


@dataclass(frozen=True)
class Batch:
    """Examples of one optimizer step.

    Args:
        examples: One example per row, shape ``(b, c)``, int64.
        num_micro_batches: Number of forward passes into which the batch is split.
    """

    examples: Rows
    num_micro_batches: int

    def split(self) -> list[Rows]:
        """The examples of each micro-batch, in order. No micro-batch is empty; sizes differ by at most 1."""
        return np.array_split(self.examples, min(self.num_micro_batches, len(self.examples)))


class BatchStream(IterableDataset[Any]):
    """All batches of a stage, one epoch after the other.

    The examples of an epoch are made when its first batch is needed, and nothing is prefetched. The examples can
    therefore depend on the current model; the teacher stage, for example, mines them with it. The order within an epoch
    depends only on the seed and the number of the epoch, not on the process's random state, so a restored stream yields
    the same batches.

    Args:
        examples_of_epoch: Number of the epoch, from 0 -> its examples, shape ``(t, c)``, int64; an epoch without
            examples ends the stream.
        collate: Converts a batch into an item of the stream.
        epochs: Number of epochs.
        batch_size: Examples per batch; the last batch of an epoch may have fewer.
        num_micro_batches: Number of micro-batches per batch.
        seed: Seed of the order; a sequence of integers.
    """

    def __init__(
        self,
        examples_of_epoch: Callable[[int], Rows],
        collate: Callable[[Batch], Any],
        *,
        epochs: int,
        batch_size: int,
        num_micro_batches: int,
        seed: tuple[int, ...],
    ) -> None:
        self._examples_of_epoch = examples_of_epoch
        self._collate = collate
        self._epochs = epochs
        self._batch_size = batch_size
        self._num_micro_batches = num_micro_batches
        self._seed = seed
        self._epoch = 0
        self._batch = 0
        self._examples: Rows | None = None

    def __iter__(self) -> Iterator[Any]:
        while self._epoch < self._epochs:
            if self._examples is None:
                self._examples = self._examples_of_epoch(self._epoch)
            if len(self._examples) == 0:
                return
            order = np.random.default_rng([*self._seed, self._epoch]).permutation(len(self._examples))
            while self._batch < self.batches_in_epoch:
                start = self._batch * self._batch_size
                # Advance before the yield: while a batch is in use, the position is that of the next batch.
                self._batch += 1
                examples = self._examples[order[start : start + self._batch_size]]
                yield self._collate(Batch(examples, self._num_micro_batches))
            self._epoch, self._batch, self._examples = self._epoch + 1, 0, None

    @property
    def batches_in_epoch(self) -> int:
        """Batches of the current epoch; 0 before its examples are known."""
        return 0 if self._examples is None else -(-len(self._examples) // self._batch_size)

    @property
    def epoch(self) -> float:
        """Epochs completed, including the fraction of the current epoch."""
        return self._epoch + (self._batch / self.batches_in_epoch if self._batch else 0.0)

    @property
    def finished(self) -> bool:
        """True if the last batch of the last epoch has been yielded."""
        return self.epoch >= self._epochs

    def is_due(self, times: int) -> bool:
        """True if the latest batch reaches one of ``times`` evenly spaced points of its epoch.

        The last of these points is the end of the epoch.
        """
        n = self.batches_in_epoch
        return n > 0 and self._batch * times // n > (self._batch - 1) * times // n

    def state(self) -> tuple[dict[str, int], Rows | None]:
        """The position, and the examples of the epoch if the position is within one."""
        if self._batch and self._batch == self.batches_in_epoch:
            return {"epoch": self._epoch + 1, "batch": 0}, None
        return {"epoch": self._epoch, "batch": self._batch}, self._examples if self._batch else None

    def restore(self, position: Mapping[str, int], examples: Rows | None) -> None:
        """Set the stream to a position from :meth:`state`."""
        self._epoch, self._batch, self._examples = position["epoch"], position["batch"], examples
