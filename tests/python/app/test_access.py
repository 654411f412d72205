"""Tokens, sessions and logins."""

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
from relkt.app.service import SearchService

TOKEN = "a-token-that-is-long-enough"
BODY = {"question": "ice", "k": 1}


@pytest.fixture
def guarded(guarded_app: FastAPI) -> TestClient:
    """A client without a session."""
    return TestClient(guarded_app, follow_redirects=False)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer ü"],
)
@pytest.mark.parametrize(
    "path", ["/api/info", "/openapi.json", "/config", "/gradio_api/info", "/run/plots/x.png", "/assets/x.js"]
)
def test_requests_without_the_token_are_refused(guarded: TestClient, header: str | None, path: str) -> None:
    headers = {} if header is None else {"Authorization": header.encode()}
    response = guarded.get(path, headers=headers)
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "detail" in response.json()


def test_every_search_needs_the_token(guarded: TestClient) -> None:
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


def test_pages_redirect_to_the_login(guarded: TestClient) -> None:
    for path in ("/", "/docs"):
        response = guarded.get(path)
        assert (response.status_code, response.headers["location"]) == (303, "login")
    page = guarded.get("/login")
    assert page.status_code == 200
    assert TOKEN not in page.text


def test_login_and_logout(guarded: TestClient) -> None:
    wrong = guarded.post("/login", data={"token": "x"})
    assert wrong.status_code == 401
    assert "Wrong token" in wrong.text
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


def test_the_cookie_is_secure_with_https(guarded_app: FastAPI) -> None:
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
def test_weak_tokens_are_refused(service: SearchService, client_of: Callable[..., TestClient], token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: expected"):
        client_of(service, token=token)


def test_the_description_mentions_the_token(guarded: TestClient, client: TestClient) -> None:
    description = guarded.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert description["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]
