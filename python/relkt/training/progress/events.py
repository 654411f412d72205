"""Progress events of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from relkt.training.config import Stage


@dataclass(frozen=True)
class DevScore:
    """One evaluation on the development queries.

    Args:
        stage: The stage.
        epoch: Number of completed epochs of the stage, e.g. 1.5 halfway through the second; 0 before the stage.
        step: Number of completed optimizer steps of the stage.
        p1: P@1 in [0, 1], the mean over the training languages.
        metrics: Metric name (``"P@1"``, ``"MRR@10"``) -> language -> value in [0, 1].
        improved: True if ``p1`` is the highest of the stage so far.
    """

    stage: Stage
    epoch: float
    step: int
    p1: float
    metrics: dict[str, dict[str, float]]
    improved: bool


class Progress:
    """Receives the progress of a run; this base class does nothing. Override the methods of interest.

    Methods are called from the training thread, in order. An exception ends the run, which can be resumed.
    """

    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        """A stage starts, or resumes after ``done_steps`` steps. It takes at most ``total_steps`` steps."""

    def stage_skipped(self, stage: Stage) -> None:
        """A stage is skipped, because it was finished before the run was resumed."""

    def steps_planned(self, total_steps: int) -> None:
        """An epoch starts, and the stage will take at most ``total_steps`` steps.

        The number changes in the teacher stage, whose epochs depend on the negatives mined.
        """

    def activity(self, name: str) -> None:
        """The current activity: "training", "mining", "evaluating" ...; empty at the end of the run."""

    def step(self, loss: float) -> None:
        """An optimizer step is done; ``loss`` is the loss of its batch."""

    def evaluated(self, dev: DevScore) -> None:
        """The development queries were evaluated."""

    def stage_finished(self, stage: Stage, best: DevScore) -> None:
        """A stage is finished; ``best`` is the evaluation of the weights kept."""
