"""``relkt reproduce``: its options, its table, and the input that it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import relkt.reproduce

LANGUAGES = ("en", "ar", "de", "el", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small XQuAD: ten articles of one paragraph, each with two questions about its own word."""
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


@pytest.mark.slow
def test_bm25_on_xquad(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out put"
    command = ["reproduce", "xquad", "--path", folder, "--output", output, "--rows", "bm25", "--seeds", "2"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert result.stdout == (output / "results.md").read_text()
    assert f"relkt reproduce xquad --path {folder} --output '{output}' --seeds 2 --rows bm25\n" in result.stdout
    assert "| bm25 | **1.000** |" not in result.stdout  # alone, it is not the best
    assert "| bm25 | 1.000 | - |" in result.stdout
    assert f"The table is in {output / 'results.md'}" in result.stderr
    results = json.loads((output / "results.json").read_text())
    assert results["trained_languages"] == ["ar", "de", "es", "ru", "th", "tr", "zh"]
    assert [len(group) for group in results["means"].values()] == [7, 4, 11]
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert again.stdout == result.stdout


def test_options_reach_the_library(
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


def test_ctrl_c_says_how_to_continue(
    run: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(relkt.reproduce, "reproduce", interrupted)
    result = run("reproduce", "xquad", "--path", folder, "--output", tmp_path / "out", "--rows", "bm25")
    assert result.exit_code == 130
    expected = f"interrupted; to continue, run the same command (finished runs are in {tmp_path / 'out'})"
    assert result.stderr.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "bm26"], "rows: expected some of bm25, muse, e5-small, paper, best-muse, best-e5, got bm26"),
        (["--rows", ""], "rows: expected some of"),
        (["--rows", "bm25", "--path", "none"], "path: expected a folder, got 'none', which does not exist"),
        (["--rows", "bm25", "--device", "gpu"], "--device: expected cpu, or a GPU that"),
        (["--rows", "bm25", "--output", "."], "expected a new or empty folder, or one with an experiment"),
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
