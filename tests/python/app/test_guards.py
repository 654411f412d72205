"""The middleware: which requests pass, and the headers of responses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from starlette.testclient import TestClient

from relkt.app.server import create_app
from relkt.app.service import SearchService


@pytest.mark.parametrize("size", [401, 100_000])
@pytest.mark.parametrize("is_declared", [True, False])
def test_large_bodies_are_refused(
    strict: SearchService, client_of: Callable[..., TestClient], size: int, is_declared: bool
) -> None:
    body = b'{"question": "' + b"x" * size + b'"}'
    # A body from an iterator has no Content-Length.
    content = body if is_declared else iter([body[:50], body[50:]])
    response = client_of(strict).post("/api/search", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json() == {"detail": "body: expected at most 400 bytes"}


def test_bodies_up_to_the_limit_pass(strict: SearchService, client_of: Callable[..., TestClient]) -> None:
    body = b'{"question": "ice", "k": 1}'.ljust(400)
    content = iter([body[:10], body[10:]])
    response = client_of(strict).post("/api/search", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/queue/join",
        "/gradio_api/heartbeat/x",
        "/gradio_api/vibe-edit/",
        "/gradio_api/call/search",
        "/monitoring",
        "/redoc",
        "/nothing",
    ],
)
def test_unknown_paths_are_not_found(client: TestClient, path: str) -> None:
    for method in ("GET", "POST"):
        response = client.request(method, path)
        assert (response.status_code, response.json()) == (404, {"detail": "not found"})


def test_websockets_are_closed(client: TestClient) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/"):
        pass


@pytest.mark.parametrize("path", ["/", "/api/info", "/nothing", "/docs"])
def test_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "connect-src 'self';" in headers["Content-Security-Policy"]
    assert "http" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("host", ["192.168.1.5:7860", "[::1]:7860", "127.0.0.1:7860", "relkt.example"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_cross_origin_requests_are_refused(service, host, method):
    client = TestClient(create_app(service), base_url=f"http://{host}")
    for path in ("/config", "/api/info", "/gradio_api/run/predict"):
        answer = client.request(method, path, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    answer = client.get("/api/info", headers={"Origin": f"http://{host}"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control-")]
