"""The server: page, API and what guards them, in one app."""

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

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_DESCRIPTION = "Ask in any language; passages are ranked by meaning, exactly, by cosine."


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
        service: Answers the questions.
        examples: Questions to be asked by a click.
        run: The folder of a training run, shown in a second tab.
        token: What page and API need, if given: the API as ``Authorization: Bearer TOKEN``, the page by a login.
        allowed_hosts: Names and addresses (those of version 6 in brackets) by which browsers may call the server, so
            that no other site can have them ask it under a name of its own. Default: any.

    Raises:
        ValueError: If an example is blank or too long, ``run`` is no folder of a run, or ``token`` is short.
    """
    for example in examples:
        if not example.strip() or len(example) > service.limits.question_characters:
            raise ValueError(
                f"examples: expected questions of at most {service.limits.question_characters:,} characters, "
                f"got {example[:40]!r}"
            )
    folder = None if run is None else RunFolder(Path(run))
    access = None if token is None else Access(token)
    # For the description only: RequireAccess does the work, for every path.
    bearer = [Depends(HTTPBearer(auto_error=False, description="The token of the server."))] if access else []
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
    # The last one added is the first to see a request.
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
    """Whether only this machine reaches a server that is bound there.

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
        port: The port; 0 for any that is free.

    Raises:
        OSError: If it is taken, or not this machine's; says which.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error


def run_server(app: FastAPI, listening: socket.socket, *, connections: int) -> None:
    """Serve until interrupted.

    Args:
        app: What :func:`create_app` gave.
        listening: What :func:`bind` gave; closed at the end.
        connections: The most open connections.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        lifespan="on",
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        # For answers that are under way.
        timeout_graceful_shutdown=10,
    )
    with listening:
        uvicorn.Server(config).run(sockets=[listening])
