"""Arguments of ``mine_hard_negatives``: warnings and errors."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from hard_negative_cases import PLANE, PLANE_PAIRS, PlaneModel, assert_same, make_dataset, relkt_rows
from sentence_transformers import SentenceTransformer


def test_formatted_selected_and_transformed_data_sets(model: SentenceTransformer) -> None:
    plain = make_dataset("several")
    expected = relkt_rows(plain, model)
    assert_same(relkt_rows(plain.with_format("numpy"), model), expected)
    assert_same(relkt_rows(plain.with_format("arrow"), model), expected)
    backwards = plain.select(range(len(plain) - 1, -1, -1))
    assert_same(relkt_rows(backwards.select(range(len(plain) - 1, -1, -1)), model), expected)
    shouted = plain.with_transform(lambda batch: {name: [f"{t} !" for t in texts] for name, texts in batch.items()})
    assert list(relkt_rows(shouted, model)["question"]) == [f"{text} !" for text in expected["question"]]


def test_unknown_columns_fall_back_with_a_warning(model: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        got = relkt_rows(make_dataset(), model, anchor_column_name="query", positive_column_name="passage")
    assert "anchor_column_name: the dataset has no column 'query'" in caplog.text
    assert "positive_column_name: the dataset has no column 'passage'" in caplog.text
    assert_same(got, relkt_rows(make_dataset(), model))


@pytest.mark.parametrize(
    ("options", "message", "output_format"),
    [
        ({"as_triplets": True, "output_format": "n-tuple"}, "`as_triplets` parameter is deprecated", "triplet"),
        ({"margin": 0.1}, "`margin` parameter is deprecated", "triplet"),
        ({"output_format": "n-tuple-scores"}, '`output_format="n-tuple-scores"` is deprecated', "n-tuple"),
        ({"include_positives": True}, '`output_format` is set to `"n-tuple"`', "n-tuple"),
        ({"include_positives": True, "range_min": 1}, "may still discard the positives", "n-tuple"),
    ],
)
def test_warnings(
    model: SentenceTransformer,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    message: str,
    output_format: str,
) -> None:
    with caplog.at_level(logging.WARNING, logger="relkt"):
        got = relkt_rows(make_dataset(), model, **options)
    assert message in caplog.text
    assert ("negative" in got.column_names) == (output_format == "triplet")
    assert ("scores" in got.column_names) == (options.get("output_format") == "n-tuple-scores")


PAIR = {"a": ["q", "r"], "b": ["p", "s"]}


BAD: list[tuple[dict[str, Any] | Any, dict[str, Any], type[Exception], str]] = [
    (PAIR, {}, TypeError, "dataset: expected a datasets.Dataset, got dict"),
    (DatasetDict({"train": PLANE_PAIRS}), {}, TypeError, "dataset: expected a datasets.Dataset, got DatasetDict"),
    (Dataset.from_dict({"a": [], "b": []}), {}, ValueError, "dataset: expected at least one row"),
    (Dataset.from_dict({"a": ["q"]}), {}, ValueError, r"dataset: expected at least two columns, .* got \['a'\]"),
    (PLANE_PAIRS, {"anchor_column_name": "b"}, ValueError, "dataset: expected different columns .* got 'b' for both"),
    (
        Dataset.from_dict({"a": ["q", None], "b": ["p", "s"]}),
        {},
        ValueError,
        "column 'a': expected texts, got None in row 1",
    ),
    (Dataset.from_dict({"a": ["q", "r"], "b": [1, 2]}), {}, TypeError, "column 'b': expected texts, got int in row 0"),
    (Dataset.from_dict({"a": ["q"], "b": [["p"]]}), {}, TypeError, "column 'b': expected texts, got list in row 0"),
    (PLANE_PAIRS, {"corpus": "p"}, TypeError, "corpus: expected a list of texts, got one text"),
    (PLANE_PAIRS, {"corpus": 3}, TypeError, "corpus: expected a list of texts, got int"),
    (PLANE_PAIRS, {"corpus": ["p", 3]}, TypeError, "corpus: expected texts, got int in row 1"),
    (PLANE_PAIRS, {"corpus": ["p", None]}, ValueError, "corpus: expected texts, got None in row 1"),
    (PLANE_PAIRS, {"num_negatives": 0}, ValueError, "num_negatives: expected an integer of at least 1, got 0"),
    (PLANE_PAIRS, {"num_negatives": 1.5}, TypeError, "num_negatives: expected an integer"),
    (PLANE_PAIRS, {"range_min": -1}, ValueError, "range_min: expected an integer of at least 0, got -1"),
    (PLANE_PAIRS, {"range_min": 2, "range_max": 4}, ValueError, r"range_max: expected at least .* = 5, .* got 4"),
    (PLANE_PAIRS, {"max_score": "0.5"}, TypeError, "max_score: expected a number, or None, got '0.5'"),
    (PLANE_PAIRS, {"min_score": float("nan")}, ValueError, "min_score: expected a finite number, or None, got nan"),
    (PLANE_PAIRS, {"relative_margin": [0.1]}, TypeError, r"relative_margin: expected a number, or None, got \[0.1\]"),
    (PLANE_PAIRS, {"max_score": 10**400}, ValueError, "max_score: expected a finite number, or None, got 1000"),
    (PLANE_PAIRS, {"query_prompt_name": "qery"}, ValueError, "query_prompt_name: expected one of the model's prompts"),
    (PLANE_PAIRS, {"corpus_prompt_name": "doc"}, ValueError, r"corpus_prompt_name: .* prompts, \[\], got 'doc'"),
    (PLANE_PAIRS, {"margin": "x"}, TypeError, "absolute_margin: expected a number, or None, got 'x'"),
    (
        PLANE_PAIRS,
        {"sampling_strategy": "best"},
        ValueError,
        "sampling_strategy: expected 'top' or 'random', got 'best'",
    ),
    (PLANE_PAIRS, {"output_format": "pairs"}, ValueError, "output_format: expected one of 'triplet', .* got 'pairs'"),
    (
        PLANE_PAIRS,
        {"min_score": 0.5, "max_score": 0.4},
        ValueError,
        "min_score: expected at most max_score = 0.4, got 0.5",
    ),
    (PLANE_PAIRS, {"batch_size": 0}, ValueError, "batch_size: expected an integer of at least 1, got 0"),
    (PLANE_PAIRS, {"faiss_batch_size": 0}, ValueError, "faiss_batch_size: expected an integer of at least 1, got 0"),
    (PLANE_PAIRS, {"threads": 0}, ValueError, "threads: expected"),
    (Dataset.from_dict({"a": ["q"], "negative": ["p"]}), {}, ValueError, "would have two columns 'negative'"),
    (
        Dataset.from_dict({"label": ["q"], "b": ["p"]}),
        {"output_format": "labeled-pair"},
        ValueError,
        "two columns 'label'",
    ),
]


@pytest.mark.parametrize(("dataset", "options", "error", "message"), BAD)
def test_bad_input_is_an_error_before_anything_is_encoded(
    dataset: Any, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    plane = PlaneModel(PLANE)
    with pytest.raises(error, match=message):
        relkt_rows(dataset, plane, cache_folder=tmp_path / "cache", **options)
    assert plane.calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan"])
def test_distances_are_refused(similarity: str) -> None:
    plane = PlaneModel(PLANE)
    plane.similarity_fn_name = similarity
    with pytest.raises(ValueError, match=f"similarity_fn_name 'cosine' or 'dot', got '{similarity}'"):
        relkt_rows(PLANE_PAIRS, plane)
    plane.similarity_fn_name = "dot"
    assert len(relkt_rows(PLANE_PAIRS, plane, num_negatives=1)) == 2
