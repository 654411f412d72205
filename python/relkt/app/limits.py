"""What one user may ask of a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Args:
        question_characters: The longest question.
        results: The most results of a question.
        body_bytes: The largest body of a request.
        waiting: Questions that may wait while another is answered; further ones are turned away.
        connections: Open connections.
    """

    question_characters: int = 1000
    results: int = 50
    body_bytes: int = 1 << 16
    waiting: int = 16
    connections: int = 500

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


class BusyError(RuntimeError):
    """Too many questions wait already."""


class Turns:
    """One at a time, and a line of limited length.

    Args:
        waiting: How many may wait.
    """

    def __init__(self, waiting: int) -> None:
        self._places = threading.BoundedSemaphore(waiting + 1)
        self._turn = threading.Lock()
        self._waiting = waiting

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and hold it.

        Raises:
            BusyError: If the line is full.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError(f"{self._waiting} questions are waiting already; ask again in a moment")
        try:
            with self._turn:
                yield
        finally:
            self._places.release()
