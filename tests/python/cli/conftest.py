"""Fixtures to run the commands in the process of the tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from relkt.cli import app
from relkt.encoders.muse import MuseEncoder

TINY = """
languages = ["en", "de"]
level = "passage"
stages = ["warmup"]
freeze_embeddings = true
[warmup]
epochs = 1
batch_size = 64
num_negatives = 1
"""
PASSAGES = [
    {"id": "tides", "text": "The gravity of the moon causes the tides of the sea.", "language": "en", "year": 2020},
    {"id": "salt", "text": "Rivers carry salt into the sea.", "language": "en", "year": 2021},
    {"id": "brot", "text": "Brot wird aus Mehl gebacken.", "language": "de", "year": 2021, "tags": ["x"]},
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the program with arguments; the result has its output and exit code."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments, **options: CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


@pytest.fixture
def refused(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Checks that the program ends with exit code 2 and one line with a message, and touches no file."""

    def check(arguments: list[str], message: str, files: Mapping[str, str] | None = None) -> None:
        monkeypatch.chdir(tmp_path)
        for name, content in (files or {}).items():
            (tmp_path / name).write_text(content, encoding="latin-1")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        lines = [line for line in result.stderr.splitlines() if line.strip()]  # a bar leaves empty lines
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert message in lines[0]
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    return check


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The configuration of a short training run."""
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path / "tiny.toml"


@pytest.fixture
def ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that costs nothing: every text is (1, 1)."""
    import relkt.encoders

    def encode(_: Any, texts: list[str], **__: Any) -> np.ndarray:
        return np.ones((len(texts), 2), np.float32)

    monkeypatch.setattr(relkt.encoders, "load_encoder", lambda *_, **__: None)
    monkeypatch.setattr(relkt.encoders, "encode_queries", encode)
    monkeypatch.setattr(relkt.encoders, "encode_passages", encode)


@pytest.fixture(scope="session")
def muse() -> MuseEncoder:
    return MuseEncoder.from_package()


@pytest.fixture
def shared_muse(muse: MuseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads mUSE once for all tests that do not train it."""
    monkeypatch.setattr(MuseEncoder, "from_package", lambda: muse)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index of three passages, written by the program."""
    folder = tmp_path_factory.mktemp("index")
    lines = "".join(json.dumps(passage) + "\n" for passage in PASSAGES)
    (folder / "passages.jsonl").write_text(lines, encoding="utf-8")
    result = CliRunner().invoke(
        app, ["index", str(folder / "passages.jsonl"), "--output", str(folder / "w.relkt"), "--device", "cpu"]
    )
    assert result.exit_code == 0, result.stderr
    assert "3 passages; ask it with: relkt search" in result.stderr
    return folder


@pytest.fixture
def index(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built index, with its passages, in the current folder."""
    for file in built.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "w.relkt"
