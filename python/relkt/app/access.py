"""Access control: programs send a token, people log in with the same token."""

from __future__ import annotations

import hmac
import secrets
import time

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from relkt.app.guards import HttpMiddleware
from relkt.app.rendering import login_page
from relkt.errors import ArgumentError

MIN_TOKEN = 16
"""Minimum length of a token; shorter tokens can be guessed."""
COOKIE = "relkt_session"
SESSION_SECONDS = 12 * 60 * 60
MAX_SESSIONS = 1000
_OPEN = ("/login", "/api/health", "/favicon.ico")
"""Paths that need no token."""
_PAGES = ("/", "/docs")
"""Paths on which a request without access is redirected to the login; on other paths, it is answered with 401."""


def check_token(token: str) -> None:
    """Check that a token is long enough and fits into a header.

    Raises:
        ArgumentError: If the token is too short, or has characters that a header cannot hold.
    """
    if len(token) < MIN_TOKEN:
        raise ArgumentError("token", f"at least {MIN_TOKEN} characters", len(token))
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ArgumentError("token", "ASCII letters, digits and signs without spaces", "other characters")


class Access:
    """The token, and the sessions of users who logged in with it.

    Args:
        token: The token; see :func:`check_token`.
    """

    def __init__(self, token: str) -> None:
        check_token(token)
        self._token = token
        self._sessions: dict[str, float] = {}

    def is_token(self, text: str) -> bool:
        """True if a text equals the token; takes constant time."""
        return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), self._token.encode())

    def open_session(self) -> str:
        """Start a session; returns its secret."""
        now = time.monotonic()
        self._sessions = {key: end for key, end in self._sessions.items() if end > now}
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]  # the oldest
        key = secrets.token_urlsafe(32)
        self._sessions[key] = now + SESSION_SECONDS
        return key

    def close_session(self, key: str | None) -> None:
        """End a session, if it exists."""
        self._sessions.pop(key or "", None)

    def allows(self, connection: HTTPConnection) -> bool:
        """True if a request has the token or belongs to a session."""
        scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(credentials.strip()):
            return True
        # A secret has 256 random bits, so the duration of a lookup does not help to guess it.
        return self._sessions.get(connection.cookies.get(COOKIE, ""), 0.0) > time.monotonic()


class RequireAccess(HttpMiddleware):
    """Redirects a request that has neither the token nor a session to the login, or answers it with 401.

    Args:
        app: The wrapped app.
        access: The token and the sessions.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        super().__init__(app)
        self._access = access

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        if scope["path"] in _OPEN or self._access.allows(HTTPConnection(scope)):
            await self._app(scope, receive, send)
            return
        response: Response = JSONResponse(
            {"detail": "this server requires a token: Authorization: Bearer TOKEN"},
            status_code=401,
            headers={"WWW-Authenticate": "Bearer"},
        )
        if scope["path"] in _PAGES and scope["method"] == "GET":
            response = RedirectResponse("login", status_code=303)
        await response(scope, receive, send)


def login_router(access: Access) -> APIRouter:
    """The routes of the login.

    Args:
        access: The token and the sessions.
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
