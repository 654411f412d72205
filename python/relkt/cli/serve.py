"""``relkt serve``: its options, and the server's start; :mod:`relkt.app` does the work."""

from __future__ import annotations

import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from relkt.cli.checks import check_device
from relkt.cli.console import err, one_line_errors, print_warning
from relkt.cli.options import DeviceOption, MovedModelOption

_HOST = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")


def serve(
    index: Annotated[Path, typer.Argument(help="An index file written by `relkt index`.")],
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; 0.0.0.0 for all. By default, only this machine can connect."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free port.")] = 7860,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RELKT_TOKEN",
            help="Token that the page and the API require, at least 16 characters. Prefer the environment variable: "
            "other users of this machine can see the command line.",
        ),
    ] = None,
    example: Annotated[
        list[str] | None, typer.Option(help="Example question to show on the page. May be repeated.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of a `relkt train` or `relkt reproduce` run to show in a second tab.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name that clients may use, e.g. search.example.org or *.example.org. May be repeated. Default: "
            "only loopback names if --host is a loopback address, otherwise any name."
        ),
    ] = None,
    model: MovedModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Serve an index as a web page and a JSON API.

    The page takes a question in any language and shows the ranked passages, each with its best sentence. The API is
    described at `/docs` and `/openapi.json`. The server contacts no other host, except to load an encoder from the
    Hugging Face Hub.

    Example: `relkt serve wiki.relkt --example "¿Por qué flota el hielo?"`
    """
    with one_line_errors(options={"examples": "--example"}):
        if token == "" or (token is None and os.environ.get("RELKT_TOKEN") == ""):
            # An empty token is a mistake, not "no token".
            raise ValueError("--token, RELKT_TOKEN: expected at least 16 characters, got an empty text")
        for name in allowed_host or ():
            if not _HOST.fullmatch(name):
                raise ValueError(
                    "--allowed-host: expected a name such as search.example.org, *.example.org or 192.0.2.7, without "
                    f"scheme and port, got {name!r}"
                )
        check_device(device)
        _serve(index, host, port, token, tuple(example or ()), run, tuple(allowed_host or ()), model, device)


def _serve(
    index: Path,
    host: str,
    port: int,
    token: str | None,
    examples: tuple[str, ...],
    run: Path | None,
    allowed_hosts: tuple[str, ...],
    model: str | None,
    device: str | None,
) -> None:
    """Opens the index, loads its encoder, and serves until interrupted."""
    from relkt.app.server import LOOPBACK_NAMES, bind, create_app, is_loopback, run_server
    from relkt.app.service import SearchService
    from relkt.retrieval import Retriever

    is_local = is_loopback(host)
    shown = f"[{host}]" if ":" in host else host
    # Prevents DNS rebinding, in which another site points its host name to this machine to read the answers.
    names = [*LOOPBACK_NAMES, shown, *map(str.lower, allowed_hosts)]
    service = SearchService(Retriever.open(index, encoder=model, device=device))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Gradio's own deprecation warnings
        app = create_app(
            service,
            examples=examples,
            run=run,
            token=token,
            allowed_hosts=names if is_local or allowed_hosts else None,
        )
    listening = bind(host, port)
    with err.status("loading the encoder"):
        service.warm_up()
    if not is_local and not token:
        print_warning(
            "everyone who can reach this machine can read the index and ask questions; to require a token, set "
            "RELKT_TOKEN or give --token"
        )
    url = escape(f"http://{shown}:{listening.getsockname()[1]}")
    passages = escape(f"{len(service.retriever):,} passages of {service.name}")
    err.print(
        f"serving {passages} on [bold]{url}[/] (API: {url}/docs); press Ctrl-C to stop", highlight=False, soft_wrap=True
    )
    with suppress(KeyboardInterrupt):  # the usual end of a server
        run_server(app, listening, connections=service.limits.connections)
