"""The bar of ``relkt reproduce``: it counts runs, and advances within a run."""

import pytest
from rich.progress import Progress

from relkt.cli.reproduction_bar import ReproductionBar
from relkt.reproduce import Row, Run
from relkt.training import DevScore, Stage, TrainConfig


def test_the_bar_counts_runs_and_advances_within_them() -> None:
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
        assert task.completed < 3  # until it is evaluated
        bar.run_finished(Run(Row(name="tuned", encoder="e", config=config), 3))
        assert (task.completed, task.fields["run"]) == (3, "")
        bar.run_started(Run(Row(name="bm25"), None))
        assert (task.completed, task.fields["run"], task.fields["inside"]) == (3, "bm25", "")
