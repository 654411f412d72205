"""Means, deviations, tests, tables and plots, from values written by hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relkt.data import Level, Passage, Query, RetrievalData
from relkt.reproduce import Mean, Reproduction, Row, Run
from relkt.reproduce.measurement import Measurement, StageResult
from relkt.reproduce.plots import band, plot_languages, plot_learning_curves, plot_trained_untrained
from relkt.reproduce.summary import summarise
from relkt.reproduce.tables import duration, to_markdown
from relkt.training import TrainConfig

LANGUAGES = ("de", "en", "hi", "th")
MACHINE = {
    "cpu": "A CPU",
    "cores": 2,
    "threads": 1,
    "gpu": None,
    "versions": {"python": "3.11", "relkt": "1", "x": "?"},
}
CONFIG = TrainConfig.from_dict({"languages": ["de", "th"], "stages": ["warmup", "transfer"]})
ROWS = (Row(name="bm25"), Row(name="plain", encoder="enc"), Row(name="tuned", encoder="enc", config=CONFIG))
# The first two questions are asked in every language, the third only in German.
ASKED = [(language, f"q{number}") for language in LANGUAGES for number in (0, 1)] + [("de", "q2")]


def question_data() -> RetrievalData:
    passages = (Passage("p0", "text", "d0"), Passage("p1", "text", "d0"), Passage("p2", "text", "d1"))
    queries = tuple(Query(f"{parallel}-{language}", "?", language, parallel) for language, parallel in ASKED)
    return RetrievalData("toy", passages, queries, {q.id: {"p0": 1} for q in queries})


def measurement(p1: dict[str, list[float]], **changes: Any) -> Measurement:
    """A measurement in which every metric at every level has the given values: language -> a value per question."""
    values = [p1[language][int(parallel[1])] for language, parallel in ASKED if language in p1]
    given: dict[str, Any] = {
        "languages": tuple(p1),
        "values": {level: np.tile(np.array(values), (5, 1)) for level in Level},
        "seconds": 60.0,
        "finished": "2026-01-02T03:04:05+00:00",
        "machine": MACHINE,
    }
    return Measurement(**(given | changes))


PLAIN = {"en": [1.0, 1.0], "de": [1.0, 0.0, 0.0], "th": [0.0, 0.0], "hi": [0.0, 0.0]}
TUNED = (
    {"en": [1.0, 0.0], "de": [1.0, 1.0, 1.0], "th": [1.0, 0.0], "hi": [0.0, 0.0]},
    {"en": [1.0, 1.0], "de": [1.0, 1.0, 0.0], "th": [1.0, 1.0], "hi": [0.0, 0.0]},
)


def reproduction(rows: tuple[Row, ...] = ROWS, **changes: Any) -> Reproduction:
    by_level = {level.value: dict.fromkeys(LANGUAGES, 0.5) for level in Level}
    names = ("before", "vocabulary", "warmup", "transfer")
    stages = tuple(StageResult(name, None if name == "before" else 0.5, by_level) for name in names)
    tuned = [
        measurement(values, stages=stages, curve=((0, 0.2), (4, 0.4 + 0.1 * number)), seconds=100.0 + 20 * number)
        for number, values in enumerate(TUNED)
    ]
    measurements = {
        "bm25": {Run(ROWS[0], None): measurement({"en": [1.0, 0.0]}, seconds=0.4)},
        "plain": {Run(ROWS[1], None): measurement(PLAIN)},
        "tuned": {Run(ROWS[2], seed): run for seed, run in zip((1, 2), tuned, strict=True)},
    }
    arguments: dict[str, Any] = {"trained_languages": ("de", "th"), "num_resamples": 2000, "command": "run me"}
    return summarise(question_data(), rows, measurements, **(arguments | changes))


@pytest.fixture(scope="module")
def result() -> Reproduction:
    return reproduction()


def test_cells_by_hand(result: Reproduction) -> None:
    assert result.languages == ("en", "de", "th", "hi")
    assert result.means == {Mean.TRAINED: ("de", "th"), Mean.OTHERS: ("hi",), Mean.ALL: ("de", "th", "hi")}
    assert result.num_queries == {"en": 2, "de": 3, "th": 2, "hi": 2}
    assert result.num_candidates == {Level.PASSAGE: 3, Level.DOCUMENT: 2, Level.BEST_PASSAGE: 2}
    cell = result.cell("tuned", Level.PASSAGE, "de")
    assert cell is not None
    assert cell.by_run == pytest.approx((1, 2 / 3))
    assert cell.value == pytest.approx(5 / 6)
    assert cell.deviation == pytest.approx(math.sqrt(2) / 6)  # of two values 1/3 apart, n - 1
    trained = result.cell("tuned", Level.DOCUMENT, Mean.TRAINED, "MRR@10")
    assert trained is not None
    assert trained.by_run == pytest.approx(((1 + 0.5) / 2, (2 / 3 + 1) / 2))
    all_but_english = result.cell("plain", Level.PASSAGE, Mean.ALL)
    assert all_but_english is not None
    assert all_but_english.value == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert all_but_english.deviation is None
    bm25 = result.cell("bm25", Level.PASSAGE, "en")
    assert bm25 is not None
    assert bm25.value == 0.5
    assert result.cell("bm25", Level.PASSAGE, "de") is None
    assert result.cell("bm25", Level.PASSAGE, Mean.OTHERS) is None


def test_intervals_are_of_the_mean_over_the_seeds(result: Reproduction) -> None:
    # Values of the two English questions: 1 and 1 for plain, so every resample has the mean 1; for tuned, averaged over
    # the seeds, 1 and (0 + 1) / 2.
    plain, tuned = (result.cell(row, Level.PASSAGE, "en") for row in ("plain", "tuned"))
    assert plain is not None
    assert tuned is not None
    assert plain.interval == (1.0, 1.0)
    assert tuned.interval == (0.5, 1.0)


def test_paired_tests_by_hand(result: Reproduction) -> None:
    compared = result.comparison("plain", "tuned", Level.PASSAGE)
    assert set(compared.p_values) == {"en", "de", "th", "hi", *(mean.value for mean in Mean)}
    assert compared.differences["en"] == pytest.approx(1 - 0.75)
    # The two English questions differ by 0 and .5, so d = .25. A resample draws 3 of 3 questions, with repeats; the
    # third has no English version. Of the 27 draws, 1 has no English question. In 2 x 7 of the other 26, only one
    # English question is drawn, so d* is 0 or .5, and |d* - d| = |d|; in the others, |d* - d| is smaller.
    assert compared.p_values["en"] == pytest.approx(14 / 26, abs=0.03)
    assert compared.p_values["hi"] == 1.0
    assert compared.differences["hi"] == 0.0
    # BM25 is compared in English only.
    assert set(result.comparison("bm25", "plain", Level.DOCUMENT).p_values) == {"en"}
    assert len(result.comparisons) == 3 * 3 * 5


def test_results_are_asked_for_by_name(result: Reproduction) -> None:
    assert result.cell("plain", "passage", "trained") == result.cell("plain", Level.PASSAGE, Mean.TRAINED)
    assert result.comparison("plain", "tuned", "passage").rows == ("plain", "tuned")
    with pytest.raises(
        ValueError, match=r"first, second: expected one of \('bm25', 'plain'\), .*, got \('tuned', 'plain'"
    ):
        result.comparison("tuned", "plain", "passage")
    for arguments, message in (
        (("x", "passage", "de"), "row: expected one of bm25, plain, tuned, got 'x'"),
        (("plain", "page", "de"), "level: expected one of 'passage', .*, got 'page'"),
        (("plain", "passage", "fr"), "column: expected one of en, de, th, hi, trained, others, all but en, got 'fr'"),
        (("plain", "passage", "de", "MAP"), "metric: expected one of P@1, .*, got 'MAP'"),
    ):
        with pytest.raises(ValueError, match=message):
            result.cell(*arguments)


def test_everything_is_in_the_json(result: Reproduction) -> None:
    content = json.loads(json.dumps(result.to_dict()))
    assert content["means"] == {"trained": ["de", "th"], "others": ["hi"], "all but en": ["de", "th", "hi"]}
    tuned = content["rows"]["tuned"]
    assert [run["seed"] for run in tuned["runs"]] == [1, 2]
    assert tuned["runs"][1]["seconds"] == 120
    assert tuned["config"]["languages"] == ["de", "th"]
    assert "seed" not in tuned["config"]
    assert set(tuned["results"]["best-passage"]) == {"P@1", "P@5", "P@10", "MRR@10", "nDCG@10"}
    assert tuned["results"]["passage"]["P@1"]["th"]["by_run"] == [0.5, 1.0]
    assert content["rows"]["bm25"]["results"]["passage"]["P@1"].keys() == {"en"}
    assert len(content["comparisons"]) == len(result.comparisons)


def test_markdown(result: Reproduction) -> None:
    text = to_markdown(result)
    assert text.startswith("# toy: 3 systems\n\n```\nrun me\n```\n\nMeasured on 2026-01-02.\n")
    assert "A CPU, 2 cores, 1 thread used, no GPU used; python 3.11, relkt 1.\n" in text
    assert "| tuned | enc, trained | 1, 2 | 1 min 50 s | 3 min 40 s |" in text
    assert "P@1 on 2 to 3 test questions in each of 4 languages" in text
    lines = text.splitlines()
    start = lines.index("## passage: one of 3 passages")
    assert lines[start + 2 : start + 7] == [
        "| P@1 | en | de\\* | th\\* | hi | trained (2) | others (1) | all but en (3) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| bm25 | 0.500 | - | - | - | - | - | - |",
        "| plain | **1.000** | 0.333 | 0.000 | **0.000** | 0.167 | **0.000** | 0.111 |",
        "| tuned | 0.750 ± 0.354 | **0.833 ± 0.236** | **0.750 ± 0.354** | **0.000 ± 0.000** | **0.792 ± 0.059** | "
        "**0.000 ± 0.000** | **0.528 ± 0.039** |",
    ]
    p = result.comparison("plain", "tuned", Level.BEST_PASSAGE).p_values["trained"]
    assert f"| p, best-passage | plain |\n| --- | ---: |\n| tuned | {p:.4f} |" in text
    assert (
        "| before | - | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.500 ± 0.000 |\n| after vocabulary | 0.500 ± 0.000 |" in text
    )
    assert "| after transfer | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.500 ± 0.000 |" in text


def test_tests_are_a_triangle() -> None:
    rows = tuple(Row(name=name, encoder="enc") for name in "abc")
    runs = {row.name: {Run(row, None): measurement(PLAIN)} for row in rows}
    text = to_markdown(summarise(question_data(), rows, runs, trained_languages=(), num_resamples=9, command=""))
    assert "| p, passage | a | b |\n| --- | ---: | ---: |\n| b | 1.0000 |  |\n| c | 1.0000 | 1.0000 |" in text
    assert "```" not in text
    assert "Stage by stage" not in text
    assert "averaged over de, hi, th (all but en)" in text
    assert "| P@1 | en | de | hi | th | all but en (3) |" in text


def test_runs_on_different_machines_are_listed_by_machine() -> None:
    row = Row(name="tuned", encoder="enc", config=TrainConfig(stages=CONFIG.stages[:1]))
    other = MACHINE | {"cpu": "B CPU", "cores": 1, "threads": 4, "gpu": "G"}
    runs = {
        Run(row, 1): measurement(TUNED[0]),
        Run(row, 2): measurement(TUNED[1], machine=other, finished="2026-01-05T00:00:00+00:00"),
    }
    text = to_markdown(
        summarise(question_data(), [row], {"tuned": runs}, trained_languages=("de",), num_resamples=9, command="")
    )
    assert "Measured from 2026-01-02 to 2026-01-05.\n" in text
    assert "A CPU, 2 cores, 1 thread used, no GPU used; python 3.11, relkt 1 (tuned, seed 1).\n" in text
    assert "B CPU, 1 core, 4 threads used, G; python 3.11, relkt 1 (tuned, seed 2).\n" in text
    assert "Paired bootstrap" not in text
    assert not re.search(r"\| \*\*", text)  # a single row is never marked as the best


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (7512, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_band_by_hand() -> None:
    # The second curve stops at step 4; at step 2 the first curve is half-way between its points.
    steps, mean, low, high = band([[(0, 0.2), (4, 0.4), (8, 0.6)], [(0, 0.4), (2, 0.5), (4, 0.8)]])
    assert steps == [0, 2, 4, 8]
    assert mean == pytest.approx([0.3, 0.4, 0.6, 0.6])
    assert low == pytest.approx([0.2, 0.3, 0.4, 0.6])
    assert high == pytest.approx([0.4, 0.5, 0.8, 0.6])


@pytest.mark.parametrize(
    "plot", [lambda r, out: plot_languages(r, Level.DOCUMENT, out), plot_trained_untrained, plot_learning_curves]
)
def test_plots(plot: Callable[..., Any], result: Reproduction, tmp_path: Path) -> None:
    png, svg = plot(result, tmp_path / "first")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    assert text.count("<path") > 10
    # Other values give other files.
    changed = summarise(
        question_data(),
        ROWS,
        {**result.measurements, "tuned": {Run(ROWS[2], 1): measurement(PLAIN, curve=((0, 0.1), (9, 0.9)))}},
        trained_languages=("de", "th"),
        num_resamples=9,
        command="",
    )
    assert plot(changed, tmp_path / "second")[1].read_text() != text


def test_nothing_to_draw(tmp_path: Path) -> None:
    only = reproduction(rows=ROWS[:1])
    assert plot_trained_untrained(only, tmp_path / "x") is None
    assert plot_learning_curves(only, tmp_path / "x") is None
    assert not list(tmp_path.iterdir())
