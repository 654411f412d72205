"""One process works, all have the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

_T = TypeVar("_T")


def from_rank_0(find: Callable[[], _T]) -> _T:
    """What rank 0 finds, in every process; also its failure, so that none waits for it."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return find()
    outcome: list[Any] = [None]
    failure: Exception | None = None
    if distributed.get_rank() == 0:
        try:
            outcome = [(find(), None)]
        except Exception as error:
            failure = error
            outcome = [(None, f"{type(error).__name__}: {error}")]
    distributed.broadcast_object_list(outcome, src=0)
    if failure is not None:
        raise failure
    found, message = outcome[0]
    if message is not None:
        raise RuntimeError(f"mining failed in rank 0: {message}")
    return found  # type: ignore[no-any-return]
