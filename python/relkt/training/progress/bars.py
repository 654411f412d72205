"""Progress bars of a training run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from relkt.training.config import Stage
from relkt.training.progress.events import DevScore, Progress

STAGE_NAMES = {
    Stage.VOCABULARY: "new words",
    Stage.WARMUP: "warm-up",
    Stage.TEACHER: "teacher",
    Stage.CONTRASTIVE: "contrastive",
    Stage.DISTILLATION: "distillation",
    Stage.TRANSFER: "transfer",
}


@contextmanager
def default_progress() -> Iterator[Progress]:
    """Progress bars if standard error is a terminal, or in a notebook with ipywidgets; otherwise no output."""
    console = Console(stderr=True)
    if not (find_spec("ipywidgets") if console.is_jupyter else console.is_terminal):
        yield Progress()
        return
    with TrainingBars.bars(console) as bars:
        yield TrainingBars(bars)


class TrainingBars(Progress):
    """A bar for each stage, with the loss and the dev score.

    Args:
        bars: The display, from :meth:`bars`.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None
        self._result: str | None = None  # result of the latest stage; None until it is finished

    @staticmethod
    def bars(console: Console) -> Bars:
        """The display of the bars; enter it as a context."""
        return Bars(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("[bold]{task.fields[stage]:<9}[/]"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]:<12}"),
            TextColumn("[cyan]{task.fields[dev]:<20}[/]"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[activity]}[/]"),
            console=console,
            # Other output to the terminal appears above the bars; redirected output is not changed.
            redirect_stdout=console.is_jupyter or sys.stdout.isatty(),
        )

    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        """Adds the stage's bar."""
        self._leave()
        self._add(STAGE_NAMES[stage], total_steps, done_steps)

    def stage_skipped(self, stage: Stage) -> None:
        """Adds a full bar."""
        self._leave()
        self._add(STAGE_NAMES[stage], 1, 1)
        self._result = "finished earlier"
        self._update(activity=self._result)

    def steps_planned(self, total_steps: int) -> None:
        """Corrects the bar's length."""
        self._update(total=total_steps)

    def activity(self, name: str) -> None:
        """Shows the current activity; before the first stage, on a line of its own."""
        if self._task is None:
            self._task = self._bars.add_task("", total=None, stage="prepare", loss="", dev="", activity="")
        self._update(activity=name or self._result or "")

    def step(self, loss: float) -> None:
        """Moves the bar."""
        self._update(advance=1, loss=f"loss {loss:.3g}")

    def evaluated(self, dev: DevScore) -> None:
        """Shows the dev score."""
        self._update(dev=f"dev P@1 {dev.p1:.3f}{' best' if dev.improved else ''}")

    def stage_finished(self, stage: Stage, best: DevScore) -> None:
        """Fills the bar, even if the stage stopped early."""
        if stage is Stage.VOCABULARY:  # takes no steps
            self._result = ""
        else:
            self._result = f"kept step {best.step}" if best.step else "no gain on dev: kept initial weights"
        self._update(dev=f"dev P@1 {best.p1:.3f}", activity=self._result)
        if self._task is not None:
            task = next(task for task in self._bars.tasks if task.id == self._task)
            self._bars.update(self._task, total=max(task.completed, 1), completed=max(task.completed, 1))

    def _add(self, name: str, total: int, done: int) -> None:
        self._task = self._bars.add_task("", total=total, completed=done, stage=name, loss="", dev="", activity="")

    def _leave(self) -> None:
        """Finishes the current bar before the next one starts."""
        if self._result is None:
            self._update(total=1, completed=1, activity="")
        else:
            self._update(activity=self._result)
        self._result = None

    def _update(self, **fields: object) -> None:
        if self._task is not None:
            self._bars.update(self._task, **fields)  # type: ignore[arg-type]
