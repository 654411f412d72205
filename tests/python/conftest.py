"""Settings of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Set before torch and faiss load: several workers with several threads each would slow each other down.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Number of workers for ``-n auto``: one per core, at most four, with 5 GB of memory each."""
    asked = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    if asked:
        return int(asked)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 16 << 30
    return max(1, min(os.cpu_count() or 1, memory // (5 << 30), 4))


@pytest.fixture(autouse=True, scope="session")
def _same_precision_on_every_processor() -> Iterator[None]:
    """Let precision "auto" mean float32 on every processor, since results are compared to float32's accuracy."""
    if find_spec("torch") is None:  # search does not need torch
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False, raising=False)
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Lets idle workers take tests from busy ones: slow tests are neighbours, so one worker may get many."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
