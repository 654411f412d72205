"""The bars of a run, drawn into a text."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from relkt.training import DevScore, Stage
from relkt.training.progress.bars import TrainingBars


def test_each_line_says_at_the_end_what_was_kept() -> None:
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
        ("warm-up", 1, 1, "finished before"),
        ("teacher", 3, 3, "kept step 2"),
        ("transfer", 3, 3, "no better on dev: kept as it was"),
    ]
