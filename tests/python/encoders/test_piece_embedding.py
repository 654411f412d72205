"""Training only some rows of an embedding table."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from relkt.encoders.piece_embedding import PieceEmbedding


def make_table(rows: int = 10, dim: int = 3) -> PieceEmbedding:
    table = PieceEmbedding(rows, dim)
    with torch.no_grad():
        table.weight.copy_(torch.arange(rows * dim, dtype=torch.float32).reshape(rows, dim))
    return table


def test_lookup():
    table = make_table()
    assert table(torch.tensor([[0, 2]])).tolist() == [[[0.0, 1.0, 2.0], [6.0, 7.0, 8.0]]]


def test_limited_training_does_not_change_the_lookup():
    table = make_table()
    ids = torch.tensor([[9, 0, 3], [3, 5, 9]])
    before = table(ids)
    table.limit_training(torch.tensor([9, 3]))
    assert torch.equal(table(ids), before)


def test_only_limited_rows_get_a_gradient():
    table = make_table()
    table.limit_training(torch.tensor([9, 3, 3]))
    table(torch.tensor([3, 5, 3])).sum().backward()
    assert table.weight.grad is None
    # Rows 3 and 9, in order: row 3 was looked up twice, row 9 never. Row 5 is not trained.
    assert table.active.grad.tolist() == [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]


def test_limited_training_equals_training_the_whole_table():
    torch.manual_seed(3)
    batches = [torch.randint(0, 4, (5,)) * 2 for _ in range(20)]  # even rows below 8
    target = torch.randn(3)
    whole, limited = make_table(), make_table()
    limited.limit_training(torch.tensor([0, 2, 4, 6]))
    for table in (whole, limited):
        optimiser = torch.optim.Adam([p for p in table.parameters() if p.requires_grad], lr=0.1)
        for ids in batches:
            optimiser.zero_grad()
            ((table(ids) - target) ** 2).sum().backward()
            optimiser.step()
    limited.train_all()
    assert not torch.equal(whole.weight, make_table().weight)
    torch.testing.assert_close(limited.weight, whole.weight, rtol=0, atol=0)


def test_the_state_dict_is_always_the_whole_table():
    table = make_table()
    table.limit_training(torch.tensor([1]))
    with torch.no_grad():
        table.active += 100
    state = table.state_dict()
    assert list(state) == ["weight"]
    assert state["weight"][1].tolist() == [103.0, 104.0, 105.0]
    assert state["weight"][2].tolist() == [6.0, 7.0, 8.0]


def test_loading_a_state_dict_refreshes_the_limited_rows():
    table = make_table()
    table.limit_training(torch.tensor([1]))
    result = table.load_state_dict({"weight": torch.full((10, 3), 7.0)})
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert table(torch.tensor([1, 2])).unique().tolist() == [7.0]


def test_loading_without_the_table_is_an_error():
    with pytest.raises(RuntimeError, match="weight"):
        make_table().load_state_dict({})


def test_freeze_and_train_all_keep_trained_rows():
    table = make_table()
    table.limit_training(torch.tensor([1]))
    with torch.no_grad():
        table.active.zero_()
    table.freeze()
    assert [p.requires_grad for p in table.parameters()] == [False]
    assert table(torch.tensor([1])).tolist() == [[0.0, 0.0, 0.0]]
    table.train_all()
    assert [p.requires_grad for p in table.parameters()] == [True]


def test_limits_can_be_replaced():
    table = make_table()
    table.limit_training(torch.tensor([1]))
    with torch.no_grad():
        table.active.zero_()
    table.limit_training(torch.tensor([2, 3]))
    assert table.active.shape == (2, 3)
    assert table(torch.tensor([1])).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda table: pickle.loads(pickle.dumps(table))])
def test_copies_are_independent(copied):
    table = make_table()
    table.limit_training(torch.tensor([1]))
    other = copied(table)
    with torch.no_grad():
        other.active.zero_()
    assert table(torch.tensor([1])).tolist() == [[3.0, 4.0, 5.0]]
    assert other(torch.tensor([1])).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(("rows", "message"), [([], "at least one row"), ([3, 10], "0 to 9, got 10"), ([-1], "got -1")])
def test_rows_outside_the_table_are_refused(rows, message):
    table = make_table()
    with pytest.raises(ValueError, match=message):
        table.limit_training(torch.tensor(rows, dtype=torch.int64))
    assert table.weight.requires_grad
