"""Mixed precision stays inside the training steps: neither evaluation nor mining, nor the caller's model, has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

# Accelerate puts a wrapped ``forward`` into the module's own dictionary, and the former one beside it.
_FORWARD, _FORMER = "forward", "_original_forward"


@contextmanager
def original_forward(model: nn.Module) -> Iterator[None]:
    """Run a model that is being trained in mixed precision as it is without.

    Args:
        model: The model; nothing is done to one that Accelerate has not wrapped.
    """
    wrapped = {name: model.__dict__[name] for name in (_FORWARD, _FORMER) if name in model.__dict__}
    if _FORMER in wrapped:
        del model.__dict__[_FORMER]
        model.__dict__[_FORWARD] = wrapped[_FORMER]
    try:
        yield
    finally:
        model.__dict__.update(wrapped)


@contextmanager
def restored_forward(model: nn.Module) -> Iterator[None]:
    """Afterwards a model has the ``forward`` it had before, whatever a trainer put in its place."""
    before = {name: model.__dict__[name] for name in (_FORWARD, _FORMER) if name in model.__dict__}
    try:
        yield
    finally:
        for name in (_FORWARD, _FORMER):
            model.__dict__.pop(name, None)
        model.__dict__.update(before)
