"""Products of float32: making them exact, how far they may be off, and what is certain nevertheless."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def error_bound(dim: int) -> float:
    """How far a cosine of the first pass can be from the score, for rows of ``dim`` values.

    With u = 2^-24, unit roundoff of float32:

    1. *Unit rows.* Norms and quotients in double precision err by at most (d + 4) 2^-53 <= 2^-35 (relative, d <= 2^17),
       rounding to float32 by u more: stored values are the unit row's times (1 + w), |w| <= u + 2^-34 < 2u. As both
       true rows have norm 1, Cauchy-Schwarz bounds what this does to their product by 2 (2u) + (2u)^2, and the sum of
       the products' absolute values by (1 + 2u)^2.
    2. *The product.* A sum of d products, in any order, with or without fused operations, errs by at most
       g (sum of the products' absolute values), g = d v / (1 - d v), v the unit roundoff of each operation (Higham,
       Accuracy and Stability of Numerical Algorithms, section 3.1). We take v = 2u, which holds however the device
       rounds, not just to nearest.
    3. *The score.* Double precision and one rounding to float32 leave it within u + 2^-34 < 2u of the true cosine.

    What is left of 2u in 1 and 3, about u each, is more than underflow can do (d 2^-125).
    """
    v = 2.0**-23
    g = dim * v / (1 - dim * v)
    return g * (1 + v) ** 2 + 2 * v + v**2 + v


def verify(exact: Tensor, approximate: Tensor, bound: float) -> None:
    """A device whose products are off by more than :func:`error_bound` must not decide anything."""
    if len(exact) == 0:
        return
    worst = float((exact.double() - approximate.double()).abs().max())
    if not worst <= bound:
        raise RuntimeError(
            f"scores: expected float32 products on {exact.device} to be exact to {bound:.3g}, as IEEE arithmetic makes "
            f"them, got one that is off by {worst:.3g}"
        )


# Limits of the first pass. All its cosines lie between -2 and 2, so cutting limits there changes no comparison and
# keeps -inf for cells that are no candidates. One step beyond what rounds to float32 is on the safe side of the limit.


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
    """Matrix products of float32 in float32: no TF32, no bfloat16, no autocast. Everything is as before afterwards."""
    # torch 2.9 keeps a setting for each operation beside the old one for all; reading the old one fails where they
    # contradict each other, so they are made to agree first.
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
            # "none" takes what holds for all operations; if that is the same, it was not set for this one.
            operation.fp32_precision = "none"
            if operation.fp32_precision != value:
                operation.fp32_precision = value
