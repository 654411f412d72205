"""The passes over all passages that answer a call."""

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
    """The results of a call, for each of its windows, in blocks that fit the device."""
    size = len(call.queries)
    block, stretch = chunk_shape(size, call.queries.dim, call.queries.device)
    members = np.arange(size, dtype=np.int64)
    with exact_products(call.queries.device):
        blocks = [_mine_block(Block(call, members[start : start + block]), stretch) for start in range(0, size, block)]
    return [_joined(found) for found in zip(*blocks, strict=True)]


def _mine_block(block: Block, stretch: int) -> list[Found]:
    """The results of some queries, ``stretch`` passages at a time."""
    call = block.call
    best = [Best(block, window) for window in call.windows]
    refused = torch.zeros(block.size, dtype=torch.bool, device=block.device)
    for start in range(0, len(block.passages), stretch):
        unit = block.passages.unit(start, start + stretch)
        scores = block.scores(unit, start)
        for one in best:
            one.count_too_similar(scores, start)
        block.mask_excluded(scores, start)
        if call.limit is not None and len(block.positives.queries) > 0:
            wanted = torch.zeros(scores.shape, dtype=torch.bool, device=block.device)
            for one in best:
                wanted |= one.candidates(scores)
            refused |= block.mask_near_positives(scores, wanted, unit, start, call.limit)
        for one in best:
            one.add(scores, start)
    found = [one.found() for one in best]
    near = [torch.zeros(block.size, dtype=torch.int64, device=block.device) for _ in best]
    if bool(refused.any()):
        _count_near(block, stretch, refused.nonzero(as_tuple=True)[0], found, near)
    return [
        (rows.cpu().numpy(), scores.cpu().numpy(), one.too_similar.cpu().numpy(), count.cpu().numpy())
        for one, (rows, scores, _), count in zip(best, found, near, strict=True)
    ]


def _count_near(
    block: Block, stretch: int, which: Tensor, found: list[tuple[Tensor, Tensor, Tensor]], near: list[Tensor]
) -> None:
    """Sets near_positive for the queries ``which`` of a block, in a second pass.

    What ranks before the last result and is inside the window was either returned or refused as too near to a positive.
    """
    block = Block(block.call, block.members[which.cpu().numpy()])
    ends = [
        End(block, window, *(tensor[which] for tensor in one))
        for window, one in zip(block.call.windows, found, strict=True)
    ]
    for start in range(0, len(block.passages), stretch):
        scores = block.scores(block.passages.unit(start, start + stretch), start)
        block.mask_excluded(scores, start)
        for end in ends:
            end.count(scores, start)
    for end, count in zip(ends, near, strict=True):
        count[which] = end.not_returned()


def _joined(blocks: Sequence[Found]) -> Found:
    rows, scores, too_similar, near_positive = zip(*blocks, strict=True)
    return np.concatenate(rows), np.concatenate(scores), np.concatenate(too_similar), np.concatenate(near_positive)
