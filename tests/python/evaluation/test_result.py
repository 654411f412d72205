"""The report: JSON, Markdown, and its accessors."""

from __future__ import annotations

import pytest

from relkt.data import Split
from relkt.evaluation import (
    Estimate,
    Report,
)


def test_json_round_trip(report: Report) -> None:
    again = Report.from_json(report.to_json())
    assert again == report
    assert again.split is Split.TEST
    assert again.languages == report.languages
    with pytest.raises(ValueError, match="report: has no ranking"):
        again.write_run("unused")
    with pytest.raises(ValueError, match="expected the values of a report"):
        Report.from_json('{"data": "toy"}')


def test_markdown_has_a_row_for_each_language_and_average(report: Report) -> None:
    lines = report.to_markdown().splitlines()
    assert lines[0].startswith("toy, test queries, level passage, 60 candidates")
    assert lines[2] == "| language | queries | P@1 | P@5 | P@10 | MRR@10 | nDCG@10 |"
    assert [line.split(" |")[0] for line in lines[4:10]] == [
        "| en\\*",
        "| de\\*",
        "| th",
        "| **trained** (2)",
        "| **untrained** (1)",
        "| **all** (3)",
    ]
    assert report.estimate("P@1", "th").format() in lines[6]
    assert len({line.count("|") for line in lines[2:10]}) == 1


def test_estimates_are_printed_with_three_digits() -> None:
    assert Estimate(0.79444, (0.7, 0.8005)).format() == "0.794 [0.700, 0.800]"
    assert Estimate(0.79444, (0.7, 0.8005)).format(with_interval=False) == "0.794"
    assert Estimate(1.0).format() == "1.000"


def test_unknown_metrics_and_languages(report: Report) -> None:
    with pytest.raises(ValueError, match=r"metric: expected one of P@1, .*got 'MAP'"):
        report.value("MAP", "en")
    with pytest.raises(ValueError, match="language: expected one of en, de, th, got 'fr'"):
        report.value("P@1", "fr")
