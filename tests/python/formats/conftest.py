"""Small batches for all tests of formats."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for format_cases

from format_cases import DIM


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Limits a batch to ten float32 rows, so that each test needs several batches."""
    monkeypatch.setattr("relkt.formats.batches.BATCH_BYTES", 4 * DIM * 10)
