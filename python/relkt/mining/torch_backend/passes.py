"""The passes over all passages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relkt.mining.torch_backend.block import Block, MiningCall
from relkt.mining.torch_backend.chunks import chunk_shape
from relkt.mining.torch_backend.products import exact_products
from relkt.mining.torch_backend.windows import Best, End

#: Rows (b, num) int64, scores (b, num) float32, too_similar (b,) int64, near_positive (b,) int64.
Found = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


def mine(call: MiningCall) -> list[Found]:
    """The results of a call for each window, computed in blocks that fit the device."""
    size = len(call.queries)
    block, num_passages = chunk_shape(size, call.queries.dim, call.queries.device)
    members = np.arange(size, dtype=np.int64)
    with exact_products(call.queries.device):
        blocks = [
            _mine_block(Block(call, members[start : start + block]), num_passages) for start in range(0, size, block)
        ]
    return [_joined(found) for found in zip(*blocks, strict=True)]


def _mine_block(block: Block, num_passages: int) -> list[Found]:
    """The results of a block of queries, ``num_passages`` passages at a time."""
    call = block.call
    best = [Best(block, window) for window in call.windows]
    rejected = torch.zeros(block.size, dtype=torch.bool, device=block.device)
    for start in range(0, len(block.passages), num_passages):
        unit = block.passages.unit(start, start + num_passages)
        scores = block.scores(unit, start)
        for window_best in best:
            window_best.count_too_similar(scores, start)
        block.mask_excluded(scores, start)
        if call.limit is not None and len(block.positives.queries) > 0:
            wanted = torch.zeros(scores.shape, dtype=torch.bool, device=block.device)
            for window_best in best:
                wanted |= window_best.candidates(scores)
            rejected |= block.mask_near_positives(scores, wanted, unit, start, call.limit)
        for window_best in best:
            window_best.add(scores, start)
    found = [window_best.found() for window_best in best]
    near = [torch.zeros(block.size, dtype=torch.int64, device=block.device) for _ in best]
    if bool(rejected.any()):
        _count_near(block, num_passages, rejected.nonzero(as_tuple=True)[0], found, near)
    return [
        (rows.cpu().numpy(), scores.cpu().numpy(), window_best.too_similar.cpu().numpy(), count.cpu().numpy())
        for window_best, (rows, scores, _), count in zip(best, found, near, strict=True)
    ]


def _count_near(
    block: Block, num_passages: int, which: Tensor, found: list[tuple[Tensor, Tensor, Tensor]], near: list[Tensor]
) -> None:
    """Sets near_positive for the block's queries ``which``, in a second pass.

    Each candidate inside the window that ranks before the last result was either returned or rejected as a
    near-duplicate. So near_positive is the number of such candidates that were not returned.
    """
    block = Block(block.call, block.members[which.cpu().numpy()])
    ends = [
        End(block, window, *(tensor[which] for tensor in one))
        for window, one in zip(block.call.windows, found, strict=True)
    ]
    for start in range(0, len(block.passages), num_passages):
        scores = block.scores(block.passages.unit(start, start + num_passages), start)
        block.mask_excluded(scores, start)
        for end in ends:
            end.count(scores, start)
    for end, count in zip(ends, near, strict=True):
        count[which] = end.not_returned()


def _joined(blocks: Sequence[Found]) -> Found:
    rows, scores, too_similar, near_positive = zip(*blocks, strict=True)
    return np.concatenate(rows), np.concatenate(scores), np.concatenate(too_similar), np.concatenate(near_positive)
