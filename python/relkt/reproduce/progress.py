"""Progress of an experiment."""

from __future__ import annotations

from collections.abc import Callable

from relkt.reproduce.rows import Run
from relkt.training.config import Stage
from relkt.training.progress import DevScore
from relkt.training.progress import Progress as TrainingProgress


class Progress(TrainingProgress):
    """Receives the progress of an experiment. The methods do nothing; override those you need.

    The methods of :class:`relkt.training.Progress` are called for each training run.
    """

    def runs_planned(self, total: int, finished: int) -> None:
        """Called once, with the number of runs and the number of runs finished earlier."""

    def run_started(self, run: Run) -> None:
        """Called when a run starts or resumes."""

    def run_finished(self, run: Run) -> None:
        """Called when a run is measured and its results are saved."""


class TimedProgress(TrainingProgress):
    """Forwards the progress of a training run, and reports when its work is saved.

    Args:
        to: Receives the progress.
        reached: Called after each dev evaluation (a checkpoint follows) and after each stage.
    """

    def __init__(self, to: TrainingProgress, reached: Callable[[], None]) -> None:
        self._to = to
        self._reached = reached

    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        """Forwards."""
        self._to.stage_started(stage, total_steps, done_steps)

    def stage_skipped(self, stage: Stage) -> None:
        """Forwards."""
        self._to.stage_skipped(stage)

    def steps_planned(self, total_steps: int) -> None:
        """Forwards."""
        self._to.steps_planned(total_steps)

    def activity(self, name: str) -> None:
        """Forwards."""
        self._to.activity(name)

    def step(self, loss: float) -> None:
        """Forwards."""
        self._to.step(loss)

    def evaluated(self, dev: DevScore) -> None:
        """Calls ``reached`` and forwards."""
        self._reached()
        self._to.evaluated(dev)

    def stage_finished(self, stage: Stage, best: DevScore) -> None:
        """Calls ``reached`` and forwards."""
        self._reached()
        self._to.stage_finished(stage, best)
