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
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

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
        text = worded(" ".join(_message(error).split()))
        err.print(f"[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED if isinstance(error, failures) else BAD_INPUT) from None


def _message(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.errno is not None and error.filename is not None:
        return f"{error.filename}: file not found"  # the system's own words are longer, and name it twice
    return str(error)


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
