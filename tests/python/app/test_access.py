"""Tokens, logins, and what no request gets past."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from fastapi import FastAPI
from starlette.testclient import TestClient

from relkt.app import access as access_module
from relkt.app.access import COOKIE, Access
from relkt.app.server import create_app
from relkt.app.service import SearchService

TOKEN = "a-token-that-is-long-enough"
BODY = {"question": "ice", "k": 1}


@pytest.fixture
def guarded(guarded_app: FastAPI) -> TestClient:
    """Without a session."""
    return TestClient(guarded_app, follow_redirects=False)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer ü"],
)
@pytest.mark.parametrize(
    "path", ["/api/info", "/openapi.json", "/config", "/gradio_api/info", "/run/plots/x.png", "/assets/x.js"]
)
def test_nothing_without_the_token(guarded: TestClient, header: str | None, path: str) -> None:
    headers = {} if header is None else {"Authorization": header.encode()}
    response = guarded.get(path, headers=headers)
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "detail" in response.json()


def test_every_way_to_ask_needs_the_token(guarded: TestClient) -> None:
    assert guarded.post("/api/search", json=BODY).status_code == 401
    assert guarded.post("/gradio_api/run/predict", json={"data": [], "fn_index": 0}).status_code == 401
    assert guarded.post("/", json={}).status_code == 401
    guarded.cookies.set(COOKIE, "guessed")
    assert guarded.post("/api/search", json=BODY).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens_the_api(guarded: TestClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert guarded.post("/api/search", json=BODY, headers=headers).status_code == 200
    assert guarded.get("/api/info", headers=headers).status_code == 200


def test_health_is_open(guarded: TestClient) -> None:
    assert guarded.get("/api/health").json() == {"status": "ok"}


def test_pages_lead_to_the_login(guarded: TestClient) -> None:
    for path in ("/", "/docs"):
        response = guarded.get(path)
        assert (response.status_code, response.headers["location"]) == (303, "login")
    page = guarded.get("/login")
    assert page.status_code == 200
    assert TOKEN not in page.text


def test_login_and_logout(guarded: TestClient) -> None:
    wrong = guarded.post("/login", data={"token": "x"})
    assert wrong.status_code == 401
    assert "That is not the token" in wrong.text
    assert "set-cookie" not in wrong.headers
    assert guarded.post("/login", data={}).status_code == 401
    assert guarded.post("/login", files={"token": b"x"}).status_code == 401

    right = guarded.post("/login", data={"token": f" {TOKEN}\n"})
    assert (right.status_code, right.headers["location"]) == (303, "./")
    cookie = right.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert guarded.get("/api/info").status_code == 200
    assert guarded.get("/").status_code == 200

    session = dict(guarded.cookies)
    assert guarded.post("/logout").headers["location"] == "login"
    guarded.cookies.update(session)
    assert guarded.get("/api/info").status_code == 401


def test_the_cookie_stays_with_https(guarded_app: FastAPI) -> None:
    client = TestClient(guarded_app, base_url="https://testserver", follow_redirects=False)
    assert "Secure" in client.post("/login", data={"token": TOKEN}).headers["set-cookie"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(access_module.time, "monotonic", lambda: now[0])
    return now


def test_sessions_end(guarded: TestClient, clock: list[float]) -> None:
    guarded.post("/login", data={"token": TOKEN})
    clock[0] += access_module.SESSION_SECONDS - 1
    assert guarded.get("/api/info").status_code == 200
    clock[0] += 1
    assert guarded.get("/api/info").status_code == 401


def test_sessions_are_limited(clock: list[float]) -> None:
    access = Access(TOKEN)
    first = access.open_session()
    for _ in range(access_module.MAX_SESSIONS):
        access.open_session()
    assert len(access._sessions) == access_module.MAX_SESSIONS
    assert first not in access._sessions
    clock[0] += access_module.SESSION_SECONDS + 1
    access.open_session()
    assert len(access._sessions) == 1


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "a token with some spaces", "ein-schönes-langes-geheimnis"])
def test_weak_tokens(service: SearchService, client_of: Callable[..., TestClient], token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: expected"):
        client_of(service, token=token)


def test_the_description_asks_for_the_token(guarded: TestClient, client: TestClient) -> None:
    description = guarded.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert description["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


@pytest.mark.parametrize("size", [401, 100_000])
@pytest.mark.parametrize("is_declared", [True, False])
def test_large_bodies(
    strict: SearchService, client_of: Callable[..., TestClient], size: int, is_declared: bool
) -> None:
    body = b'{"question": "' + b"x" * size + b'"}'
    # What comes from an iterator has no Content-Length.
    content = body if is_declared else iter([body[:50], body[50:]])
    response = client_of(strict).post("/api/search", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json() == {"detail": "body: expected at most 400 bytes"}


def test_bodies_up_to_the_limit(strict: SearchService, client_of: Callable[..., TestClient]) -> None:
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
def test_what_is_not_served(client: TestClient, path: str) -> None:
    for method in ("GET", "POST"):
        response = client.request(method, path)
        assert (response.status_code, response.json()) == (404, {"detail": "there is nothing here"})


def test_websockets_are_closed(client: TestClient) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/"):
        pass


@pytest.mark.parametrize("path", ["/", "/api/info", "/nothing", "/docs"])
def test_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "connect-src 'self';" in headers["Content-Security-Policy"]
    assert "http" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_other_names_of_this_machine(service: SearchService, client_of: Callable[..., TestClient]) -> None:
    client = client_of(service, allowed_hosts=["localhost", "[::1]"])
    for host, status in {"localhost:7860": 200, "[::1]:7860": 200, "LOCALHOST": 200, "evil.example": 400}.items():
        assert client.get("/api/info", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("host", ["192.168.1.5:7860", "[::1]:7860", "127.0.0.1:7860", "relkt.example"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_pages_of_other_sites_may_not_ask(service, host, method):
    client = TestClient(create_app(service), base_url=f"http://{host}")
    for path in ("/config", "/api/info", "/gradio_api/run/predict"):
        answer = client.request(method, path, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    answer = client.get("/api/info", headers={"Origin": f"http://{host}"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control-")]
