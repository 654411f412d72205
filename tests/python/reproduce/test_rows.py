"""Rows of an experiment."""

from __future__ import annotations

from typing import Any

import pytest

from relkt.reproduce import XQUAD_ROWS, XQUAD_TRAINED, Row, xquad_rows
from relkt.training import TrainConfig


def test_rows_of_xquad() -> None:
    bm25, muse, e5, paper, best_muse, best_e5 = rows = xquad_rows(XQUAD_ROWS[::-1], e5="models/e5")
    assert tuple(row.name for row in rows) == XQUAD_ROWS
    assert (bm25.encoder, bm25.config) == (None, None)
    assert (muse.encoder, muse.config, muse.prompts) == ("muse", None, {})
    assert (e5.encoder, e5.config) == ("models/e5", None)
    assert e5.prompts == best_e5.prompts == {"query": "query: ", "document": "passage: "}
    assert paper == Row(
        name="paper",
        encoder="muse",
        config=TrainConfig.preset("paper-xquad"),
        description="muse, preset paper-xquad",
    )
    assert best_muse.config == TrainConfig.preset("best-muse")
    assert (best_e5.encoder, best_e5.config) == ("models/e5", TrainConfig.preset("best-transformer"))
    # The mean "trained" of the tables is over the languages whose labels all rows use.
    trained = [set(row.config.languages) for row in rows if row.config is not None]
    assert trained == [set(XQUAD_TRAINED)] * 3
    assert [row.name for row in xquad_rows(["best-e5", "muse"])] == ["muse", "best-e5"]
    assert xquad_rows(["best-e5"])[0].encoder == "intfloat/multilingual-e5-small"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["muse", "mose"], "rows: expected some of bm25, muse, e5-small, .*, got mose"),
        ([], "rows: expected some of .*, got none"),
        ("muse", "rows: expected a list of names, got the text 'muse'"),
    ],
)
def test_unknown_rows(names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        xquad_rows(names)


@pytest.mark.parametrize("name", ["", "a b", "../a", "a/b", ".a", "a-seed-1", "a~b"])
def test_names_that_cannot_be_files(name: str) -> None:
    with pytest.raises(ValueError, match="name: expected"):
        Row(name=name)


def test_bad_rows() -> None:
    with pytest.raises(ValueError, match="config: expected None in row 'x', since BM25 is not trained"):
        Row(name="x", config=TrainConfig())
    with pytest.raises(TypeError, match="config: expected a TrainConfig or None, got 'demo'"):
        Row(name="x", encoder="muse", config="demo")  # type: ignore[arg-type]
