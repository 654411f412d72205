"""Progress bars of a run."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData
from relkt.training import DevScore, Stage, TrainConfig, train
from relkt.training.progress.bars import TrainingBars


def test_each_bar_ends_with_the_result_of_its_stage() -> None:
    console = Console(file=StringIO(), width=120, force_terminal=True, color_system=None)
    with TrainingBars.bars(console) as bars:
        progress = TrainingBars(bars)
        progress.activity("loading the encoder")
        progress.stage_skipped(Stage.WARMUP)
        progress.activity("evaluating")
        for stage, best in ((Stage.TEACHER, 2), (Stage.TRANSFER, 0)):
            progress.stage_started(stage, 4)
            progress.activity("training")
            for _ in range(3):
                progress.step(0.5)
            score = DevScore(stage, 1.0, best, 0.75, {}, improved=True)
            progress.evaluated(score)
            progress.stage_finished(stage, score)
            progress.activity("evaluating")
        progress.activity("")
    shown = [(task.fields["stage"], task.completed, task.total, task.fields["activity"]) for task in bars.tasks]
    assert shown == [
        ("prepare", 1, 1, ""),
        ("warm-up", 1, 1, "finished earlier"),
        ("teacher", 3, 3, "kept step 2"),
        ("transfer", 3, 3, "no gain on dev: kept initial weights"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [False, True])
def test_bars_are_shown_on_a_terminal_only(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", terminal)
    config = replace(tiny_config, stages=(Stage.WARMUP,))
    tiny_model[1].register_forward_hook(lambda *_: sys.stdout.write("printed meanwhile\n") and None)
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    shown = capsys.readouterr()
    assert ("warm-up" in shown.err) is terminal
    assert "printed meanwhile" in shown.out
    assert "warm-up" not in shown.out


@pytest.mark.slow
def test_progress_bars_of_libraries_are_restored(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    from transformers.utils import logging as transformers_logging

    level = logging.getLogger("bm25s").level
    transformers_logging.enable_progress_bar()
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=replace(tiny_config, stages=(Stage.WARMUP,)))
    assert transformers_logging.is_progress_bar_enabled()
    assert logging.getLogger("bm25s").level == level
