"""Devices and data for the tests of the torch backend."""

import numpy as np
import pytest
import torch

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")),
]


on_devices = pytest.mark.parametrize("device", DEVICES)


def cosines(a, b):
    """(len(a), len(b)) float32: products and sums in double precision, with 16 partial sums folded in halves."""

    def dot(x, y):
        sums = np.zeros((*np.broadcast_shapes(x.shape[:-1], y.shape[:-1]), 16))
        for column in range(x.shape[-1]):
            sums[..., column % 16] += x[..., column] * y[..., column]
        while sums.shape[-1] > 1:
            half = sums.shape[-1] // 2
            sums = sums[..., :half] + sums[..., half:]
        return sums[..., 0]

    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.sqrt(dot(a, a))[:, None] * np.sqrt(dot(b, b))[None, :]
    return (dot(a[:, None], b[None]) / norms).astype(np.float32) + np.float32(0)


def csr(lists):
    """Starts and rows."""
    starts = np.cumsum([0, *map(len, lists)])
    return starts.astype(np.int64), np.array([row for rows in lists for row in rows], dtype=np.int64)
