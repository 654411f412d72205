"""Mixed precision: device support and scope.

Mixed precision applies to training steps only. Evaluation, mining and the caller's model stay in float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from relkt.training.config import Precision

# Accelerate puts a wrapped ``forward`` and the original one into the module's dictionary.
_FORWARD, _ORIGINAL = "forward", "_original_forward"
_PREPARED = "_is_accelerate_prepared"
_ENVIRONMENT = "ACCELERATE_MIXED_PRECISION"
_ACCELERATE = (_FORWARD, _ORIGINAL, _PREPARED)


def is_bfloat16(precision: Precision, device: torch.device) -> bool:
    """True if the forward pass is in bfloat16.

    Args:
        precision: The configured precision. AUTO means bfloat16 only if the device has instructions for it: a processor
            without them converts back and forth, which is slower than float32.
        device: The device of the model.
    """
    if precision is not Precision.AUTO:
        return precision is Precision.BFLOAT16
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # PyTorch calls this function before it chooses bfloat16 kernels. It is private, so it may be missing.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())


@contextmanager
def original_forward(model: nn.Module) -> Iterator[None]:
    """Run a model in float32, e.g. to mine or evaluate, although it is trained in mixed precision.

    Args:
        model: The model. If Accelerate has not wrapped it, the context has no effect.
    """
    wrapped = {name: model.__dict__[name] for name in (_FORWARD, _ORIGINAL) if name in model.__dict__}
    if _ORIGINAL in wrapped:
        del model.__dict__[_ORIGINAL]
        model.__dict__[_FORWARD] = wrapped[_ORIGINAL]
    try:
        yield
    finally:
        model.__dict__.update(wrapped)


@contextmanager
def without_accelerate_wrapper(model: nn.Module) -> Iterator[None]:
    """Remove Accelerate's wrapper from a model, so that a trainer can wrap it; restore the model afterwards.

    Accelerate does not wrap a model a second time, even for another precision. Without this context, only the first
    stage would have mixed precision, and a model trained elsewhere would keep the precision it had there. The context
    also ignores the environment variable with which launchers set a precision.
    """
    configured = os.environ.pop(_ENVIRONMENT, None)
    before = {name: model.__dict__[name] for name in _ACCELERATE if name in model.__dict__}
    _remove(model)
    try:
        yield
    finally:
        _remove(model)
        model.__dict__.update(before)
        os.environ.pop(_ENVIRONMENT, None)
        if configured is not None:
            os.environ[_ENVIRONMENT] = configured


def _remove(model: nn.Module) -> None:
    # If there is no original, the ``forward`` in the dictionary is not Accelerate's.
    for name in _ACCELERATE if _ORIGINAL in model.__dict__ else (_PREPARED,):
        model.__dict__.pop(name, None)
