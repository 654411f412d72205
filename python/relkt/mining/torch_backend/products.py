"""Float32 products: full precision, a bound on their error, and limits that respect the bound."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def error_bound(dim: int) -> float:
    """Maximum difference between a cosine of the first pass and the exact score, for rows of ``dim`` values.

    With u = 2^-24, the unit roundoff of float32:

    1. *Unit rows.* Norms and quotients in double precision have a relative error of at most (d + 4) 2^-53 <= 2^-35 for
       d <= 2^17; rounding to float32 adds u. So a stored value is the unit row's value times (1 + w), with
       |w| <= u + 2^-34 < 2u. Both true rows have norm 1. By Cauchy-Schwarz, the error of their product is at most
       2 (2u) + (2u)^2, and the sum of the products' absolute values is at most (1 + 2u)^2.
    2. *The product.* A sum of d products, in any order, with or without fused operations, has an error of at most g
       times the sum of the products' absolute values. Here g = d v / (1 - d v), and v is the unit roundoff of each
       operation (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). v = 2u covers any rounding mode
       of the device.
    3. *The score.* It is computed in double precision and rounded to float32. Both steps together have an error of at
       most u + 2^-34 < 2u.

    The bounds 2u in 1 and in 3 leave a slack of about u each, which covers underflow (d 2^-125).
    """
    v = 2.0**-23
    g = dim * v / (1 - dim * v)
    return g * (1 + v) ** 2 + 2 * v + v**2 + v


def verify(exact: Tensor, approximate: Tensor, bound: float) -> None:
    """Raises a RuntimeError if a device's products differ from the exact ones by more than ``bound``."""
    if len(exact) == 0:
        return
    worst = float((exact.double() - approximate.double()).abs().max())
    if not worst <= bound:
        raise RuntimeError(
            f"scores: expected float32 products on {exact.device} with an error of at most {bound:.3g}, as in IEEE "
            f"arithmetic, got an error of {worst:.3g}"
        )


# Limits of the first pass. The cosines of this pass lie between -2 and 2, so clamping the limits changes no comparison,
# and -inf still marks cells that are not candidates. Rounding to float32 may move a limit either way; the next float32
# beyond the rounded limit is on the safe side.


def under(limit: Tensor) -> Tensor:
    """A float32 below ``limit``."""
    limit = limit.clamp(-2, 2).float()
    return torch.nextafter(limit, torch.full_like(limit, -math.inf))


def over(limit: Tensor) -> Tensor:
    """A float32 above ``limit``."""
    limit = limit.clamp(-2, 2).float()
    return torch.nextafter(limit, torch.full_like(limit, math.inf))


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Computes float32 matrix products without TF32, bfloat16 and autocast; restores all settings at the end."""
    # Besides the old global setting, torch 2.9 has a setting for each operation. Reading the global setting fails if it
    # contradicts the settings of the operations, so these are set first.
    operations = [
        backend.matmul
        for backend in (torch.backends.cuda, torch.backends.mkldnn)
        if hasattr(backend, "matmul") and hasattr(backend.matmul, "fp32_precision")
    ]
    before = [operation.fp32_precision for operation in operations]
    precision = None
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if precision is not None:
            torch.set_float32_matmul_precision(precision)
        for operation, value in zip(operations, before, strict=True):
            # "none" makes the operation inherit the global setting. If the inherited value equals the old value, the
            # operation needs no setting of its own.
            operation.fp32_precision = "none"
            if operation.fp32_precision != value:
                operation.fp32_precision = value
