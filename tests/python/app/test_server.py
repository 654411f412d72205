"""The app as a whole: its hosts, its examples."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from starlette.testclient import TestClient

from relkt.app.service import SearchService


def test_only_allowed_hosts_are_answered(service: SearchService, client_of: Callable[..., TestClient]) -> None:
    client = client_of(service, allowed_hosts=["localhost", "[::1]"])
    for host, status in {"localhost:7860": 200, "[::1]:7860": 200, "LOCALHOST": 200, "evil.example": 400}.items():
        assert client.get("/api/info", headers={"Host": host}).status_code == status


def test_blank_examples_are_refused(service: SearchService, client_of: Callable[..., TestClient]) -> None:
    with pytest.raises(ValueError, match="examples: expected questions of at most 1,000 characters, got ' '"):
        client_of(service, examples=["Why?", " "])
