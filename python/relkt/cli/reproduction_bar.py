"""The progress bar of ``relkt reproduce``."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from relkt.cli.console import err
from relkt.reproduce.progress import Progress
from relkt.reproduce.rows import Run
from relkt.training.config import Stage
from relkt.training.progress import DevScore
from relkt.training.progress.bars import STAGE_NAMES


class ReproductionBar(Progress):
    """Counts runs, advances within a run with the steps of its stages, and shows the current activity.

    Args:
        bars: The display, see :meth:`bars`.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None, run="", inside="", activity="")
        self._finished = 0
        self._stages: tuple[Stage, ...] = ()
        self._stage = self._steps = self._total_steps = 0
        self._dev = ""

    @staticmethod
    def bars() -> Bars:
        """A display for this bar; use it as a context manager."""
        return Bars(
            SpinnerColumn(finished_text="[green]✓[/]"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            TextColumn("[bold]{task.fields[run]}[/]"),
            TextColumn("[cyan]{task.fields[inside]}[/]"),
            TextColumn("[dim]{task.fields[activity]}[/]"),
            console=err,
        )

    def runs_planned(self, total: int, finished: int) -> None:
        """Sets the number of runs."""
        self._finished = finished
        self._bars.update(self._task, total=total, completed=finished, activity="")

    def run_started(self, run: Run) -> None:
        """Shows the name of the run."""
        self._stages = run.row.config.stages if run.row.config is not None else ()
        self._stage = self._steps = self._total_steps = 0
        name = run.row.name if run.seed is None else f"{run.row.name}, seed {run.seed}"
        self._bars.update(self._task, run=name, inside="", activity="")

    def run_finished(self, run: Run) -> None:  # noqa: ARG002
        """Counts the run."""
        self._finished += 1
        self._bars.update(self._task, completed=self._finished, run="", inside="", activity="")

    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        """Shows the name of the stage."""
        self._stage, self._steps, self._total_steps = self._stages.index(stage), done_steps, total_steps
        self._dev = ""
        self._move()

    def stage_skipped(self, stage: Stage) -> None:
        """Advances past the stage."""
        self.stage_started(stage, 1, 1)

    def steps_planned(self, total_steps: int) -> None:
        """Corrects the length of the stage."""
        self._total_steps = total_steps
        self._move()

    def activity(self, name: str) -> None:
        """Shows the current activity."""
        self._bars.update(self._task, activity=name)

    def step(self, loss: float) -> None:  # noqa: ARG002
        """Counts the step."""
        self._steps += 1
        self._move()

    def evaluated(self, dev: DevScore) -> None:
        """Shows the dev score."""
        self._dev = f", dev P@1 {dev.p1:.3f}"
        self._move()

    def stage_finished(self, stage: Stage, best: DevScore) -> None:  # noqa: ARG002
        """Advances to the end of the stage, also if it stopped early."""
        self._steps = self._total_steps
        self._move()

    def _move(self) -> None:
        share = min(self._steps / max(self._total_steps, 1), 1.0)
        # Just below 1: the run counts as finished only after its evaluation.
        inside = min((self._stage + share) / len(self._stages), 0.99)
        text = f"{STAGE_NAMES[self._stages[self._stage]]} {self._steps}/{self._total_steps}{self._dev}"
        self._bars.update(self._task, completed=self._finished + inside, inside=text)
