"""The four formats of ``mine_hard_negatives``, and the printed statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sentence_transformers
from datasets import Dataset
from hard_negative_cases import CORPUS, FORMATS, PlaneModel, make_dataset, peer_rows, relkt_rows
from sentence_transformers import SentenceTransformer

from relkt.mining.hard_negatives import mine_hard_negatives
from relkt.mining.hard_negatives.formats import _Lists, _table, _Texts


def test_formats_by_hand() -> None:
    """Unit vectors in a plane: scores are cosines of the angles between them."""
    angles = {"q": 0, "r": 90, "p": 10, "p2": 20, "n1": 30, "n2": 40, "r+": 80}
    dataset = Dataset.from_dict({"a": ["q", "r", "q"], "b": ["p", "r+", "p2"]})
    cosines = {name: float(np.float32(np.cos(np.deg2rad(angle)))) for name, angle in angles.items()}

    def call(output_format: str, **options: Any) -> list[dict[str, Any]]:
        options = {"corpus": ["n1", "n2"], "num_negatives": 2, "max_score": 0.9, **options}
        return relkt_rows(dataset, PlaneModel(angles), output_format=output_format, **options).to_list()

    # q: n1 (0.866), n2 (0.766); r: n2 (cos 50), n1 (cos 60)
    assert call("triplet") == [
        {"a": a, "b": b, "negative": n}
        for a, b, n in [
            ("q", "p", "n1"),
            ("q", "p", "n2"),
            ("q", "p2", "n1"),
            ("q", "p2", "n2"),
            ("r", "r+", "n2"),
            ("r", "r+", "n1"),
        ]
    ]
    assert call("n-tuple", min_score=0.55) == [
        {"a": "q", "b": positive, "negative_1": "n1", "negative_2": "n2"} for positive in ("p", "p2")
    ]
    assert call("labeled-pair", max_score=0.7) == [
        {"a": a, "b": b, "label": label}
        for a, b, label in [
            ("q", "p", 1),
            ("q", "p2", 1),
            ("q", "r+", 0),
            ("r", "r+", 1),
            ("r", "n2", 0),
            ("r", "n1", 0),
        ]
    ]
    rows = call("labeled-list", max_score=0.8, output_scores=True)
    assert [row["b"] for row in rows] == [["p", "n2", "r+"], ["p2", "n2", "r+"], ["r+", "n2", "n1"]]
    assert rows[1]["scores"] == pytest.approx([cosines["p2"], cosines["n2"], cosines["r+"]], abs=1e-6)


def test_statistics_are_printed_as_by_sentence_transformers(
    model: SentenceTransformer, capsys: pytest.CaptureFixture[str]
) -> None:
    peer_rows(make_dataset(), model)  # skips with another version
    for output_format in FORMATS:
        for options in ({"num_negatives": 4}, {"range_max": 20, "relative_margin": 0.6, "max_score": 0.25}):
            call = {"corpus": CORPUS, "output_format": output_format, "range_max": 20, **options}
            sentence_transformers.util.mine_hard_negatives(make_dataset("several"), model, **call)
            expected = capsys.readouterr().out.splitlines()
            mine_hard_negatives(make_dataset("several"), model, **call)
            got = capsys.readouterr().out.splitlines()
            if output_format == "labeled-pair":  # sentence-transformers counts a repeated pair as missing
                expected, got = ([line for line in lines if "Could not" not in line] for lines in (expected, got))
            assert got == expected


def test_statistics_of_conditions_inside_the_search(capsys: pytest.CaptureFixture[str]) -> None:
    # q is at 0 degrees, its positive p at 10, the corpus at 5, 15, 35 and 80.
    plane = PlaneModel({"q": 0, "p": 10, "a": 5, "b": 15, "c": 35, "d": 80})
    dataset = Dataset.from_dict({"x": ["q"], "y": ["p"]})
    relkt_rows(dataset, plane, corpus=["a", "b", "c", "d"], num_negatives=3, absolute_margin=0.1, verbose=True)
    out = capsys.readouterr().out
    assert "Skipped 2 potential negatives (50.00%) due to the absolute_margin of 0.1." in out
    assert "Could not find enough negatives for 1 samples (33.33%)." in out
    assert "Consider adjusting the absolute_margin parameter if" in out
    assert "range_max" not in out
    relkt_rows(dataset, plane, corpus=["a"], verbose=True)
    assert "The corpus has no other passages." in capsys.readouterr().out
    relkt_rows(dataset, plane, corpus=["a"], max_score=-0.5, verbose=True)
    assert "Negative candidates mined" in capsys.readouterr().out


def test_nothing_is_printed_unless_verbose(model: SentenceTransformer, capfd: pytest.CaptureFixture[str]) -> None:
    relkt_rows(make_dataset("several"), model, max_score=0.1, sampling_strategy="random")
    assert capfd.readouterr() == ("", "")


def test_an_empty_result_keeps_its_types(model: SentenceTransformer) -> None:
    full = {f: relkt_rows(make_dataset(), model, output_format=f, output_scores=True) for f in FORMATS}
    for output_format in ("triplet", "n-tuple", "labeled-list"):
        empty = relkt_rows(make_dataset(), model, output_format=output_format, output_scores=True, max_score=-1.0)
        assert len(empty) == 0
        assert empty.features == full[output_format].features


def test_tables_are_made_in_parts_of_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relkt.mining.hard_negatives.formats._PART_BYTES", 12)
    source = pa.array(["aaaa", "bb", "", "cccccccccccccccc"], pa.large_string())
    rows = np.array([0, 1, 3, 2, 0, 1, 1])
    starts = np.array([0, 2, 3, 3, 7])
    table = _table({"list": _Lists(starts, _Texts(source, rows)), "text": _Texts(source, np.array([1, 0, 3, 2]))})
    assert table.schema.types == [pa.list_(pa.string()), pa.string()]
    assert table.column(0).num_chunks > 1
    assert table.to_pydict() == {
        "list": [["aaaa", "bb"], ["c" * 16], [], ["", "aaaa", "bb", "bb"]],
        "text": ["bb", "aaaa", "c" * 16, ""],
    }
