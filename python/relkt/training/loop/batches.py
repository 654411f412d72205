"""The order of a stage's examples: epochs whose rows may be made anew, and a position to go on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from relkt.training.examples import Rows


@dataclass(frozen=True)
class Batch:
    """Example rows of one optimizer step.

    Args:
        rows: Rows of the epoch's examples, shape ``(b, c)``, int64.
        pieces: How many parts to cut it into, one forward pass each.
    """

    rows: Rows
    pieces: int

    def split(self) -> list[Rows]:
        """The parts, in order, none of them empty; their sizes differ by at most one."""
        return np.array_split(self.rows, min(self.pieces, len(self.rows)))


class BatchStream(IterableDataset[Any]):
    """All batches of a stage, one epoch after the other.

    The rows of an epoch are asked for when its first batch is, so they can depend on the model as it is then (the
    teacher mines them); nothing is read ahead. The order within an epoch depends on the seed and the number of the
    epoch only, never on the random state of the process: a stream put back to a position goes on as it would have.

    Args:
        rows_of_epoch: Number of the epoch, from 0 -> its rows, shape ``(t, c)``, int64; no rows end the stream.
        collate: Makes what is handed out of a batch.
        epochs: Number of epochs.
        batch_size: Rows a batch; the last one of an epoch may have fewer.
        pieces: Parts each batch is cut into.
        seed: Of the order; a sequence of integers.
    """

    def __init__(
        self,
        rows_of_epoch: Callable[[int], Rows],
        collate: Callable[[Batch], Any],
        *,
        epochs: int,
        batch_size: int,
        pieces: int,
        seed: tuple[int, ...],
    ) -> None:
        self._rows_of_epoch = rows_of_epoch
        self._collate = collate
        self._epochs = epochs
        self._batch_size = batch_size
        self._pieces = pieces
        self._seed = seed
        self._epoch = 0
        self._batch = 0
        self._rows: Rows | None = None

    def __iter__(self) -> Iterator[Any]:
        while self._epoch < self._epochs:
            if self._rows is None:
                self._rows = self._rows_of_epoch(self._epoch)
            if len(self._rows) == 0:
                return
            order = np.random.default_rng([*self._seed, self._epoch]).permutation(len(self._rows))
            while self._batch < self.batches_in_epoch:
                start = self._batch * self._batch_size
                # Counted before it is handed out: whoever asks for the position while using it means "after it".
                self._batch += 1
                yield self._collate(Batch(self._rows[order[start : start + self._batch_size]], self._pieces))
            self._next_epoch()

    @property
    def batches_in_epoch(self) -> int:
        """Batches of the epoch under way; 0 before its rows are known."""
        return 0 if self._rows is None else -(-len(self._rows) // self._batch_size)

    @property
    def epoch(self) -> float:
        """Epochs handed out, with a fraction inside an epoch."""
        return self._epoch + (self._batch / self.batches_in_epoch if self._batch else 0.0)

    @property
    def finished(self) -> bool:
        """Whether the last batch of the last epoch was handed out."""
        return self.epoch >= self._epochs

    def is_due(self, times: int) -> bool:
        """Whether one of ``times`` evenly spaced moments of the epoch, the last at its end, came with this batch."""
        n = self.batches_in_epoch
        return n > 0 and self._batch * times // n > (self._batch - 1) * times // n

    def state(self) -> tuple[dict[str, int], Rows | None]:
        """The position, and the rows of the epoch where it is inside one."""
        if self._batch and self._batch == self.batches_in_epoch:
            return {"epoch": self._epoch + 1, "batch": 0}, None
        return {"epoch": self._epoch, "batch": self._batch}, self._rows if self._batch else None

    def restore(self, position: Mapping[str, int], rows: Rows | None) -> None:
        """Put the stream to a position that :meth:`state` gave."""
        self._epoch, self._batch, self._rows = position["epoch"], position["batch"], rows

    def _next_epoch(self) -> None:
        self._epoch, self._batch, self._rows = self._epoch + 1, 0, None
