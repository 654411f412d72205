"""Tables and plots of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from relkt.data import Level, Split
from relkt.evaluation import Average, Estimate, Report
from relkt.report import RESULT_NAMES, plot_languages, plot_learning_curve, results_table
from relkt.training import Stage


def build(values: dict[str, float], *, trained: tuple[str, ...] | None = ("en", "de"), spread: float = 0.05) -> Report:
    def estimate(languages: list[str]) -> Estimate:
        value = sum(values[x] for x in languages) / len(languages)
        return Estimate(value, (value - spread, value + spread))

    averages = {Average.ALL: estimate(list(values))}
    if trained is not None:
        averages = {
            Average.TRAINED: estimate([x for x in values if x in trained]),
            Average.UNTRAINED: estimate([x for x in values if x not in trained]),
        } | averages
    return Report(
        data="toy",
        split=Split.TEST,
        level=Level.PASSAGE,
        num_candidates=240,
        num_queries=dict.fromkeys(values, 238),
        trained_languages=trained,
        estimates={"P@1": {x: estimate([x]) for x in values}},
        averages={"P@1": averages},
    )


BEFORE = build({"en": 0.8, "de": 0.7, "th": 0.6, "xx": 0.1})
AFTER = build({"en": 0.8, "de": 0.8, "th": 0.7, "xx": 0.06})


def test_results_table() -> None:
    lines = results_table({"before": BEFORE, "transfer": AFTER}).splitlines()
    assert lines[0].startswith("P@1, toy, test queries, level passage, 240 candidates")
    assert lines[2] == "| model | en\\* | de\\* | th | xx | trained | untrained | all |"
    assert lines[3] == "|---|---:|---:|---:|---:|---|---|---|"
    assert lines[4] == (
        "| before | **0.800** | 0.700 | 0.600 | **0.100** "
        "| 0.750 [0.700, 0.800] | 0.350 [0.300, 0.400] | 0.550 [0.500, 0.600] |"
    )
    assert lines[5] == (
        "| transfer | **0.800** | **0.800** | **0.700** | 0.060 "
        "| **0.800 [0.750, 0.850]** | **0.380 [0.330, 0.430]** | **0.590 [0.540, 0.640]** |"
    )
    assert len(lines) == 6


def test_values_that_print_the_same_are_equally_bold() -> None:
    row = results_table({"a": build({"en": 0.8001, "th": 0.5}), "b": build({"en": 0.8004, "th": 0.4})}).splitlines()[4]
    assert row.startswith("| a | **0.800** | **0.500** |")


def test_a_single_row_has_nothing_in_bold() -> None:
    assert "**" not in results_table({"before": BEFORE})


def test_reports_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="at least one report"):
        results_table({})
    with pytest.raises(ValueError, match=r"level is .*passage.* in 'a', but .*document.* in 'b'"):
        results_table({"a": BEFORE, "b": replace(AFTER, level=Level.DOCUMENT)})
    with pytest.raises(ValueError, match="different languages"):
        results_table({"a": BEFORE, "b": build({"en": 0.5, "de": 0.5, "th": 0.5})})
    with pytest.raises(ValueError, match="in 'a', so their averages are not comparable"):
        results_table({"a": BEFORE, "b": replace(AFTER, trained_languages=("en",))})
    with pytest.raises(ValueError, match="metric: expected one of P@1, got 'MAP'"):
        results_table({"a": BEFORE}, metric="MAP")


def is_drawing(png: Path, svg: Path) -> bool:
    return png.read_bytes().startswith(b"\x89PNG") and b"<svg" in svg.read_bytes()[:1000]


@pytest.mark.parametrize("trained", [("en", "de"), None])
def test_plot_languages(tmp_path: Path, trained: tuple[str, ...] | None) -> None:
    before = build({"en": 0.8, "de": 0.7, "th": 0.6, "xx": 0.1}, trained=None)
    after = build({"en": 0.8, "de": 0.8, "th": 0.7, "xx": 0.05}, trained=trained)
    png, svg = plot_languages(before, after, tmp_path / "new" / "languages.png")
    assert (png, svg) == (tmp_path / "new" / "languages.png", tmp_path / "new" / "languages.svg")
    assert is_drawing(png, svg)


def test_plot_languages_without_intervals(tmp_path: Path) -> None:
    plain = replace(AFTER, estimates={"P@1": {x: Estimate(0.5) for x in AFTER.languages}})
    assert is_drawing(*plot_languages(BEFORE, plain, tmp_path / "v1.2"))
    assert (tmp_path / "v1.2.svg").exists()


def test_every_stage_has_a_name() -> None:
    assert set(RESULT_NAMES) == {"before", *(stage.value for stage in Stage)}
    assert RESULT_NAMES["warmup"] == "after warm-up"


def write_metrics(path: Path) -> None:
    lines: list[dict[str, object]] = []
    for stage in ("warmup", "teacher", "transfer"):
        for epoch in range(3):
            scores = {"en": 0.5 + 0.1 * epoch, "de": 0.4}
            dev = {"P@1": scores, "MRR@10": scores}
            lines.append(
                {"stage": stage, "epoch": epoch, "step": 10 * epoch, "dev": dev, "dev_p1": 0.45 + epoch * 0.05}
            )
            lines.append(
                {"stage": stage, "epoch": epoch + 0.5, "step": 10 * epoch + 5, "loss": 1.0, "learning_rate": 1e-3}
            )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_plot_learning_curve(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.jsonl")
    assert is_drawing(*plot_learning_curve(tmp_path / "metrics.jsonl", tmp_path / "learning_curve"))


@pytest.mark.slow
def test_the_same_run_gives_the_same_files(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.jsonl")
    for draw in (
        lambda name: plot_learning_curve(tmp_path / "metrics.jsonl", tmp_path / name),
        lambda name: plot_languages(BEFORE, AFTER, tmp_path / name),
    ):
        first, second = draw("first"), draw("second")
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_plot_learning_curve_of_one_stage_without_losses(tmp_path: Path) -> None:
    (tmp_path / "m").write_text('{"stage": "warmup", "epoch": 0, "step": 0, "dev": {"P@1": {"en": 1}}, "dev_p1": 1}\n')
    assert is_drawing(*plot_learning_curve(tmp_path / "m", tmp_path / "curve"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one dev evaluation, got none"),
        ('{"stage": "warmup", "epoch": 1, "loss": 2}\n', "at least one dev evaluation, got none"),
        ('{"stage": "warmup", "epoch": 0, "dev_p1": 1}\n{"epo', "line 2: expected an object with stage and epoch"),
        ('{"epoch": 1}\n', "line 1: expected an object with stage and epoch"),
    ],
)
def test_metrics_that_cannot_be_drawn(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        plot_learning_curve(tmp_path / "metrics.jsonl", tmp_path / "curve")
    assert not (tmp_path / "curve.png").exists()


@pytest.mark.slow
def test_plots_leave_matplotlib_s_global_state_alone(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.jsonl")
    code = (
        "import sys, relkt.report as r\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib\n"
        "before = matplotlib.rcParams.copy()\n"
        f"r.plot_learning_curve({str(tmp_path / 'metrics.jsonl')!r}, {str(tmp_path / 'curve')!r})\n"
        # dict.__eq__, because comparing two rcParams selects a back end.
        "assert dict.__eq__(matplotlib.rcParams, before)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
