"""Errors about one argument, as data: the command line renders them with its options instead of editing messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """A parameter that a message mentions.

    Args:
        name: Its name in Python, e.g. ``overwrite``.
        value: The value to pass, as it is written in Python, e.g. ``True``; empty if the message names no value.
    """

    name: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.value}" if self.value else self.name


Text = str | Sequence[str | Parameter]
"""A text, or its parts, where it mentions parameters."""


class ArgumentError(ValueError):
    """An argument has a value that relkt cannot use.

    ``str(error)`` is ``name: expected EXPECTED, got GOT; HINT``.

    Args:
        name: The parameter, e.g. ``num_negatives``.
        expected: What the parameter takes, e.g. ``an integer of at least 1``.
        got: The value given.
        problem: The whole sentence, for the rare problem that is not about one value; replaces ``expected``, ``got``.
        hint: What the user can do about it.

    Attributes:
        name: The parameter.
    """

    def __init__(
        self, name: str, expected: Text = "", got: object = None, *, problem: Text = "", hint: Text = ""
    ) -> None:
        self.name = name
        self._parts: list[str | Parameter] = [
            *(_parts(problem) if problem else ["expected ", *_parts(expected), f", got {got}"]),
            *(["; ", *_parts(hint)] if hint else []),
        ]
        super().__init__(self.render(str))

    def render(self, spell: Callable[[Parameter], str]) -> str:
        """The message, with every parameter written as ``spell`` says, e.g. ``--overwrite`` for ``overwrite=True``."""
        parts = (part if isinstance(part, str) else spell(part) for part in self._parts)
        return f"{spell(Parameter(self.name))}: {''.join(parts)}"


def _parts(text: Text) -> Sequence[str | Parameter]:
    return (text,) if isinstance(text, str) else text
