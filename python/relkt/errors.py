"""Errors about one argument.

Their messages are data, so that the command line can show its options in place of Python's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """A parameter that a message mentions.

    Args:
        name: Its name in Python, e.g. ``overwrite``; a field of a parameter is written with dots, e.g.
            ``conditions.margin``.
        value: The value to pass, as Python code, e.g. ``True``; empty if the message mentions no value.
    """

    name: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.value}" if self.value else self.name


Text = str | Sequence[object]
"""A text, or its parts, some of which are a :class:`Parameter`."""


class ArgumentMessage(Exception):
    """Base class of the errors about an argument; each of them also has a built-in base class.

    ``str(error)`` is ``name: expected EXPECTED, got GOT; HINT``.

    Args:
        name: The parameter, e.g. ``num_negatives`` or ``conditions.margin``; several are separated by commas.
        expected: The values that the parameter takes, e.g. ``an integer of at least 1``.
        got: The value given.
        problem: The whole sentence, if the problem is not one wrong value; replaces ``expected`` and ``got``.
        hint: How the user can solve the problem.

    Attributes:
        name: The parameter.
    """

    def __init__(
        self, name: str, expected: Text = "", got: object = None, *, problem: Text = "", hint: Text = ""
    ) -> None:
        self._set(
            name,
            (
                *(_parts(problem) if problem else ("expected ", *_parts(expected), f", got {got}")),
                *(("; ", *_parts(hint)) if hint else ()),
            ),
        )

    def render(self, spell: Callable[[Parameter], str]) -> str:
        """The message, with each parameter spelt by ``spell``, e.g. ``--overwrite`` for ``overwrite=True``."""
        names = ", ".join(spell(Parameter(name)) for name in self.name.split(", "))
        parts = (spell(part) if isinstance(part, Parameter) else str(part) for part in self._message)
        return f"{names}: {''.join(parts)}"

    def _set(self, name: str, message: tuple[object, ...]) -> None:
        self.name = name
        self._message = message
        super().__init__(self.render(str))

    # An exception is copied by calling its class with its message alone, which does not fit `__init__`.
    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.name, self._message)


class ArgumentError(ArgumentMessage, ValueError):
    """An argument has a value that relkt cannot use."""


class ArgumentTypeError(ArgumentMessage, TypeError):
    """An argument has a type that relkt cannot use."""


class ArgumentExistsError(ArgumentMessage, FileExistsError):
    """An argument names a file or folder that exists and is not overwritten."""


class ArgumentNotFoundError(ArgumentMessage, FileNotFoundError):
    """An argument names a file or folder that does not exist."""


class ArgumentOSError(ArgumentMessage, OSError):
    """An argument names something that cannot be read or reached."""


def _parts(text: Text) -> Sequence[object]:
    return (text,) if isinstance(text, str) else text


def _restored(error_type: type[ArgumentMessage], name: str, message: tuple[object, ...]) -> ArgumentMessage:
    error = error_type.__new__(error_type)
    error._set(name, message)
    return error
