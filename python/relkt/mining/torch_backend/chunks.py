"""Sizes of chunks, from the memory of the device."""

from __future__ import annotations

import math

import torch

#: Bytes per cell of a chunk; a cell is a query and a passage. In the worst case, all cells are tied candidates.
#: Then each cell needs a score, masks, the row number of its candidate and memory for sorting.
CELL_BYTES = 128
#: Bytes per value while a row is normalised.
VALUE_BYTES = 20
#: Maximum number of bytes for a chunk.
MAX_BUDGET = 2 << 30
# Number of bytes for a chunk on a device whose free memory is unknown.
_DEFAULT_BUDGET = 256 << 20


def budget(device: torch.device) -> int:
    """Number of bytes for a chunk and its intermediate tensors."""
    if device.type != "cuda":
        return _DEFAULT_BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    # Memory that torch has reserved but not allocated is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(free // 4, MAX_BUDGET)


def chunk_shape(queries: int, dim: int, device: torch.device) -> tuple[int, int]:
    """Number of queries and passages of a chunk: half of the budget is for cells, the rest for rows."""
    half = budget(device) // 2
    cells = max(1, half // CELL_BYTES)
    rows = max(1, half // (2 * VALUE_BYTES * dim))
    block = max(1, min(queries, rows, math.isqrt(cells)))
    return block, max(1, min(rows, cells // block))
