"""Precision of products, and memory for chunks."""

import contextlib

import numpy as np
import pytest
import torch
from torch_cases import cosines, csr, on_devices

from relkt.mining.torch_backend import TorchPassages, chunks, error_bound
from relkt.mining.torch_backend.block import Block
from relkt.mining.torch_backend.products import exact_products
from relkt.mining.torch_backend.rows import Rows


@on_devices
@pytest.mark.parametrize("dim", [1, 7, 384, 2_000])
def test_error_bound_holds_and_is_tight(device, dim):
    rng = np.random.default_rng(dim)
    q, p = (torch.from_numpy(rng.standard_normal((n, dim)).astype(np.float32) + 1).to(device) for n in (64, 500))
    left, right = (Rows.checked("rows", rows) for rows in (q, p))
    with exact_products(torch.device(device)):
        first = left.unit() @ right.unit().T
    exact = cosines(q.cpu().numpy(), p.cpu().numpy())
    assert np.abs(first.cpu().numpy() - exact.astype(np.float64)).max() <= error_bound(dim)
    assert error_bound(dim) <= 2.0**-22 * (dim + 3)


@on_devices
def test_inexact_products_are_rejected(device, monkeypatch):
    scores = Block.scores
    monkeypatch.setattr(Block, "scores", lambda *arguments: scores(*arguments) * 1.001)
    p = torch.eye(3, device=device)
    with pytest.raises(RuntimeError, match=r"scores: expected float32 products on .* with an error of at most"):
        TorchPassages(p).mine(torch.eye(3), [(1, np.full(3, -np.inf), np.full(3, np.inf))], csr([[]] * 3))


def precision():
    """Torch's setting for the precision of float32 products."""
    said = []
    for read in (
        torch.get_float32_matmul_precision,
        lambda: torch.backends.cuda.matmul.allow_tf32,
        lambda: torch.backends.cuda.matmul.fp32_precision,
        lambda: torch.backends.mkldnn.matmul.fp32_precision,
    ):
        try:
            said.append(read())
        except (AttributeError, RuntimeError) as error:  # torch before 2.9; settings that contradict each other
            said.append(type(error))
    return said


@contextlib.contextmanager
def fresh_precision():
    try:
        torch.set_float32_matmul_precision("highest")
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        if hasattr(torch.backends.mkldnn, "matmul"):
            torch.backends.fp32_precision = "none"
            for backend in (torch.backends.cuda, torch.backends.mkldnn):
                backend.matmul.fp32_precision = "none"


SETTINGS = {
    "default": lambda: None,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "allow_tf32": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "operation": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "all": lambda: [
        setattr(torch.backends.cuda.matmul, "fp32_precision", "none"),
        setattr(torch.backends, "fp32_precision", "tf32"),
    ],
}


@on_devices
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("interrupted", [False, True])
def test_precision_is_full_inside_and_restored_afterwards(device, setting, interrupted, monkeypatch):
    if setting in ("operation", "all") and not hasattr(torch.backends.mkldnn, "matmul"):
        pytest.skip("torch before 2.9 has one setting only")
    inside = []
    scores = Block.scores

    def watched(*arguments):
        inside.append((precision(), torch.is_autocast_enabled(device)))
        if interrupted:
            raise KeyboardInterrupt
        return scores(*arguments)

    monkeypatch.setattr(Block, "scores", watched)
    window = (1, np.full(3, -np.inf), np.full(3, np.inf))
    with fresh_precision():
        SETTINGS[setting]()
        before = precision()
        with torch.autocast(device, dtype=torch.bfloat16):
            with contextlib.suppress(KeyboardInterrupt):
                ((rows, _, _, _),) = TorchPassages(torch.eye(3, device=device)).mine(
                    torch.eye(3), [window], csr([[]] * 3)
                )
            assert torch.is_autocast_enabled(device)
        assert precision() == before
        if setting == "all":  # not set: it still inherits the global setting
            torch.backends.fp32_precision = "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    ((seen, autocast),) = inside
    assert seen[:2] == ["highest", False]
    assert set(seen[2:]) <= {"ieee", AttributeError}
    assert not autocast
    assert interrupted or rows.tolist() == [[0], [1], [2]]


def test_cuda_budget_counts_memory_that_torch_caches(monkeypatch):
    device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1 << 30)
    assert chunks.budget(device) == 1 << 30
    block, stretch = chunks.chunk_shape(4096, 384, device)
    assert block * stretch * chunks.CELL_BYTES <= 1 << 29
    assert (block + stretch) * 384 * chunks.VALUE_BYTES <= 1 << 29
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (79 << 30, 80 << 30))
    assert chunks.budget(device) == chunks.MAX_BUDGET
