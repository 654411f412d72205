"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch and faiss are loaded: threads of several workers would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means here: each worker takes up to 5 GB."""
    asked = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    if asked:
        return int(asked)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 16 << 30
    return max(1, min(os.cpu_count() or 1, memory // (5 << 30), 4))


@pytest.fixture(autouse=True, scope="session")
def _same_precision_on_every_processor() -> Iterator[None]:
    """Precision "auto" is float32, whatever the processor: what is compared would else be so in half the digits."""
    if find_spec("torch") is None:  # searching does without it
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False, raising=False)
        yield
