"""Fixtures of the tests of re-mining."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from datasets import Dataset

sys.path.insert(0, str(Path(__file__).parent))  # for remine_cases


@pytest.fixture(scope="module")
def pairs(data_of):
    data = data_of()
    text_of = {passage.id: passage for passage in data.passages}
    rows = [
        {"anchor": q.text, "positive": text_of[p].text, "document": text_of[p].document}
        for q in data.queries
        if q.language != "th"
        for p in data.positives(q.id)
    ]
    return Dataset.from_list(rows[::2])
