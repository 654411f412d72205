"""What a training run tells its caller while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from relkt.training.config import Stage


@dataclass(frozen=True)
class DevScore:
    """One evaluation on the development queries.

    Args:
        stage: The stage it belongs to.
        epoch: Epochs of the stage finished, with a fraction inside an epoch; 0 before the stage.
        step: Optimizer steps of the stage finished.
        p1: P@1 in [0, 1], the mean over the languages trained.
        metrics: Metric name (``"P@1"``, ``"MRR@10"``) -> language -> value in [0, 1].
        improved: Whether ``p1`` is higher than every one of this stage before it.
    """

    stage: Stage
    epoch: float
    step: int
    p1: float
    metrics: dict[str, dict[str, float]]
    improved: bool


class Progress:
    """Told about a run's progress; this one is silent. Override what is of interest.

    Calls come from the training thread, in order; an exception raised in one ends the run, which can be resumed.
    """

    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        """A stage begins, or goes on after ``done_steps`` steps. ``total_steps`` is the most it can take."""

    def stage_skipped(self, stage: Stage) -> None:
        """A stage was finished by the run that is resumed."""

    def steps_planned(self, total_steps: int) -> None:
        """The number of steps the stage will take at most, as known at the start of an epoch.

        The teacher's changes with what it mines.
        """

    def activity(self, name: str) -> None:
        """What the run does now, in a word or two: "training", "mining", "evaluating" ...; empty at the end."""

    def step(self, loss: float) -> None:
        """One optimizer step is done; ``loss`` is that of its batch."""

    def evaluated(self, dev: DevScore) -> None:
        """The development queries were evaluated."""

    def stage_finished(self, stage: Stage, best: DevScore) -> None:
        """A stage is finished; ``best`` is the evaluation of the weights that were kept."""
