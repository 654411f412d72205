"""Limits of a server, and a lock with a bounded queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Args:
        question_characters: Length of the longest question.
        results: Largest number of results per question.
        body_bytes: Size of the largest request body.
        waiting: Number of questions that may wait while another is answered; further questions are refused.
        connections: Number of open connections.
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
    """Too many questions are waiting."""


class BoundedLock:
    """A lock with a bounded queue.

    Args:
        waiting: Number of threads that may wait.
    """

    def __init__(self, waiting: int) -> None:
        self._places = threading.BoundedSemaphore(waiting + 1)
        self._lock = threading.Lock()
        self._waiting = waiting

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the lock, and hold it.

        Raises:
            BusyError: If the queue is full.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError(f"{self._waiting} questions are already waiting; please try again in a moment")
        try:
            with self._lock:
                yield
        finally:
            self._places.release()
