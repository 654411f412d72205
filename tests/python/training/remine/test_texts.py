"""The data set of a callback: lookup of negatives, and changes of the data set."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets
from remine_cases import CONDITIONS, _arguments, _state, train
from torch.utils.data import DataLoader

from relkt.training.remine import RemineCallback


def test_rows_keep_their_negatives_wherever_they_are_moved(tiny_model, pairs):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    rows = list(remine.dataset)
    assert list(remine.dataset.select([5, 3])) == [rows[5], rows[3]]
    assert remine.dataset.shuffle(seed=1)[0] in rows
    assert list(remine.dataset.remove_columns("negative_1")["negative_2"]) == [row["negative_2"] for row in rows]
    assert remine.dataset[2:4]["negative_1"] == [rows[2]["negative_1"], rows[3]["negative_1"]]


def test_columns_are_not_read_row_by_row(tiny_model, pairs, monkeypatch):
    kind = type(pairs["anchor"])
    whole = kind.__getitem__

    def get(column, key):
        assert isinstance(key, slice), "one row at a time"
        return whole(column, key)

    monkeypatch.setattr(kind, "__getitem__", get)
    monkeypatch.setattr(kind, "__iter__", None)
    remine = RemineCallback(pairs, tiny_model, corpus=pairs, document_column="document", **CONDITIONS)
    assert len(remine.dataset) == len(pairs)


@pytest.mark.slow
def test_training_on_another_data_set_is_a_warning(tmp_path, tiny_model, pairs, caplog):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    with caplog.at_level(logging.WARNING, "relkt"):
        train(tmp_path, tiny_model, remine, pairs.select_columns(["anchor", "positive"]), num_train_epochs=1)
    assert "does not look up the negatives of this RemineCallback" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "relkt"):
        train(tmp_path, tiny_model, remine, remine.dataset.select(range(10)), num_train_epochs=1)
    assert "does not look up" not in caplog.text


@pytest.mark.slow
def test_numbers_are_never_trained_on(tmp_path, tiny_model, pairs):
    remine, other = (RemineCallback(rows, tiny_model, **CONDITIONS) for rows in (pairs, pairs.select(range(20))))
    dataset = remine.dataset
    for changed, columns in [
        (dataset.rename_column("negative_2", "hard"), r"\['hard'\]"),
        (concatenate_datasets([dataset, other.dataset]), r"\['negative_1', 'negative_2'\]"),
        (dataset.with_format(None), r"\['negative_1', 'negative_2'\]"),
    ]:
        message = f"train_dataset: expected the negatives of a RemineCallback's dataset in {columns}, got numbers"
        with pytest.raises(TypeError, match=message):
            train(tmp_path, tiny_model, remine, changed)
    written = dataset.map(lambda row: {"negative_1": row["negative_1"]})
    with pytest.raises(TypeError, match="negative_1: expected the numbers that a RemineCallback's dataset keeps there"):
        train(tmp_path, tiny_model, remine, written)
    loader = DataLoader(dataset.add_column("number", list(range(len(dataset)))))
    remine.on_train_begin(_arguments(tmp_path), _state(), None, model=tiny_model, train_dataloader=loader)
    assert isinstance(loader.dataset[0]["number"], int)  # numbers in other columns stay unchanged


def test_changes_of_the_data_set(tmp_path, tiny_model, pairs):
    """Operations that the docstring allows keep the negatives."""
    dataset = RemineCallback(pairs, tiny_model, **CONDITIONS).dataset
    rows = list(dataset)
    assert list(concatenate_datasets([dataset, dataset])) == rows * 2
    assert list(dataset.filter(lambda row: row["negative_1"] != "")) == rows
    assert list(dataset.map(lambda row: {"k": len(row)})) == [{**row, "k": len(row)} for row in rows]
    assert list(dataset.train_test_split(0.5, shuffle=False)["test"]) == rows[len(rows) // 2 :]
    for stored in (
        lambda: dataset.map(lambda row: row)[0],
        lambda: dataset.select([3, 2]).flatten_indices()[0],
        lambda: dataset.batch(2)[0],
        lambda: dataset.save_to_disk(str(tmp_path / "saved")),
    ):
        with pytest.raises(TypeError):
            stored()
    with pytest.raises(NotImplementedError):
        dataset.to_iterable_dataset()
    for read in (dataset.with_format(None)[0], dataset.to_list()[0], dataset.to_dict(), dataset.to_pandas().iloc[0]):
        assert np.asarray(read["negative_1"]).dtype.kind == "i"
    frozen = Dataset.from_list(rows)
    frozen.save_to_disk(str(tmp_path / "frozen"))
    assert list(Dataset.load_from_disk(str(tmp_path / "frozen")).map(lambda row: row).flatten_indices()) == rows
