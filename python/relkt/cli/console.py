"""The consoles of the commands, and errors as one line with an exit code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import typer
from rich.console import Console
from rich.markup import escape

from relkt.errors import ArgumentMessage, Parameter

FAILED = 1
"""Exit code if the command failed with valid input."""
BAD_INPUT = 2
"""Exit code if the command cannot use its input."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""

out = Console()
"""Results."""
err = Console(stderr=True)
"""Progress, notes and errors."""


@dataclass
class Settings:
    """Options in front of the command."""

    traceback: bool = False


settings = Settings()


def print_result(text: str, *, end: str = "\n") -> None:
    """Prints plain text to standard output, without markup and without breaking lines."""
    out.print(text, markup=False, highlight=False, soft_wrap=True, end=end)


def print_note(text: str, *, style: str | None = None) -> None:
    """Prints plain text to standard error, without markup and without breaking lines."""
    err.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_warning(text: str, *, kind: str = "warning") -> None:
    """Prints plain text to standard error, after ``kind`` in colour."""
    err.print(f"[bold yellow]{kind}:[/] {escape(text)}", highlight=False, soft_wrap=True)


@contextmanager
def one_line_errors(
    interrupted: str = "",
    *,
    failures: tuple[type[Exception], ...] = (),
    options: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[None]:
    """Turns bad input into one line and exit code 2, and Ctrl-C into exit code 130.

    Args:
        interrupted: A note after Ctrl-C, e.g. how to resume.
        failures: Errors that occur with valid input; they exit with code 1.
        options: Parameter of the library -> option or argument of the command, e.g. ``{"output_format": "--format"}``;
            needed only where :func:`option_of` cannot derive the option from the name.
    """
    try:
        yield
    except KeyboardInterrupt:
        text = f"[bold]interrupted[/]{'; ' if interrupted else ''}{escape(interrupted)}"
        err.print(text, highlight=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if settings.traceback or not isinstance(error, (ArgumentMessage, ValueError, OSError, ImportError, *failures)):
            raise
        text = " ".join(_message(error, options).split())
        err.print(f"[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED if isinstance(error, failures) else BAD_INPUT) from None


def option_of(parameter: Parameter, options: Mapping[str, str] = MappingProxyType({})) -> str:
    """The command-line spelling of a parameter of the library.

    ``num_negatives`` is ``--num-negatives``, ``conditions.margin`` is ``--margin``, ``overwrite=True`` is
    ``--overwrite``, ``scores=False`` is ``--no-scores`` and ``num_negatives=5`` is ``--num-negatives 5``.

    Args:
        parameter: The parameter, with the value that a message mentions.
        options: Parameter -> option, where the spelling differs.
    """
    known = options.get(parameter.name)
    name = parameter.name.rpartition(".")[2].replace("_", "-")
    if parameter.value in ("", "True", "False"):
        return known or f"--{'no-' if parameter.value == 'False' else ''}{name}"
    return f"{known or f'--{name}'} {parameter.value}"


def _message(error: Exception, options: Mapping[str, str]) -> str:
    if isinstance(error, ArgumentMessage):
        return error.render(lambda parameter: option_of(parameter, options))
    if isinstance(error, FileNotFoundError) and error.errno is not None and error.filename is not None:
        return f"{error.filename}: file not found"  # shorter than the message of the system
    return str(error)
