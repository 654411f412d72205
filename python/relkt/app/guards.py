"""ASGI middleware: paths, body size, origin, headers."""

from __future__ import annotations

from collections import deque
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SERVED = frozenset(
    {
        *("/", "/login", "/logout", "/docs", "/openapi.json"),
        *("/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
        *(f"/gradio_api/{name}" for name in ("run/predict", "info", "app_id", "startup-events", "theme.css")),
    }
)
_SERVED_BELOW = ("/api/", "/run/plots/", "/static-offline-docs/", "/assets/", "/static/")

SECURITY_HEADERS = {
    # The page's scripts are inline and use eval; the policy keeps all requests on this server.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class HttpMiddleware:
    """Base class of the middleware: handles HTTP requests and closes websockets, which this server does not use.

    Args:
        app: The wrapped app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, or the server's start and end."""
        if scope["type"] == "http":
            await self.handle(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        raise NotImplementedError


class ServedPaths(HttpMiddleware):
    """Answers 404 for every path that the page and the API do not need, such as Gradio's uploads and proxy."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        if scope["path"] in _SERVED or scope["path"].startswith(_SERVED_BELOW):
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"detail": "not found"}, status_code=404)(scope, receive, send)


class BodyLimit(HttpMiddleware):
    """Answers 413 for a body that is too large.

    Args:
        app: The wrapped app.
        max_bytes: Size of the largest body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        super().__init__(app)
        self._max_bytes = max_bytes

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        declared = Headers(scope=scope).get("content-length", "0")
        too_large = declared.isdigit() and int(declared) > self._max_bytes
        # Read the body here, because a request may omit its length.
        messages: deque[Message] = deque()
        size, more = 0, not too_large
        while more:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            too_large = size > self._max_bytes
            more = not too_large and message["type"] == "http.request" and message.get("more_body", False)
        if too_large:
            problem = {"detail": f"body: expected at most {self._max_bytes:,} bytes"}
            await JSONResponse(problem, status_code=413)(scope, receive, send)
            return

        async def replay() -> Message:
            return messages.popleft() if messages else await receive()

        await self._app(scope, replay, send)


class SameOrigin(HttpMiddleware):
    """Answers 403 to cross-origin requests, and removes CORS headers, such as Gradio's, from responses."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        # Only browsers send an origin; programs do not.
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            problem = {"detail": "cross-origin requests are not allowed"}
            await JSONResponse(problem, status_code=403)(scope, receive, send)
            return

        async def send_without_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                for name in [name for name in answered if name.lower().startswith("access-control-")]:
                    del answered[name]
            await send(message)

        await self._app(scope, receive, send_without_cors)


class SecurityHeaders(HttpMiddleware):
    """Adds :data:`SECURITY_HEADERS` to every response."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
