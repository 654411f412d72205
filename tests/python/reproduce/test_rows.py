"""Rows are data."""

from __future__ import annotations

from typing import Any

import pytest

from relkt.reproduce import XQUAD_ROWS, Row, xquad_rows
from relkt.training import PRESETS, TrainConfig


def test_rows_of_xquad() -> None:
    names = [name for name in XQUAD_ROWS if name != "best-e5"]
    bm25, muse, e5, paper, best = xquad_rows(names[::-1], e5="models/e5")
    assert [row.name for row in (bm25, muse, e5, paper, best)] == names == list(XQUAD_ROWS[:5])
    assert (bm25.encoder, bm25.config) == (None, None)
    assert (muse.encoder, muse.config, muse.prompts) == ("muse", None, {})
    assert (e5.encoder, e5.config) == ("models/e5", None)
    assert e5.prompts == {"query": "query: ", "document": "passage: "}
    assert paper == Row(
        name="paper",
        encoder="muse",
        config=TrainConfig.preset("paper-xquad"),
        description="muse, preset paper-xquad",
    )
    assert best.config == TrainConfig.preset("best-muse")


@pytest.mark.skipif("best-transformer" not in PRESETS, reason="there is no preset best-transformer")
def test_all_rows_of_xquad() -> None:
    rows = xquad_rows()
    assert tuple(row.name for row in rows) == XQUAD_ROWS
    assert rows[-1].config == TrainConfig.preset("best-transformer")


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
