"""Pairs of queries and passages, and the passages excluded for each query."""

from __future__ import annotations

import numpy as np

from relkt.data.pairs import PairSetBuilder


def test_exclusions_with_ids_and_documents():
    builder = PairSetBuilder()
    rows = [builder.add_passage(text, id=one, document=document, where="here") for text, one, document in [
        ("x", "0", "d"), ("y", "1", "d"), ("x", "2", "e"), ("z", "3", None), ("ask", "4", None),
    ]]  # fmt: skip
    query, other = builder.add_query("ask", where="here"), builder.add_query("else", where="here")
    builder.add_pair(query, rows[0])
    builder.add_pair(other, builder.add_passage("z", where="here"))
    builder.add_pair(other, rows[3])
    found = builder.build()
    assert found.repeated == 1
    assert found.pairs.tolist() == [[0, 0], [1, 3]]
    positives, groups, exclude = found.exclusions()
    assert positives == [[0], [3]]
    assert groups.tolist() == [0, 0, 1, 5, 6]
    assert exclude == [[2, 4], []]  # row 2 has the positive's text, row 4 the query's text
    assert found.exclusions(same_document=False).groups is None


def test_a_text_in_several_documents():
    builder = PairSetBuilder()
    for text, document in [("x", "d"), ("x", "e"), ("y", "e"), ("z", "d"), ("w", "f")]:
        builder.add_passage(text, document=document, where="here")
    builder.add_pair(builder.add_query("q", where="here"), 0)
    builder.add_pair(builder.add_query("r", where="here"), 3)
    positives, groups, exclude = builder.build().exclusions()
    assert positives == [[0], [3]]
    assert groups is None
    assert exclude == [[0, 1, 2], [3]]
    assert np.array(builder.build().documents[0]).tolist() == ["d", "e"]
