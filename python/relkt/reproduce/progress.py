"""What an experiment tells its caller while it runs."""

from __future__ import annotations

from collections.abc import Callable

from relkt.reproduce.rows import Run
from relkt.training.config import Stage
from relkt.training.progress import DevScore
from relkt.training.progress import Progress as TrainingProgress


class Progress(TrainingProgress):
    """Told about an experiment's progress; this one is silent. Override what is of interest.

    What a run does inside is told as :class:`relkt.training.Progress` says.
    """

    def runs_planned(self, total: int, finished: int) -> None:
        """The number of runs in all, and how many of them were finished before."""

    def run_started(self, run: Run) -> None:
        """A run begins, or goes on."""

    def run_finished(self, run: Run) -> None:
        """A run was measured, and its results are kept."""


class TimedProgress(TrainingProgress):
    """Passes on what a training run tells, and says when it got so far that a kill undoes no more of it.

    Args:
        to: Who is told.
        reached: Called after each dev evaluation (a checkpoint follows it) and each stage.
    """

    def __init__(self, to: TrainingProgress, reached: Callable[[], None]) -> None:
        self._to = to
        self._reached = reached

    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        """Passed on."""
        self._to.stage_started(stage, total_steps, done_steps)

    def stage_skipped(self, stage: Stage) -> None:
        """Passed on."""
        self._to.stage_skipped(stage)

    def steps_planned(self, total_steps: int) -> None:
        """Passed on."""
        self._to.steps_planned(total_steps)

    def activity(self, name: str) -> None:
        """Passed on."""
        self._to.activity(name)

    def step(self, loss: float) -> None:
        """Passed on."""
        self._to.step(loss)

    def evaluated(self, dev: DevScore) -> None:
        """Noted, and passed on."""
        self._reached()
        self._to.evaluated(dev)

    def stage_finished(self, stage: Stage, best: DevScore) -> None:
        """Noted, and passed on."""
        self._reached()
        self._to.stage_finished(stage, best)
