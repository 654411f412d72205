"""Fixtures of the tests of ``mine_hard_negatives``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).parent))  # for hard_negative_cases
from hard_negative_cases import BagOfWords


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    prompts = {"query": "find ", "document": "text ", "other": "another prompt "}
    return SentenceTransformer(modules=[BagOfWords()], device="cpu", prompts=prompts, similarity_fn_name="cosine")
