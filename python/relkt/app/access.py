"""Who may ask: a token for programs, a login with the same token for people."""

from __future__ import annotations

import hmac
import secrets
import time

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from relkt.app.rendering import login_page

MIN_TOKEN = 16
"""The fewest characters of a token: shorter ones can be found by trying."""
COOKIE = "relkt_session"
SESSION_SECONDS = 12 * 60 * 60
MAX_SESSIONS = 1000
_OPEN = ("/login", "/api/health", "/favicon.ico")
"""What needs no token."""
_PAGES = ("/", "/docs")
"""Where whoever has none is led to the login; elsewhere they get an error."""


def check_token(token: str) -> None:
    """Check that a token is fit to keep others out.

    Raises:
        ValueError: If it is short, or has characters that a header cannot hold.
    """
    if len(token) < MIN_TOKEN:
        raise ValueError(f"token: expected at least {MIN_TOKEN} characters, got {len(token)}")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError("token: expected ASCII letters, digits and signs without spaces")


class Access:
    """The token and the sessions of those who logged in with it.

    Args:
        token: As :func:`check_token` wants it.
    """

    def __init__(self, token: str) -> None:
        check_token(token)
        self._token = token
        self._sessions: dict[str, float] = {}

    def is_token(self, text: str) -> bool:
        """Whether a text is the token, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), self._token.encode())

    def open_session(self) -> str:
        """A new session's secret."""
        now = time.monotonic()
        self._sessions = {key: end for key, end in self._sessions.items() if end > now}
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]  # the oldest
        key = secrets.token_urlsafe(32)
        self._sessions[key] = now + SESSION_SECONDS
        return key

    def close_session(self, key: str | None) -> None:
        """End a session, if there is one."""
        self._sessions.pop(key or "", None)

    def allows(self, connection: HTTPConnection) -> bool:
        """Whether a request carries the token, or belongs to a session."""
        scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(credentials.strip()):
            return True
        # A secret of 256 random bits: looking it up tells nothing about others.
        return self._sessions.get(connection.cookies.get(COOKIE, ""), 0.0) > time.monotonic()


class RequireAccess:
    """Lets through what carries the token or a session; leads to the login, or answers 401, otherwise.

    Args:
        app: What is behind it.
        access: Who may ask.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan" or scope["path"] in _OPEN or self._access.allows(HTTPConnection(scope)):
            await self._app(scope, receive, send)
            return
        response: Response = JSONResponse(
            {"detail": "this server needs its token: Authorization: Bearer TOKEN"},
            status_code=401,
            headers={"WWW-Authenticate": "Bearer"},
        )
        if scope["path"] in _PAGES and scope["method"] == "GET":
            response = RedirectResponse("login", status_code=303)
        await response(scope, receive, send)


def login_router(access: Access) -> APIRouter:
    """The routes of the login.

    Args:
        access: Who may ask.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    def show() -> HTMLResponse:
        return HTMLResponse(login_page(failed=False))

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        token = (await request.form()).get("token")
        if not isinstance(token, str) or not access.is_token(token.strip()):
            return HTMLResponse(login_page(failed=True), status_code=401)
        response = RedirectResponse("./", status_code=303)
        response.set_cookie(
            COOKIE,
            access.open_session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response

    @router.post("/logout")
    def log_out(request: Request) -> Response:
        access.close_session(request.cookies.get(COOKIE))
        response = RedirectResponse("login", status_code=303)
        response.delete_cookie(COOKIE)
        return response

    return router
