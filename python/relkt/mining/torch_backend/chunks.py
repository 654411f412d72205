"""How much is worked on at a time, by the memory of the device."""

from __future__ import annotations

import math

import torch

#: Bytes that one cell of a chunk (a query and a passage) takes at worst, when all cells are candidates that tie: the
#: score, masks, the row numbers of all candidates and what sorting them needs.
CELL_BYTES = 128
#: Bytes that one value takes while its row is made a unit row.
VALUE_BYTES = 20
#: Bytes for chunks at most.
MAX_BUDGET = 2 << 30
# Bytes for chunks on a device whose free memory is not known.
_DEFAULT_BUDGET = 256 << 20


def budget(device: torch.device) -> int:
    """Bytes that a chunk and what is made of it may take."""
    if device.type != "cuda":
        return _DEFAULT_BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps for itself and does not use at the moment is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(free // 4, MAX_BUDGET)


def chunk_shape(queries: int, dim: int, device: torch.device) -> tuple[int, int]:
    """Queries and passages of a chunk: half of the budget is for its cells, the rest for rows."""
    half = budget(device) // 2
    cells = max(1, half // CELL_BYTES)
    rows = max(1, half // (2 * VALUE_BYTES * dim))
    block = max(1, min(queries, rows, math.isqrt(cells)))
    return block, max(1, min(rows, cells // block))
