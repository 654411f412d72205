"""Mixed precision: whether the device has it, and that it stays inside the training steps.

Neither evaluation nor mining, nor the caller's model, has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from relkt.training.config import Precision

# Accelerate puts a wrapped ``forward`` into the module's own dictionary, and the former one beside it.
_FORWARD, _FORMER = "forward", "_original_forward"
_PREPARED = "_is_accelerate_prepared"
_ENVIRONMENT = "ACCELERATE_MIXED_PRECISION"
_ACCELERATE = (_FORWARD, _FORMER, _PREPARED)


def is_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether the forward pass is in bfloat16.

    Args:
        precision: What was asked for. AUTO is bfloat16 where the device multiplies in it: without the instructions,
            a processor converts to and fro and is slower than in float32.
        device: Where the model is.
    """
    if precision is not Precision.AUTO:
        return precision is Precision.BFLOAT16
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # PyTorch's own question before it chooses bfloat16 kernels; an older or newer release may have no such function.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())


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
def prepared_anew(model: nn.Module) -> Iterator[None]:
    """Let a trainer prepare a model as if it were the model's first; afterwards the model is as it was before.

    Accelerate leaves a model alone that it has prepared once, whatever its precision was then: without this all stages
    but the first would be without mixed precision, and a model that was trained elsewhere would bring its own. Nor
    does the environment choose one, as it does where a launcher was told to.
    """
    asked = os.environ.pop(_ENVIRONMENT, None)
    before = {name: model.__dict__[name] for name in _ACCELERATE if name in model.__dict__}
    _remove(model)
    try:
        yield
    finally:
        _remove(model)
        model.__dict__.update(before)
        os.environ.pop(_ENVIRONMENT, None)
        if asked is not None:
            os.environ[_ENVIRONMENT] = asked


def _remove(model: nn.Module) -> None:
    # A ``forward`` without a former one beside it is somebody else's.
    for name in _ACCELERATE if _FORMER in model.__dict__ else (_PREPARED,):
        model.__dict__.pop(name, None)
