"""What all commands share: the console, one-line errors with exit codes, progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from relkt.training.progress import DevScore
from relkt.training.progress import Progress as TrainingProgress
from relkt.training.stage_config import Stage

FAILED = 1
"""Exit code of a command that was given good input, and could not do with it what it is for."""
BAD_INPUT = 2
"""Exit code of a command that was given something it cannot use."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""

out = Console()
"""Results."""
err = Console(stderr=True)
"""Progress, notes and errors."""

STAGE_NAMES = {
    Stage.VOCABULARY: "new words",
    Stage.WARMUP: "warm-up",
    Stage.TEACHER: "teacher",
    Stage.CONTRASTIVE: "contrastive",
    Stage.DISTILLATION: "distillation",
    Stage.TRANSFER: "transfer",
}


@dataclass
class Settings:
    """Options that stand before the command."""

    traceback: bool = False


settings = Settings()


@contextmanager
def one_line_errors(
    interrupted: str = "",
    *,
    failures: tuple[type[Exception], ...] = (),
    worded: Callable[[str], str] = str,
) -> Iterator[None]:
    """Turns bad input into one line and exit code 2, and Ctrl-C into exit code 130.

    Args:
        interrupted: What to say after Ctrl-C, e.g. how to go on.
        failures: Errors that are no bad input, which end with exit code 1.
        worded: The library's message in the words of the command, such as its options for parameters.
    """
    try:
        yield
    except KeyboardInterrupt:
        text = f"[bold]interrupted[/]{'; ' if interrupted else ''}{escape(interrupted)}"
        err.print(text, highlight=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if settings.traceback or not isinstance(error, (ValueError, OSError, ImportError, *failures)):
            raise
        text = worded(" ".join(str(error).split()))
        err.print(f"[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED if isinstance(error, failures) else BAD_INPUT) from None


@contextmanager
def counting(description: str, total: int) -> Iterator[TaskProgress]:
    """A bar that counts to ``total``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as bar:
        yield TaskProgress(bar, bar.add_task(description, total=total))


@dataclass(frozen=True)
class TaskProgress:
    """One bar: call it with the number of items finished since the last call."""

    bar: Progress
    task: TaskID

    def __call__(self, finished: int) -> None:
        self.bar.advance(self.task, finished)


class TrainingBars(TrainingProgress):
    """A bar for each stage, with the loss and the dev score.

    Args:
        bars: Where to draw.
    """

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    @staticmethod
    def bars() -> Progress:
        """The display that belongs to it, to be entered as a context."""
        return Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("[bold]{task.fields[stage]:<9}[/]"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]:<12}"),
            TextColumn("[cyan]{task.fields[dev]:<20}[/]"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[activity]}[/]"),
            console=err,
        )

    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        """Adds the stage's bar."""
        self._finish_preparation()
        self._add(STAGE_NAMES[stage], total_steps, done_steps)

    def stage_skipped(self, stage: Stage) -> None:
        """Adds a full bar."""
        self._finish_preparation()
        self._add(STAGE_NAMES[stage], 1, 1)
        self._update(activity="finished before", dev="")

    def steps_planned(self, total_steps: int) -> None:
        """Corrects the bar's length."""
        self._update(total=total_steps)

    def activity(self, name: str) -> None:
        """Shows what is done now, before the first stage on a line of its own."""
        if self._task is None:
            self._task = self._bars.add_task("", total=None, stage="prepare", loss="", dev="", activity="")
        self._update(activity=name)

    def step(self, loss: float) -> None:
        """Moves the bar."""
        self._update(advance=1, loss=f"loss {loss:.3g}")

    def evaluated(self, dev: DevScore) -> None:
        """Shows the dev score."""
        self._update(dev=f"dev P@1 {dev.p1:.3f}{' best' if dev.improved else ''}")

    def stage_finished(self, stage: Stage, best: DevScore) -> None:  # noqa: ARG002
        """Fills the bar, also when the stage stopped early."""
        self._update(dev=f"dev P@1 {best.p1:.3f}", activity=f"kept step {best.step}")
        if self._task is not None:
            task = next(task for task in self._bars.tasks if task.id == self._task)
            self._bars.update(self._task, total=max(task.completed, 1), completed=max(task.completed, 1))

    def _add(self, name: str, total: int, done: int) -> None:
        self._task = self._bars.add_task("", total=total, completed=done, stage=name, loss="", dev="", activity="")

    def _finish_preparation(self) -> None:
        if self._task is not None:
            self._update(total=1, completed=1, activity="")

    def _update(self, **fields: object) -> None:
        if self._task is not None:
            self._bars.update(self._task, **fields)  # type: ignore[arg-type]
