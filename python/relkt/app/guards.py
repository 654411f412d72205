"""What no request gets past: paths that are not served, large bodies, headers that keep a page to this server."""

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
    # The page's own scripts are inline and make functions of texts; what matters is that nothing leaves this server.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class ServedPaths:
    """Answers 404 for every path that the page and the API do not need, such as Gradio's uploads and proxy.

    Args:
        app: What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http" and not (scope["path"] in _SERVED or scope["path"].startswith(_SERVED_BELOW)):
            await JSONResponse({"detail": "there is nothing here"}, status_code=404)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class BodyLimit:
    """Answers 413 for a body that is too large.

    Args:
        app: What is behind it.
        max_bytes: The largest body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        too_large = declared.isdigit() and int(declared) > self._max_bytes
        # Read before anything else sees it: a body without a declared length counts, too.
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


class SameOrigin:
    """Answers 403 to what pages of other sites ask, and lets no header invite them, as Gradio's would.

    Args:
        app: What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin = headers.get("origin")
        # Programs send none; a browser says from which site a request comes.
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            await JSONResponse({"detail": "pages of other sites may not ask"}, status_code=403)(scope, receive, send)
            return

        async def send_without_invitation(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                for name in [name for name in answered if name.lower().startswith("access-control-")]:
                    del answered[name]
            await send(message)

        await self._app(scope, receive, send_without_invitation)


class SecurityHeaders:
    """Adds :data:`SECURITY_HEADERS` to every response.

    Args:
        app: What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
