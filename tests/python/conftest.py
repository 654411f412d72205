"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True, scope="session")
def _same_precision_on_every_processor() -> Iterator[None]:
    """Precision "auto" is float32, whatever the processor: what is compared would else be so in half the digits."""
    if find_spec("torch") is None:  # searching does without it
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False, raising=False)
        yield
