from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from relkt.training.examples import Rows
from relkt.training.loop.batches import Batch, BatchStream


def rows_of(epoch: int) -> Rows:
    """10, 11, 12 ... examples, numbered by epoch: a stage whose epochs differ in length."""
    return np.arange(10 + epoch, dtype=np.int64).reshape(-1, 1) + 100 * epoch


def stream(**kwargs: Any) -> BatchStream:
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 4, "num_micro_batches": 1, "seed": (0, 0)}
    return BatchStream(rows_of, lambda batch: batch.examples[:, 0].tolist(), **(settings | kwargs))


def test_each_epoch_has_each_example_once_and_no_batch_spans_two_epochs() -> None:
    batches = list(stream())
    assert [len(b) for b in batches] == [4, 4, 2, 4, 4, 3, 4, 4, 4]
    for epoch in range(3):
        rows = [row for batch in batches for row in batch if row // 100 == epoch]
        assert sorted(rows) == rows_of(epoch)[:, 0].tolist()
        assert rows != sorted(rows)


def test_order_depends_on_seed_and_epoch_only() -> None:
    torch.manual_seed(1)
    random.seed(1)
    first = list(stream())
    torch.manual_seed(2)
    random.seed(2)
    assert list(stream()) == first
    assert list(stream(seed=(0, 1))) != first
    orders = [[row % 100 for batch in first for row in batch if row // 100 == epoch] for epoch in range(2)]
    assert orders[0] != [row for row in orders[1] if row < 10]


@pytest.mark.parametrize("done", range(1, 9))
def test_a_restored_stream_yields_the_same_batches(done: int) -> None:
    whole = list(stream())
    begun = stream()
    batches = iter(begun)
    for _ in range(done):
        next(batches)
    position, rows = begun.state()
    assert (rows is None) == (done % 3 == 0)  # epochs have three batches; between epochs there are no examples
    resumed = stream()
    resumed.restore(position, rows)
    assert list(resumed) == whole[done:]


def test_examples_are_made_when_an_epoch_starts() -> None:
    asked: list[int] = []

    def recording(epoch: int) -> Rows:
        asked.append(epoch)
        return rows_of(epoch)

    batches = iter(BatchStream(recording, lambda b: b, epochs=2, batch_size=5, num_micro_batches=1, seed=(0,)))
    next(batches)
    next(batches)
    assert asked == [0]
    next(batches)
    assert asked == [0, 1]


def test_an_epoch_without_examples_ends_the_stream() -> None:
    empty = BatchStream(
        lambda epoch: rows_of(epoch)[: 0 if epoch else 8],
        lambda b: b,
        epochs=9,
        batch_size=4,
        num_micro_batches=1,
        seed=(0,),
    )
    assert len(list(empty)) == 2
    assert empty.epoch == 1.0
    assert not empty.finished


def test_epoch_and_end() -> None:
    s = stream()
    seen = [(round(s.epoch, 3), s.finished) for _ in s]
    assert seen[:4] == [(0.333, False), (0.667, False), (1.0, False), (1.333, False)]
    assert seen[-1] == (3.0, True)


@pytest.mark.parametrize(
    ("times", "expected"), [(1, [3]), (2, [2, 3]), (3, [1, 2, 3]), (4, [1, 2, 3]), (100, [1, 2, 3])]
)
def test_evaluations_are_spread_over_the_epoch(times: int, expected: list[int]) -> None:
    s = stream(epochs=1)
    assert [i for i, _ in enumerate(s, start=1) if s.is_due(times)] == expected


def test_four_evaluations_of_ten_batches() -> None:
    s = stream(epochs=1, batch_size=1)
    assert [i for i, _ in enumerate(s, start=1) if s.is_due(4)] == [3, 5, 8, 10]


def test_micro_batches_of_a_batch() -> None:
    rows = rows_of(0)[:7]
    assert [len(p) for p in Batch(rows, 3).split()] == [3, 2, 2]
    assert [len(p) for p in Batch(rows[:2], 3).split()] == [1, 1]
    assert np.concatenate(Batch(rows, 3).split()).tolist() == rows.tolist()
