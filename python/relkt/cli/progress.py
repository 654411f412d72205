"""The progress bar of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from relkt.cli.console import err


class RateColumn(ProgressColumn):
    """Items per second.

    Args:
        unit: Name of the items, e.g. ``passages``; may be empty.
    """

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = f" {unit}" if unit else ""

    def render(self, task: Task) -> Text:
        """The rate, empty until it is known."""
        speed = task.finished_speed or task.speed
        known = speed is not None and task.total is not None
        return Text(f"{speed:,.0f}{self._unit}/s" if known else "", style="progress.data.speed")


class Bar:
    """One bar: call it with the number of items finished since the last call.

    Args:
        display: Where the bar is drawn.
        description: Name of the work.
        total: Number of items; None if it is unknown.
        done: Items finished before.
    """

    def __init__(self, display: Progress, description: str, total: int | None, done: int = 0) -> None:
        self._display = display
        self._task = display.add_task(escape(description), total=total, completed=done)

    def __call__(self, finished: int) -> None:
        self._display.advance(self._task, finished)

    def restart(self, description: str, total: int | None = None, done: int = 0) -> None:
        """Restarts the bar for other work, with its own count, time and rate."""
        self._display.remove_task(self._task)
        self._task = self._display.add_task(escape(description), total=total, completed=done)


@contextmanager
def progress_bar(
    description: str, total: int | None = None, *, done: int = 0, rate: str | None = None, console: Console = err
) -> Iterator[Bar]:
    """Draws a bar until the end of the ``with`` block.

    Args:
        description: Name of the work.
        total: Number of items; None if it is unknown.
        done: Items finished before, by an interrupted run.
        rate: Name of the items in the column that shows items per second. It may be empty; None omits the column.
        console: Where the bar is drawn.
    """
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24)]
    columns += [MofNCompleteColumn(), *([] if rate is None else [RateColumn(rate)]), TimeElapsedColumn()]
    columns += [TextColumn("[dim]remaining[/]"), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, speed_estimate_period=60) as display:
        yield Bar(display, description, total, done)
