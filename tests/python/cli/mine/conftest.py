"""Fixtures of the tests of ``relkt mine``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from relkt.cli import app

sys.path.insert(0, str(Path(__file__).parents[2] / "mining_files"))  # for mining_runs

from mining_runs import FURTHER, ROWS, encoder, small_parts, write_jsonl  # noqa: F401


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder: str) -> Callable[..., Result]:  # noqa: F811
    """Runs ``relkt mine`` in a folder with pairs.jsonl and corpus.jsonl."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    write_jsonl(tmp_path / "corpus.jsonl", FURTHER)
    return lambda *arguments: CliRunner().invoke(
        app, ["mine", "--encoder", encoder, *(str(argument) for argument in arguments)]
    )
