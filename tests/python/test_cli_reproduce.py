"""relkt reproduce: its options, its bar, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.progress import Progress
from typer.testing import CliRunner

import relkt.reproduce
from relkt.cli import app
from relkt.cli.reproduction_bar import ReproductionBar
from relkt.reproduce import Row, Run
from relkt.training import DevScore, Stage, TrainConfig

LANGUAGES = ("en", "ar", "de", "el", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """XQuAD in small: ten articles of one paragraph, each with two questions about a word of its own."""
    path = tmp_path / "xquad"
    path.mkdir()
    for language in LANGUAGES:
        articles = [
            {
                "title": f"Article {a}",
                "paragraphs": [
                    {
                        "context": f"word{a} in {language}",
                        "qas": [{"id": f"{a}-{q}", "question": f"word{a} ({q})?", "answers": []} for q in range(2)],
                    }
                ],
            }
            for a in range(10)
        ]
        (path / f"xquad.{language}.json").write_text(json.dumps({"version": "1.1", "data": articles}))
    return path


def test_bm25_on_xquad(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out put"
    command = ["reproduce", "xquad", "--path", folder, "--output", output, "--rows", "bm25", "--seeds", "2"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert result.stdout == (output / "results.md").read_text()
    assert f"relkt reproduce xquad --path {folder} --output '{output}' --seeds 2 --rows bm25\n" in result.stdout
    assert "| bm25 | **1.000** |" not in result.stdout  # alone, it is not the best
    assert "| bm25 | 1.000 | - |" in result.stdout
    assert f"This table is in {output / 'results.md'}" in result.stderr
    results = json.loads((output / "results.json").read_text())
    assert results["trained_languages"] == ["ar", "de", "es", "ru", "th", "tr", "zh"]
    assert [len(group) for group in results["means"].values()] == [7, 4, 11]
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert again.stdout == result.stdout


def test_what_the_library_is_asked_for(
    run: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def stand_in(_: Any, **arguments: Any) -> None:
        asked.update(arguments)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "results.md").write_text("table\n")

    monkeypatch.setattr(relkt.reproduce, "reproduce", stand_in)
    result = run(
        *("reproduce", "xquad", "--path", folder, "--output", tmp_path / "out", "--device", "cpu"),
        *("--rows", "paper, e5-small", "--e5", "models/e5"),
    )
    assert result.exit_code == 0, result.output
    assert [row.name for row in asked["rows"]] == ["e5-small", "paper"]
    assert asked["rows"][0].encoder == "models/e5"
    assert list(asked["seeds"]) == [1, 2, 3, 4, 5]
    assert asked["device"] == "cpu"
    assert asked["command"].endswith("--seeds 5 --rows 'paper, e5-small' --e5 models/e5 --device cpu")


def test_ctrl_c_says_how_to_go_on(
    run: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(relkt.reproduce, "reproduce", interrupted)
    result = run("reproduce", "xquad", "--path", folder, "--output", tmp_path / "out", "--rows", "bm25")
    assert result.exit_code == 130
    expected = f"interrupted; go on with the same command (what is done is in {tmp_path / 'out'})"
    assert result.stderr.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "bm26"], "rows: expected some of bm25, muse, e5-small, paper, best-muse, best-e5, got bm26"),
        (["--rows", ""], "rows: expected some of"),
        (["--rows", "bm25", "--path", "none"], "path: expected a folder, got 'none', which does not exist"),
        (["--rows", "bm25", "--device", "gpu"], "--device: expected cpu, or a GPU that"),
        (["--rows", "bm25", "--output", "."], "output_dir: expected a new or empty folder, or that of an experiment"),
        (["--rows", "e5-small", "--e5", "./none"], "no such folder"),
    ],
)
def test_bad_input_is_one_line(
    run: Callable[..., Result],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("reproduce", "xquad", "--path", folder, "--output", "out", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert [p.name for p in tmp_path.iterdir()] == ["xquad"]


def test_the_bar_counts_runs_and_moves_inside_them() -> None:
    config = TrainConfig(stages=(Stage.WARMUP, Stage.TEACHER))
    with Progress(disable=True) as bars:
        bar = ReproductionBar(bars)
        (task,) = bars.tasks
        bar.activity("checking the encoders")
        assert (task.total, task.fields["activity"]) == (None, "checking the encoders")
        bar.runs_planned(5, 2)
        assert (task.total, task.completed) == (5, 2)
        bar.run_started(Run(Row(name="tuned", encoder="e", config=config), 3))
        assert task.fields["run"] == "tuned, seed 3"
        bar.stage_started(Stage.WARMUP, 10, 4)
        assert task.completed == pytest.approx(2 + 0.4 / 2)
        bar.step(1.0)
        bar.evaluated(DevScore(Stage.WARMUP, 1.0, 5, 0.5, {}, True))
        assert task.completed == pytest.approx(2.25)
        assert task.fields["inside"] == "warm-up 5/10, dev P@1 0.500"
        bar.stage_finished(Stage.WARMUP, DevScore(Stage.WARMUP, 1.0, 5, 0.5, {}, True))
        assert task.completed == pytest.approx(2.5)
        bar.stage_started(Stage.TEACHER, 4)
        bar.steps_planned(2)
        bar.step(1.0)
        assert task.completed == pytest.approx(2.75)
        bar.step(1.0)
        assert task.completed < 3  # until it is measured
        bar.run_finished(Run(Row(name="tuned", encoder="e", config=config), 3))
        assert (task.completed, task.fields["run"]) == (3, "")
        bar.run_started(Run(Row(name="bm25"), None))
        assert (task.completed, task.fields["run"], task.fields["inside"]) == (3, "bm25", "")
