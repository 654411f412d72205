"""The server: page, API and middleware in one app."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.middleware.trustedhost import TrustedHostMiddleware

from relkt import __version__
from relkt.app.access import Access, RequireAccess, login_router
from relkt.app.api import api_router
from relkt.app.guards import BodyLimit, SameOrigin, SecurityHeaders, ServedPaths
from relkt.app.page import mount_page
from relkt.app.run_folder import RunFolder
from relkt.app.service import SearchService
from relkt.errors import ArgumentError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_DESCRIPTION = "Ask in any language. Passages are ranked by meaning: by cosine similarity, exactly."


def create_app(
    service: SearchService,
    *,
    examples: Sequence[str] = (),
    run: str | Path | None = None,
    token: str | None = None,
    allowed_hosts: Sequence[str] | None = None,
) -> FastAPI:
    """An ASGI app with the page at ``/``, the API at ``/api`` and its description at ``/docs`` and ``/openapi.json``.

    Args:
        service: The service that answers questions.
        examples: Example questions, shown as buttons.
        run: Folder of a training run to show in a second tab.
        token: Required token: programs send it as ``Authorization: Bearer TOKEN``, people log in with it. Default:
            none.
        allowed_hosts: Host names and addresses (IPv6 in brackets) that clients may use; the list prevents DNS
            rebinding. Default: any.

    Raises:
        ArgumentError: If an example is blank or too long, ``run`` is not a run folder, or ``token`` is too short.
    """
    for example in examples:
        if not example.strip() or len(example) > service.limits.question_characters:
            expected = f"questions of at most {service.limits.question_characters:,} characters"
            raise ArgumentError("examples", expected, repr(example[:40]))
    folder = None if run is None else RunFolder(Path(run))
    access = None if token is None else Access(token)
    # This dependency only mentions the token in the API's description. RequireAccess checks the token, on every path.
    bearer = [Depends(HTTPBearer(auto_error=False, description="The server's token."))] if access else []
    app = FastAPIOffline(
        title=f"{service.name}: relkt",
        description=_DESCRIPTION,
        version=__version__,
        redoc_url=None,
        dependencies=bearer,
        swagger_ui_parameters={"validatorUrl": None},
    )
    app.include_router(api_router(service, folder))
    if access is not None:
        app.include_router(login_router(access))
    mount_page(app, service, examples=examples, run=folder, has_login=access is not None)
    # The last middleware added sees a request first.
    app.add_middleware(BodyLimit, max_bytes=service.limits.body_bytes)
    if access is not None:
        app.add_middleware(RequireAccess, access=access)
    app.add_middleware(ServedPaths)
    app.add_middleware(SameOrigin)
    if allowed_hosts is not None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts), www_redirect=False)
    app.add_middleware(SecurityHeaders)
    return app


def is_loopback(host: str) -> bool:
    """True if an address is reachable only from this machine.

    Args:
        host: An address or a name.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        host: An address or a name.
        port: The port; 0 for any free port.

    Raises:
        OSError: If the port is in use, or the address does not belong to this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error


def run_server(app: FastAPI, listening: socket.socket, *, connections: int) -> None:
    """Serve until interrupted.

    Args:
        app: The app from :func:`create_app`.
        listening: The socket from :func:`bind`; closed at the end.
        connections: Largest number of open connections.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        lifespan="on",
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_graceful_shutdown=10,  # lets running requests finish
    )
    with listening:
        uvicorn.Server(config).run(sockets=[listening])
